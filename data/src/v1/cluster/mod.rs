//! The database as a whole.

pub mod beat;
pub mod events;
pub mod failovers;
pub mod node;
pub mod position;
pub mod read;
pub mod steer;
