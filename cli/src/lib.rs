//! `kubectl ddb`: what a person wants to know of a `DistributedDatabase`, and what to ask of it.
//!
//! ```text
//!   arguments ─► connect ─► fetch (reads the cluster)  ─► Facts ─► view (pure: facts to text and JSON) ─► stdout
//!                       └─► commands (one file each; those that write do so by annotation)
//! ```
//!
//! It talks to the API server only, so it works with every pod down and without an operator; what it cannot read
//! it calls unknown. It changes nothing but annotations and `spec.paused` of the database, and the Secret of its tokens.

pub mod arguments;
pub mod clock;
pub mod commands;
pub mod connect;
pub mod fetch;
pub mod logs;
pub mod view;
