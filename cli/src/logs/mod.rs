//! Lines of logs, without I/O: [`line`] reads and renders one, [`merge`] brings lines of several parts in order.

pub mod line;
pub mod merge;
