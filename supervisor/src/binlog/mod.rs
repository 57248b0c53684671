//! As much of MySQL's binary log format as supervisor and node agent need: where an event ends and what it is.

pub mod event;
pub mod query;

/// How a log begins.
pub const MAGIC: [u8; 4] = *b"\xfebin";
/// How an encrypted log begins.
pub const ENCRYPTED: [u8; 4] = *b"\xfdbin";
