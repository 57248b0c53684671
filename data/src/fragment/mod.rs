//! Fragments of MySQL that users write: a value list, assignments, a condition, a column list.
//!
//! A fragment is parsed whole, and then written anew from what was understood: only known forms, every literal as a
//! bound value, every name quoted. No text of the fragment reaches MySQL. Comments, sub-selects, variables, further
//! statements and unknown functions are refused, with the position where they stand.

mod condition;
mod definition;
mod expression;
mod reader;
mod schema;
mod statement;

pub use condition::{assignments, condition, values};
pub use definition::{Definition, definition};
pub use schema::{Schema, columns, plain_type, schema};
pub use statement::{Understood, statement};
