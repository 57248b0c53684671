//! The rules that must hold after every event, each with its name, and the observer's checks of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    bits::{Bits, Txn},
    event::Node,
    ledger::index,
    machine::{Machine, name, volume_text},
    world::World,
};

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Invariant {
    /// Every acknowledged write is in the set of a master that is opened, and in the end in every node.
    AcknowledgedWritesSurvive,
    /// Once a newer term has a master, nothing is acknowledged in an older one that this master lacks; a term has one
    /// master.
    NoDoubleAcknowledgement,
    /// N − W members confirmed their fence in the term before a node is promoted in it.
    FenceQuorumBeforePromotion,
    /// A fenced node acknowledges and accepts nothing, also after restarts, and does not forget that it is fenced.
    FenceStays,
    /// Terms only rise: in the record and on each node.
    TermsOnlyRise,
    /// A write is acknowledged only when W slaves hold it.
    NoReleaseOfUnacknowledged,
    /// A row that could be read at an open master is there at the next one.
    NoPhantomRead,
    /// A node holds everything that came before what it holds.
    PrefixWithoutHoles,
    /// The last copy of an acknowledged write is never overwritten.
    LastCopyKept,
    /// Nothing that was acknowledged is cut off the log of a killed master.
    OnlyUnacknowledgedCut,
    /// A node with an empty volume never leads a database that has data.
    EmptyIsNotNew,
    /// A node is made to follow only with a set that its master contains.
    ExactRejoin,
    /// One pod at most carries the label `role=master`.
    OneMasterLabel,
    /// A promotion without a quorum only of the node and after the term that a person typed, and only once all that
    /// answer are fenced.
    ForcedAsTyped,
    /// A master that hears neither an operator nor enough slaves for the guard time drops its clients.
    IsolatedMasterCloses,
    /// A master that hears an operator or enough slaves, and of no higher term, is not closed by its guard.
    HealthyMasterStaysOpen,
    /// A master that closed itself opens only while no higher term has a master, or where an operator names it.
    ClosedUntilConfirmed,
    /// After all faults are healed the database can be written again within a bound.
    WritableAgain,
    /// After all faults are healed every node becomes ready, with the same set.
    AllReadyAndEqual,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub what: String,
}

impl fmt::Display for Invariant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

impl World {
    /// Notes the first broken rule.
    pub(crate) fn require(&mut self, holds: bool, invariant: Invariant, what: impl FnOnce(&Self) -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation {
                invariant,
                what: what(self),
            });
        }
    }

    /// A client was told that `txn` is committed on `node`.
    pub(crate) fn on_acknowledged(&mut self, node: Node, txn: Txn) {
        let term = self.machines[node]
            .disk
            .memory
            .promoted
            .as_ref()
            .map_or(0, |it| it.term);
        if term < self.ledger.given_up {
            // A person gave this term up while nobody could end it; that is the price of force.
            return;
        }
        let opened = self.ledger.opened;
        // An acknowledgement that was sent before the fence can arrive at any time; what it is for was fenced with its
        // sender, so that the new master has it.
        let taken_over = self.ledger.opened_with.has(txn);
        self.require(
            term >= opened || taken_over,
            Invariant::NoDoubleAcknowledgement,
            |_| {
                format!("db-{node} acknowledges {txn} in term {term} though term {opened} has an open master")
            },
        );
        // A volume may be lost after it acknowledged; that is what the other copies are for.
        let holders = self.ledger.get(txn).reached.count_ones() as usize;
        let wanted = self.ledger.records.get(&term).map_or(0, |record| record.acks);
        self.require(holders >= wanted, Invariant::NoReleaseOfUnacknowledged, |_| {
            format!("db-{node} acknowledges {txn}, which {holders} other nodes hold, and {wanted} must")
        });
        self.ledger.acknowledged.insert(txn);
        self.ledger.told = self.ledger.told.max(term);
    }

    /// How many nodes but `except` hold `txn` on their disks.
    pub(crate) fn holders(&self, txn: Txn, except: Node) -> usize {
        let holds = |machine: &Machine| machine.disk.log.has(txn) || machine.disk.relay.contains(&txn);
        self.machines
            .iter()
            .enumerate()
            .filter(|(node, machine)| *node != except && holds(machine))
            .count()
    }

    /// The promotion record of `node` became durable.
    pub(crate) fn on_promoted(&mut self, node: Node, term: u64) {
        let first = *self.ledger.promoted.entry(term).or_insert(node);
        self.require(first == node, Invariant::NoDoubleAcknowledgement, |_| {
            format!("db-{first} and db-{node} are both promoted in term {term}")
        });
        let Some(record) = self.ledger.records.get(&term).cloned() else {
            return self.require(false, Invariant::TermsOnlyRise, |_| {
                format!("db-{node} is promoted in term {term}, which was never recorded")
            });
        };
        if let Some(named) = self.ledger.forced.get(&term).copied() {
            return self.require(named == node, Invariant::ForcedAsTyped, |_| {
                format!("db-{node} is promoted in term {term}, which was forced for db-{named}")
            });
        }
        let confirmed = |(member, volume): &&(Node, String)| {
            self.ledger
                .fences
                .iter()
                .any(|(at, life, in_term)| at == member && *in_term == term && volume_text(*life) == *volume)
        };
        let fenced = record.members.iter().filter(confirmed).count();
        // The newest master holds everything by itself, and once it is fenced nobody acknowledges.
        let before = self.ledger.promoted.range(..term).next_back();
        let leads_on = record.rests == Some(node) && before.is_some_and(|(_, led)| *led == node);
        let own = |(member, _): &&(Node, String)| *member == node;
        let closed = record.members.iter().filter(own).any(|own| confirmed(&own));
        self.require(
            fenced >= record.quorum || (leads_on && closed),
            Invariant::FenceQuorumBeforePromotion,
            |_| {
                format!(
                    "db-{node} is promoted in term {term} with {fenced} fences of {}",
                    record.quorum
                )
            },
        );
    }

    /// `node` accepts writes from now on.
    pub(crate) fn on_opened(&mut self, node: Node) {
        let machine = &self.machines[node];
        let term = machine.disk.memory.promoted.as_ref().map_or(0, |it| it.term);
        let executed = machine.executed();
        if term < self.ledger.opened {
            // It opens late, as an old master that nobody reached; what it may not do is acknowledge.
            return;
        }
        if term > self.ledger.opened {
            (self.ledger.opened, self.ledger.opened_at) = (term, self.now);
            self.ledger.opened_with = executed;
        }
        let (acknowledged, readable) = (self.ledger.acknowledged, self.ledger.readable);
        self.require(
            !executed.is_empty() || acknowledged.is_empty(),
            Invariant::EmptyIsNotNew,
            |_| format!("db-{node} is empty and leads in term {term}"),
        );
        if self.ledger.forced.contains_key(&term) && self.ledger.given_up < term {
            return self.on_forced(node, term);
        }
        self.require(
            executed.contains(&acknowledged),
            Invariant::AcknowledgedWritesSurvive,
            |_| {
                format!(
                    "db-{node} leads in term {term} without {}",
                    list(acknowledged.without(executed))
                )
            },
        );
        self.require(executed.contains(&readable), Invariant::NoPhantomRead, |_| {
            format!(
                "db-{node} leads in term {term} without {}",
                list(readable.without(executed))
            )
        });
        self.on_readable(node);
    }

    /// `node` was opened by force: durability is given up for what it lacks, there and nowhere else.
    fn on_forced(&mut self, node: Node, term: u64) {
        let executed = self.machines[node].executed();
        self.ledger.unsure = self.ledger.unsure | executed.without(self.ledger.acknowledged);
        self.ledger.acknowledged = self.ledger.acknowledged & executed;
        self.ledger.readable = self.ledger.readable & executed;
        self.ledger.given_up = term;
    }

    /// Operator `op` has `node` promoted. By force that may be only when all members that answer it are fenced.
    pub(crate) fn on_promotion_asked(&mut self, op: usize, node: Node, term: u64) {
        // What follows the promotion of the node is no other one, nor is asking for it again.
        if self.ledger.forced.get(&term) != Some(&node)
            || self.ledger.promoted.contains_key(&term)
            || !self.ledger.asked.insert((op, term))
        {
            return;
        }
        let Some(record) = self.operators[op].record.clone() else {
            return;
        };
        for (member, volume) in &record.members {
            let at = index(member);
            let link = &self.operators[op].links[at];
            let open = matches!(link.session, failover::Session::Open { .. });
            let Some(report) = link
                .report
                .as_ref()
                .filter(|report| open && report.volume == *volume)
            else {
                continue;
            };
            if !matches!(report.server, failover::Server::Up(_)) {
                continue;
            }
            let fenced = self.ledger.fences.iter().any(|(who, life, fence)| {
                *who == at && *fence >= term && volume_text(*life) == volume.as_str()
            });
            self.require(fenced, Invariant::ForcedAsTyped, |_| {
                format!("db-{node} is forced in term {term} while db-{at} answers and is not fenced")
            });
        }
    }

    /// Operator `op` has the damaged data of `node` thrown away. Nobody can tell before whether it is of use, so where
    /// it counts as a copy that may be only while all other members answer, unless a person says so.
    pub(crate) fn on_discard_asked(&mut self, op: usize, node: Node) {
        let operator = &self.operators[op];
        let Some(record) = &operator.record else { return };
        let link = &operator.links[node];
        let counts = link
            .report
            .as_ref()
            .is_some_and(|live| record.members.get(&name(node)) == Some(&live.volume));
        let mut members = record.members.keys().map(index);
        let shrinks = members.clone().any(|member| member >= operator.nodes as usize);
        if !counts || shrinks || operator.wished.resync == Some(node) {
            return;
        }
        let answers =
            |member: &Node| matches!(operator.links[*member].session, failover::Session::Open { .. });
        let silent = members.find(|member| *member != node && !answers(member));
        self.require(silent.is_none(), Invariant::LastCopyKept, |_| {
            format!("db-{node} is to throw its data away while {silent:?} does not answer")
        });
    }

    /// What `node` has executed can be read there, if it is a master, or becomes one, and clients are led to it.
    pub(crate) fn on_readable(&mut self, node: Node) {
        let machine = &self.machines[node];
        let Some(server) = &machine.server else { return };
        let memory = &machine.disk.memory;
        let promoted = memory.promoted.as_ref();
        let leads = promoted.is_some_and(|it| it.server == server.life && it.term >= self.ledger.given_up);
        // What somebody wrote beside the replication is no promise of ours. Clients are led to a master by the Service
        // or its label; nobody reads at one that is not routed yet.
        let routed =
            self.api.pods[node].as_ref().is_some_and(|pod| pod.master) || self.api.service.0 == Some(node);
        if leads && routed && !server.offline {
            self.ledger.readable = self.ledger.readable
                | machine
                    .executed()
                    .without(self.ledger.errant | self.ledger.unsure);
        }
    }

    /// `node` received `txn`.
    pub(crate) fn on_received(&mut self, node: Node, txn: Txn) {
        self.ledger.txns[usize::from(txn)].reached |= 1 << node;
        let holds = self.machines[node].disk.holds();
        let after = self.ledger.get(txn).after;
        self.require(holds.contains(&after), Invariant::PrefixWithoutHoles, |_| {
            format!("db-{node} receives {txn} without {}", list(after.without(holds)))
        });
        let fenced = self.machines[node].disk.memory.fenced;
        self.require(fenced.is_none(), Invariant::FenceStays, |_| {
            format!("db-{node} is fenced in {fenced:?} and receives {txn}")
        });
    }

    /// The data of `node` is about to be thrown away for a clone.
    pub(crate) fn on_overwrite(&mut self, node: Node) {
        let lost = self.machines[node].disk.holds() & self.ledger.acknowledged;
        let alone: Bits = lost.iter().filter(|txn| self.holders(*txn, node) == 0).collect();
        self.require(alone.is_empty(), Invariant::LastCopyKept, |_| {
            format!("db-{node} is overwritten and only it holds {}", list(alone))
        });
        let all = self.machines[node].disk.holds();
        self.counts_no_more(node, all);
    }

    /// `tail` is about to be cut off the log of `node`.
    pub(crate) fn on_cut(&mut self, node: Node, tail: &[Txn]) {
        let tail: Bits = tail.iter().copied().collect();
        let lost = tail & self.ledger.acknowledged;
        self.require(lost.is_empty(), Invariant::OnlyUnacknowledgedCut, |_| {
            format!("db-{node} cuts {} off, which was acknowledged", list(lost))
        });
        self.counts_no_more(node, tail);
    }

    /// What `node` gives up was not acknowledged yet, and may not be because it had it.
    fn counts_no_more(&mut self, node: Node, given: Bits) {
        for txn in given.iter() {
            self.ledger.txns[usize::from(txn)].reached &= !(1 << node);
        }
    }

    /// The receiver of `node` is started towards `source` by a command of `term`.
    pub(crate) fn on_follow(&mut self, node: Node, source: Node, term: u64) {
        let theirs = &self.machines[source];
        let leads = theirs
            .disk
            .memory
            .promoted
            .as_ref()
            .is_some_and(|it| it.term == term);
        if leads && theirs.disk.memory.term == term {
            let extra = self.machines[node]
                .disk
                .holds()
                .without(theirs.disk.log | self.ledger.errant);
            self.require(extra.is_empty(), Invariant::ExactRejoin, |_| {
                format!(
                    "db-{node} follows db-{source} with {}, which it lacks",
                    list(extra)
                )
            });
        }
    }

    /// A pod changed.
    pub(crate) fn on_labels(&mut self) {
        for node in 0..self.machines.len() {
            self.on_readable(node);
        }
        let labelled = self.api.pods.iter().flatten().filter(|pod| pod.master).count();
        self.require(labelled <= 1, Invariant::OneMasterLabel, |world| {
            let names: Vec<usize> = (0..world.api.pods.len())
                .filter(|at| world.api.pods[*at].as_ref().is_some_and(|pod| pod.master))
                .collect();
            format!("labelled master: {names:?}")
        });
    }

    /// What the agent of `node` keeps changed from `before`, on one volume.
    pub(crate) fn on_remembered(&mut self, node: Node, before: (u32, u64)) {
        let memory = &self.machines[node].disk.memory;
        let (term, fenced, volume) = (memory.term, memory.fenced, memory.volume);
        self.require(term >= before.1, Invariant::TermsOnlyRise, |_| {
            format!("db-{node} goes from term {} back to {term}", before.1)
        });
        if let Some(fence) = fenced {
            self.ledger.fences.insert((node, volume, fence));
        }
    }
}

/// Transactions for a message.
pub(crate) fn list(set: Bits) -> String {
    let all: Vec<String> = set.iter().map(|txn| txn.to_string()).collect();
    format!("{{{}}}", all.join(","))
}
