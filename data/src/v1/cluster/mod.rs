//! The database as a whole.

pub mod node;
pub mod position;
pub mod read;
