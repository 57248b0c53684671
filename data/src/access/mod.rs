//! Who asks, and what they may do.

mod role;
mod token;

pub use role::Role;
pub use token::{Caller, Tokens, Verdict, hash};
