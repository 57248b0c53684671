//! `kubectl ddb`: what a person wants to know of a `DistributedDatabase`, and what to ask of it.
//!
//! ```text
//!   arguments ─► connect ─► fetch (reads the cluster)  ─► Facts ─► view (pure: facts to text and JSON) ─► stdout
//!                       └─► commands (one file each)
//! ```
//!
//! It talks to the API server only, so it works with every pod down and without an operator; what it cannot read
//! it calls unknown. It changes nothing but annotations of the database and its pods, `spec.paused`, and the Secret of
//! its tokens.

pub mod arguments;
pub mod clock;
pub mod commands;
pub mod connect;
pub mod fetch;
pub mod logs;
pub mod view;
