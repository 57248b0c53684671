//! `kubectl ddb`: what a person wants to know of a `DistributedDatabase`, and the one thing to ask of it.
//!
//! ```text
//!   arguments ─► connect ─► fetch (reads the cluster)  ─► Facts ─► view (pure: facts to text and JSON) ─► stdout
//!                       └─► commands (one file each; the only writer is `switchover`, one annotation)
//! ```
//!
//! It talks to the API server only, so it works with every pod down and without an operator; what it cannot read
//! it calls unknown. It must never change anything but the annotation that asks for a switchover.

pub mod arguments;
pub mod clock;
pub mod commands;
pub mod connect;
pub mod fetch;
pub mod logs;
pub mod view;
