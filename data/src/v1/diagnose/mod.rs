//! The connection check.

pub mod check;
