//! The one place that talks to MySQL: a pool for each role over the server's socket, transactions, rows.
//!
//! Each role logs in with its own account, so MySQL's grants bound what a request can do even where this crate
//! erred. A change runs inside an explicit transaction: until `COMMIT` was sent, a broken connection proves that
//! nothing was changed; from then on the outcome is unknown until the server answered.

pub(crate) mod binlog;
mod cell;
mod error;
mod pools;
mod rows;
mod stream;
mod transaction;

pub use cell::Cell;
pub use error::DUPLICATE;
pub use pools::{Pools, Settings, sweep};
pub use rows::{Column, Rows};
pub use stream::{Out, stream};
pub use transaction::{Done, Transaction};
