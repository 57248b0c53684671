//! Audit records.

pub mod list;
