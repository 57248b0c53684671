//! Lets requests in, and carries each to where it belongs: here, or to the master's node.

mod admit;
mod carry;
mod freshness;
mod peers;

pub use admit::Content;
pub use carry::{Place, carry};
pub use peers::Peers;
