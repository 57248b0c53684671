//! Rows that come as a stream, and their way into a table: one record and one chunk in memory at a time.

mod body;
mod insert;
mod lines;
mod reader;
mod record;

pub use body::Incoming;
pub use insert::{Chunk, Insert, OnConflict, add, merged};
#[cfg(test)]
pub use lines::{Lines, Step as LineStep};
pub use reader::{PATIENCE, Reader, Row};

use crate::sql::Value;

/// Values of one row, each with its column's place in the table.
pub type Cells = Vec<(usize, Value)>;
