//! The change feed: committed changes of rows as they happen, from the binary log of the master.
//!
//! ```text
//!   mysql::binlog ──event──► feed ──row, commit──► tell ──► client
//!                             │ ▲
//!              is it committed? └─ gate (what the server has executed)
//! ```
//!
//! The log is sent before slaves acknowledge it. So no transaction is looked into before the server has executed it:
//! one that is lost with its master was never shown.

mod feed;
pub mod follow;
mod gate;
mod position;
mod shown;
mod tell;
mod wanted;

pub use gate::Feeds;
