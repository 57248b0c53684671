//! Whole tables as streams.

pub mod table;
