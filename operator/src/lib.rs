//! The operator's parts. `reconcile` builds what a resource asks for; [`cluster`] leads each database by the pure
//! crate `failover`; [`handoff`] is all that either knows of the other.
//!
//! ```text
//!   API server ──► reconcile ──handoff──► cluster/task ──► failover::step ──► executor ──► API server, nodes
//!        └──────► snapshot (pods, slices) ──────┘ ▲                                           │
//!   nodes ◄─────► sessions ───────────────────────┴───────────────────────────────────────────┘
//! ```

pub mod clock;
pub mod cluster;
pub mod events;
pub mod executor;
pub mod handoff;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod pki;
pub mod reconcile;
pub mod run;
pub mod sessions;
pub mod settings;
pub mod snapshot;
pub mod status;
pub mod watching;
