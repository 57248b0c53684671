//! Forms of statements.

pub mod list;
