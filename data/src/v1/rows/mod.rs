//! Rows.

pub mod change;
pub mod change_many;
mod filter;
pub mod insert;
mod key;
pub mod list;
pub mod put;
pub mod read;
pub mod remove;
pub mod remove_many;
mod representation;

#[cfg(test)]
pub use filter::tests::of_a_test_table as filters_of_a_test_table;
