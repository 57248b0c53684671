//! Tests, demonstration and benchmarks on a real cluster: what they share.
//!
//! ```text
//!  world      a client, a namespace, a dump when something fails        install    the operator's chart
//!  database   one DistributedDatabase: apply, wait, who is master       faults     kill, stop, delete
//!  writer     clients that write and remember what was acknowledged     reader     clients of the slaves
//!  storm      a fault under load, all of the above together
//!  chaos      the long run: random faults, its history recorded, judged by the crate history
//!  watcher    every label change of every pod, in the server's order    proof      is it there, on every node?
//!  curl       a client of the data API, with nothing but curl           inside     into a node's pod, from its machine
//!  https      a client of the data API that keeps its connection         api_writer clients of it that write with keys
//!  pinned     a client in each node's own pod, for that node alone       terms      the term each node has stored
//!  ordeal     a storm with all three, and what must hold                  catalogue  every fault the system must bear
//! ```
//!
//! Everything here is a client: nothing uses the operator's code, only the resource's types and names. What is claimed
//! about the system is measured from outside, as a user would see it. Programs of this crate must run where Service
//! and pod addresses are reachable; `cargo xtask` sees to that.

pub mod api_writer;
pub mod bench;
pub mod busy;
pub mod catalogue;
pub mod chaos;
pub mod clock;
pub mod curl;
pub mod database;
pub mod demo;
pub mod dump;
pub mod facts;
pub mod faults;
pub mod feed;
pub mod https;
pub mod inside;
pub mod install;
pub mod keyed;
pub mod ledger;
pub mod machines;
pub mod ordeal;
pub mod pinned;
pub mod proof;
pub mod reader;
pub mod rejoin;
pub mod scale;
pub mod screen;
pub mod settings;
pub mod sql;
pub mod steady;
pub mod storm;
pub mod terms;
pub mod tools;
pub mod wait;
pub mod watcher;
pub mod world;
pub mod writer;

pub use history::gaps;
