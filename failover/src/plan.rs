//! What is to be done, as data, and why. The executor carries a plan out and makes no choice of its own.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{GtidSet, Millis, NodeId, Record, Term, record::Change};

/// Actions that may all be carried out at the same time.
pub type Plan = Vec<Action>;

/// One thing to do. Each is idempotent, and asked for again until the observation shows its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the record by compare-and-swap. Nothing else is in a plan with a new term.
    Record {
        /// The record to write.
        record: Record,
        /// The change of master that this record completes, for status and an event.
        completes: Option<Change>,
    },
    /// Stamp the pod with `term` and take `role=master` from it in the same conditional write.
    Unlabel {
        /// The pod.
        node: NodeId,
        /// The stamp.
        term: Term,
    },
    /// Have the node acknowledge nothing any more: no receiver on a slave; no clients and no writes on a master,
    /// by force where it does not obey.
    Fence {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
        /// The master hands over in order: what waits for an acknowledgement may finish first.
        orderly: bool,
    },
    /// Have the node execute all that it received.
    Drain {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
    },
    /// Make the node the master of `term`.
    Promote {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
        /// How many slaves it must wait for before it acknowledges a write.
        acks: u32,
        /// What it must hold and have executed; it refuses otherwise.
        requires: GtidSet,
    },
    /// Lead the master's Service to nobody, unless a newer term has led it already: the node becomes master with
    /// transactions that too few others hold, and nobody may see them yet.
    Withdraw {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
    },
    /// Lead the master's Service to the node, unless a newer term has led it already. What people see, the labels,
    /// may follow a moment later; clients need not wait for them.
    Lead {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
    },
    /// Put `role=master` on the node's pod, only while its stamp is `term` and once the Service leads to it.
    Route {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
    },
    /// Have the node replicate from the master.
    Follow {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
        /// The master.
        source: NodeId,
        /// The master's address.
        address: String,
        /// What it has to execute before it counts as caught up.
        until: GtidSet,
        /// Its data is that of the recorded member. Other data must also have all that the master has executed by the
        /// time the node follows: what the node acknowledged on a volume that is gone may be newer than `until`.
        whole: bool,
    },
    /// Have the node, whose mysqld is kept down, cut off the end of its binary log and start.
    Cut {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
        /// What must not be cut: everything the master of the term has. It includes all that was ever acknowledged.
        keep: GtidSet,
    },
    /// Have the node throw its data away and copy another's.
    Clone {
        /// The node whose data is replaced.
        node: NodeId,
        /// The term.
        term: Term,
        /// The node that is copied.
        donor: NodeId,
        /// The donor's address.
        address: String,
        /// What of the node's own data is given up. All else that it holds the donor must have executed.
        extra: GtidSet,
        /// Why its own data is of no use.
        reason: String,
    },
    /// Have the node, whose mysqld cannot run on its data, throw it away and begin with none.
    Discard {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
        /// How mysqld ends on it.
        reason: String,
    },
    /// Have a master's agent that was told to stop leave without being relieved: only the agent is restarted.
    Release {
        /// The node.
        node: NodeId,
        /// The term.
        term: Term,
    },
    /// Tell whoever asked for something what came of it, and forget the wish.
    Answer {
        /// What was asked for.
        wish: Wish,
        /// The wish was carried out.
        done: bool,
        /// What happened, in a sentence.
        message: String,
    },
}

/// What people ask for once and get an answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Another master, in order.
    Promote,
    /// A master without a quorum.
    Force,
    /// A node cloned again.
    Resync,
}

/// What a person can still do where nothing can be done safely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastResort {
    /// The node that answers and holds most; none where no node could lead even by force.
    pub candidate: Option<NodeId>,
    /// The term that has to be typed.
    pub term: Term,
    /// Who is missing, each with the reason.
    pub missing: BTreeMap<NodeId, String>,
}

impl Action {
    /// The node that carries the action out, where it is a node's command.
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Record { .. } | Self::Answer { .. } => None,
            Self::Unlabel { node, .. }
            | Self::Fence { node, .. }
            | Self::Drain { node, .. }
            | Self::Promote { node, .. }
            | Self::Withdraw { node, .. }
            | Self::Lead { node, .. }
            | Self::Route { node, .. }
            | Self::Follow { node, .. }
            | Self::Cut { node, .. }
            | Self::Clone { node, .. }
            | Self::Discard { node, .. }
            | Self::Release { node, .. } => Some(node),
        }
    }
}

/// What the engine makes of the situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Decision {
    /// Nothing is to be decided: the master leads.
    Steady,
    /// A change of master is under way.
    Changing,
    /// A change of master is needed and cannot be made safely.
    Blocked,
    /// The first master waits for its nodes.
    Starting,
}

/// Why the plan is what it is; shown in status and by `explain`. It also says why nothing happens.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The verdict.
    pub decision: Decision,
    /// The node that was chosen to lead, with the reason.
    pub chosen: Option<(NodeId, String)>,
    /// Nodes that were not chosen, each with the reason.
    pub rejected: BTreeMap<NodeId, String>,
    /// What is waited for, in sentences.
    pub waiting_for: Vec<String>,
    /// What a person should know though nothing is done about it, in sentences.
    pub notes: Vec<String>,
    /// Milliseconds since the first evidence of the change under way.
    pub running_ms: Option<Millis>,
    /// What could be forced, where a change of master is needed and too few nodes answer.
    pub last_resort: Option<LastResort>,
}

impl Report {
    /// A report with nothing in it but the verdict.
    pub fn of(decision: Decision) -> Self {
        Self {
            decision,
            chosen: None,
            rejected: BTreeMap::new(),
            waiting_for: Vec::new(),
            notes: Vec::new(),
            running_ms: None,
            last_resort: None,
        }
    }
}
