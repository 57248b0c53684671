//! Decides who leads a replicated MySQL: from what was observed to what is to be done, and why.
//!
//! ```text
//!   Record (durable, in the resource's status)  ─┐
//!   Observed (nodes' reports, pods, requests)   ─┼─►  step()  ─►  Plan     what to do now, as data
//!   State (volatile memory of this leader)      ─┤              Report   what was chosen, rejected, awaited
//!   Policy, now                                 ─┘              State
//! ```
//!
//! The crate reads no clock, draws no random number, does no I/O and knows neither Kubernetes nor MySQL's
//! protocol; its dependency list shows it. The caller observes, calls [`step`] whenever something changed,
//! carries out the plan without choices of its own, and calls again. The plan is level-triggered: an action is
//! repeated until the observation shows its effect, so a lost reply costs nothing but time.
//!
//! Invariants, each kept by the module named:
//! 1. A change of master has a term, recorded by compare-and-swap before its first command ([`step`]).
//! 2. Promotion in term T needs fences confirmed in T by so many nodes that the old master can get no further
//!    write acknowledged ([`quorum`]). A master that only rests needs its own ([`rest`]).
//! 3. The promoted node holds all that N − W fenced members received or executed, its own included, and has
//!    executed it: that is every acknowledged write ([`elect`]).
//! 4. A term has at most one candidate, and the role label leaves every pod before one gets it ([`step`]).
//! 5. A healthy master is left alone, and without a quorum nothing is done ([`evidence`], [`quorum`]).
//! 6. A node joins the new master only with a set that the master's contains; what a killed master has beyond that is
//!    cut off while its server is down, else the node is cloned ([`rejoin`]).
//! 7. A master that hears neither the leading operator nor enough slaves closes itself. This is the one decision that
//!    the node takes, and it takes it with the same crate ([`guard`]).

mod change;
mod commanded;
pub mod elect;
pub mod evidence;
mod force;
pub mod gtid;
pub mod guard;
pub mod ids;
mod install;
pub mod observed;
pub mod plan;
pub mod quorum;
pub mod record;
pub mod rejoin;
mod resize;
mod rest;
mod step;

pub use gtid::GtidSet;
pub use ids::{Millis, NodeId, Term, VolumeId};
pub use observed::{
    Applier, Asked, Followed, Force, NodeReport, NodeView, Observed, Pod, Receiver, Role, Server,
    ServerState, Service, Session, Switchover, Tail,
};
pub use plan::{Action, Decision, LastResort, Plan, Report, Wish};
pub use record::{Cause, Change, Forced, Intent, Kind, Record, STEPS};
pub use step::{Progress, State, step};

/// What the user decided about failing over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether a dead master is replaced without being asked.
    pub automatic: bool,
    /// Whether the database rests: no change of master, no clone, no change of size, asked for or not.
    pub paused: bool,
    /// What happens to acknowledgements while slaves are missing.
    pub durability: Durability,
    /// How long a node may be silent before it counts as unreachable, in milliseconds.
    pub detect_after: Millis,
    /// How long the old master may take to hand over before its connections are dropped, in milliseconds.
    pub switchover_deadline: Millis,
    /// How many nodes the resource asks for.
    pub nodes: u32,
    /// An empty node executes so many transactions of the master at most from its logs; it is cloned where there are
    /// more, which takes a fraction of the time.
    pub replay: u64,
    /// What happens to a node with transactions that the master lacks.
    pub errant: ErrantPolicy,
}

/// What happens to acknowledgements while slaves are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A write waits for ⌊N/2⌋ slaves, however long that takes.
    Strict,
    /// A write waits for as many of them as can be had; a failover then needs more nodes.
    Available,
}

impl Policy {
    /// Whether a master may be replaced by another node without being asked.
    pub fn fails_over(&self) -> bool {
        self.automatic && !self.paused
    }
}

/// What happens to a node that holds transactions which the master lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrantPolicy {
    /// It is cloned again from a node in good standing.
    Repair,
    /// It is held as it is, for a person to look at.
    Quarantine,
}
