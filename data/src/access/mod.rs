//! Who asks, and what they may do.

mod account;
mod role;
mod roles;
mod token;

pub use account::{Accounts, is_signed};
pub use role::Role;
pub use roles::{Account, Grants, Roles};
pub use token::{Caller, Tokens, Verdict, hash};
