//! Lets requests in, and carries each to where it belongs: here, or to the master's node.

mod admit;
mod carry;
mod freshness;
mod others;
mod peers;
mod quota;

pub use admit::{Content, KEY, REQUEST_ID};
pub use carry::{Place, carry};
pub use peers::Peers;
pub use quota::{Quotas, Standing};
