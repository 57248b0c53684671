//! The one SQL builder. Every statement that the API makes is put together here from quoted identifiers and bound
//! values; no text of a request reaches MySQL in any other way.

mod name;
mod statement;
pub mod value;

pub use name::{Name, is_system};
pub use statement::{Sql, literal};
pub use value::Value;
