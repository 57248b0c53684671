//! Rows that come as a stream, and their way into a table: one record and one chunk in memory at a time.

mod body;
mod insert;
mod lines;
mod objects;
mod reader;
mod record;

pub use body::Incoming;
pub use insert::{Chunk, Insert, OnConflict, TURN, add};
#[cfg(test)]
pub use lines::{Lines, Step as LineStep};
pub use objects::Objects;
pub use reader::{PATIENCE, Reader, Row};

use crate::{problem::Problem, sql::Value};

/// Values of one row, each with its column's place in the table.
pub type Cells = Vec<(usize, Value)>;

/// Rows as they are needed, or why one of them is none.
type Rows<'r> = Box<dyn Iterator<Item = Result<Cells, Problem>> + Send + 'r>;
