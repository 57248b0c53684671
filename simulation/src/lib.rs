//! The whole system as a deterministic model, attacked by every fault it must bear.
//!
//! ```text
//!   seed ─► generate ─► Event ─► World::apply ─► rules checked ─► … ─► heal ─► liveness
//!                                   │                │
//!            operators: the real failover::step       └─► first broken rule ─► shrink ─► replay file
//!            agents, MySQL, API server, network: models of what this project's code and MySQL do
//! ```
//!
//! The engine under test is the real one; everything around it is modelled: [`machine`] and the agent's commands
//! statement by statement, MySQL as it was measured, an API server with truthful compare-and-swap and stale caches,
//! links that lose, delay, repeat and reorder. Each event is data, so a run replays without a random number.
//! The crate does no I/O, reads no clock, and never looks into the engine.

mod agent;
pub mod apiserver;
pub mod bits;
mod clone;
pub mod event;
pub mod generate;
pub mod guard;
mod heal;
pub mod invariant;
mod ledger;
pub mod machine;
pub mod mutant;
mod mysql;
mod operator;
pub mod run;
pub mod search;
mod session;
mod spoil;
pub mod statement;
pub mod world;

pub use event::Event;
pub use invariant::{Invariant, Violation};
pub use mutant::Mutant;
pub use statement::Statement;
pub use world::World;
