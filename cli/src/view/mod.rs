//! From facts to what is shown: pure. [`model`] is the whole answer as data, which is also the JSON output; the
//! other modules judge ([`verdict`], [`warnings`]) or write text. Nothing here reads a clock or a cluster.

pub mod changes;
pub mod explain;
pub mod history;
pub mod kept;
pub mod list;
pub mod model;
pub mod nodes;
pub mod routing;
pub mod status;
pub mod table;
pub mod verdict;
pub mod warnings;
pub mod words;

#[cfg(test)]
pub mod example;
#[cfg(test)]
mod tests;

pub use model::View;
