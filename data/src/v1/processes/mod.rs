//! Connections to MySQL.

pub mod list;
pub mod remove;
