//! The supervisor of the MySQL container, and the protocol on its socket.
//!
//! It prepares the data directory, starts mysqld, notices its end at once, starts it again, and decides alone
//! which signal mysqld gets. It must not decide anything about replication or roles: it only obeys the node agent
//! of its pod, which speaks one JSON object a line over a Unix socket. Every server it starts boots fenced by its
//! configuration, so a restart is always safe.
//!
//! ```text
//!   signals ──┐
//!   socket  ──┼──► one channel ──► server::Server (state machine, one thread) ──► mysqld, State to all watchers
//!   timers  ──┘
//! ```

pub mod binlog;
pub mod claim;
pub mod clock;
pub mod control;
pub mod copied;
pub mod death;
pub mod hold;
pub mod install;
pub mod log;
pub mod prepare;
pub mod protocol;
pub mod relay;
pub mod sabotage;
pub mod server;
pub mod server_id;

pub use protocol::{Reply, Request, State};

/// The statements that every new data directory starts with; a template is used only where it was made with
/// exactly these.
pub const INIT_SQL: &str = include_str!("init.sql");
