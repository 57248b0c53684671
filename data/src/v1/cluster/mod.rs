//! The database as a whole.

pub mod position;
