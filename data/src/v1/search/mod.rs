//! Search across tables and databases.

pub mod find;
