//! Lets requests in, and carries each to where it belongs: here, or to the master's node.

mod admit;
mod carry;
mod freshness;
mod others;
mod peers;
mod place;
mod quota;

pub use admit::{Content, KEY, REQUEST_ID, caller};
pub use carry::carry;
pub use peers::{Errand, Peers};
pub use place::Place;
pub use quota::{Pass, Quotas, Standing};
