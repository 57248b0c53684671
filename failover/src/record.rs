//! What is remembered durably: who leads, in which term, and what was begun. Kept in the resource's status and
//! changed only by compare-and-swap, so that two operators can never both own a term.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{GtidSet, Millis, NodeId, Term, VolumeId};

/// The durable truth about a database's leadership.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The newest term.
    #[serde(default)]
    pub term: Term,
    /// The node that leads in `term`; none before the first promotion and while a change is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<NodeId>,
    /// The change of master that `term` was taken for, until it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// N of the fence quorum: how many nodes may acknowledge writes.
    #[serde(default)]
    pub size: u32,
    /// W of the fence quorum: how many slaves the master surely waits for before it acknowledges a write.
    #[serde(default)]
    pub acks: u32,
    /// The nodes whose data is known to hold every write acknowledged before they were entered here, with the
    /// life of the volume for which that is true. Only these count towards a fence quorum.
    #[serde(default)]
    pub members: BTreeMap<NodeId, VolumeId>,
    /// The newest promotion that was forced without a quorum, until every node has been judged since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
}

/// A promotion without a quorum: what only the nodes hold that were not asked was given up by a person.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forced {
    /// Its term.
    pub term: Term,
    /// The members that may still hold acknowledged writes which the forced master lacks. What such a node has beyond
    /// the master's set is never cut off as unacknowledged. A node leaves the list once it follows.
    pub unjudged: BTreeSet<NodeId>,
}

/// A change of master that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// What kind of change.
    pub kind: Kind,
    /// Why.
    pub cause: Cause,
    /// The master before; none for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<NodeId>,
    /// The node that was asked for; none where the engine chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeId>,
}

/// The kinds of change of master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// The first master of a new database.
    Bootstrap,
    /// The master is lost.
    Failover,
    /// The master lives and hands over in order.
    Switchover,
    /// Too few nodes answer for a failover, and a person named the node that is to lead all the same.
    Forced,
    /// The master closes while another node copies it, and leads again.
    Rest,
}

/// Why the master changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cause {
    /// The database is new.
    NewDatabase,
    /// The master's mysqld ended or lost its role.
    ServerDied,
    /// The master's mysqld is alive but answers nothing, or its volume takes no writes.
    ServerHung,
    /// The master's pod object is gone.
    PodDeleted,
    /// The master's pod is being shut down in order.
    PodStopping,
    /// Neither the operator nor the slaves reach the master.
    Unreachable,
    /// Somebody asked for it.
    Requested,
    /// An earlier change of master was interrupted.
    Interrupted,
    /// Commits wait for nodes that have to copy the master first, and hold the copy up.
    CommitsWait,
}

impl Cause {
    /// The cause as the end of a sentence that begins with "the master changes because".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NewDatabase => "the database is new",
            Self::ServerDied => "the master's mysqld died",
            Self::ServerHung => "the master's mysqld answers nothing, or its volume takes no writes",
            Self::PodDeleted => "the master's pod was deleted",
            Self::PodStopping => "the master's pod is shutting down",
            Self::Unreachable => "neither the operator nor the slaves reach the master",
            Self::Requested => "it was asked for",
            Self::Interrupted => "an earlier change of master was interrupted",
            Self::CommitsWait => "its commits wait for nodes that must copy it first, and hold the copy up",
        }
    }
}

/// The steps of a change of master, in the order in which they are told where several end in the same millisecond.
pub const STEPS: [&str; 6] = ["recorded", "fenced", "drained", "promoted", "led", "routed"];

/// A completed change of master, for status and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The term it was made in.
    pub term: Term,
    /// What was begun.
    pub intent: Intent,
    /// The new master.
    pub master: NodeId,
    /// Milliseconds from the first evidence to the end of each step, in their order: `recorded`, `fenced`,
    /// `drained`, `promoted`, `led` (clients, by the Service), `routed` (the label).
    pub steps: BTreeMap<String, Millis>,
    /// Milliseconds from the first evidence to the end of the last step.
    pub total: Millis,
    /// After a forced promotion: what it may have given up, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_be_lost: Option<String>,
    /// What was kept: the new master had executed all of this before it was promoted, and after the fence nothing beyond
    /// it could be acknowledged any more.
    #[serde(default, skip_serializing_if = "GtidSet::is_empty")]
    pub kept: GtidSet,
}

impl Change {
    /// The steps by the moments of their ends, in milliseconds from the first evidence; names that are not known come last.
    pub fn steps_in_order(&self) -> Vec<(&str, Millis)> {
        in_order(&self.steps)
    }
}

fn in_order(steps: &BTreeMap<String, Millis>) -> Vec<(&str, Millis)> {
    let place = |step: &str| {
        STEPS
            .iter()
            .position(|known| *known == step)
            .unwrap_or(STEPS.len())
    };
    let mut steps: Vec<_> = steps.iter().map(|(step, at)| (step.as_str(), *at)).collect();
    steps.sort_by_key(|(step, at)| (*at, place(step)));
    steps
}

impl Intent {
    /// True where a master that came back is to lead again and no other node may: nobody fails over without being
    /// asked.
    pub fn is_return(&self) -> bool {
        self.kind == Kind::Failover && self.from.is_some() && self.from == self.to
    }
}

impl Record {
    /// How many members must be fenced so that no further write can be acknowledged by an old master: N − W.
    pub fn fence_quorum(&self) -> usize {
        self.size.saturating_sub(self.acks) as usize
    }
}

/// How many slaves must hold a write before it is acknowledged, in a database of `nodes` nodes: ⌊N/2⌋.
pub fn acks_for(nodes: u32) -> u32 {
    nodes / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_took_no_time_comes_after_the_one_before_it() {
        let steps = [("drained", 25), ("fenced", 25), ("later", 25), ("recorded", 8)];
        let steps = steps.map(|(step, at)| (step.to_owned(), at)).into();
        let expected = [("recorded", 8), ("fenced", 25), ("drained", 25), ("later", 25)];
        assert_eq!(in_order(&steps), expected);
    }
}
