//! The contracts between the parts: the `DistributedDatabase` resource that users write, the names of what is
//! built from it, and the messages between operator and node agent.

pub mod kept;
pub mod mycnf;
pub mod names;
pub mod quantity;
pub mod resource;
mod validate;
pub mod wire;

pub use resource::{DistributedDatabase, DistributedDatabaseSpec, DistributedDatabaseStatus};
