//! Statements as they are.

pub mod run;
