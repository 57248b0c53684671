//! Several changes, all or nothing.

pub mod run;
