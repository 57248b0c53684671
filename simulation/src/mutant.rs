//! Ways to break a safety rule on purpose, outside the engine: in what the operator observes and carries out, in
//! the agent, in MySQL's settings. Each must make some invariant fail, or the invariants prove nothing.

use serde::{Deserialize, Serialize};

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mutant {
    /// One fenced node counts as a quorum.
    SkipFenceQuorum,
    /// The candidate is promoted before it has executed what it received.
    PromoteUndrained,
    /// The fence is kept in the agent's memory only.
    FenceNotDurable,
    /// The term is kept in the agent's memory only.
    TermNotDurable,
    /// The agent obeys older terms.
    ObeyOlderTerms,
    /// The election does not see what the nodes hold.
    ElectAny,
    /// Writes are allowed before semi-sync is on.
    SourceAfterWritable,
    /// The new master is labelled without regard to the others.
    LabelBeforeUnlabel,
    /// Clone takes donor and receiver for each other, and overwrites whatever the receiver does.
    CloneOverLastCopy,
    /// A master is fenced by SIGTERM.
    FenceBySigterm,
    /// `relay_log_recovery=ON`.
    RelayLogRecovery,
    /// `skip_replica_start=OFF`.
    ReplicaStartsAtBoot,
    /// mysqld boots open to reads and writes.
    BootsOpen,
    /// Semi-sync falls back to asynchronous.
    FallBackToAsync,
    /// A slave acknowledges before the transaction is on disk.
    AckBeforeDisk,
    /// A node follows whatever it holds.
    FollowErrant,
    /// A replaced volume counts as the one before.
    VolumeIgnored,
    /// Nodes that are to go are not fenced before the quorum forgets them.
    ShrinkUnfenced,
    /// What an older term may still write of the Service is forgotten.
    LateLeadForgotten,
    /// A node is fenced in the term in which it leads, and promoted in it again.
    PromotedTwice,
    /// The record is written without comparing.
    NoCompareAndSwap,
    /// The agent reports a fence that it has not carried out.
    FenceOnlyReported,
    /// An agent that has just started takes the server that it has not seen yet for none.
    UnseenIsNone,
    /// A new source is named while relay logs hold what was not executed.
    RelayThrownAway,
    /// The number of acknowledgements rises in the record before it does in the master.
    AcksRecordedFirst,
    /// A new database does not wait for all its nodes.
    EmptyIsNew,
    /// A promotion that began before mysqld restarted goes on after it.
    CommandOutlivesServer,
    /// A clone copies whatever it finds at the donor's address.
    DonorUnchecked,
    /// A fence trusts a clone beside it to have stopped the receiver already.
    FenceBesideClone,
    /// A promotion is forced whatever term was typed.
    ForcedWithAnyTerm,
    /// A promotion is forced before those that answer are fenced.
    ForcedUnfenced,
    /// Fewer acknowledgements are asked of the master than the record has.
    AcksLoweredUnrecorded,
    /// A master that is alone keeps its clients.
    GuardNeverCloses,
    /// A master closes itself where it hears no operator, whatever slaves it hears.
    GuardForgetsSlaves,
    /// A closed master opens again whatever terms it hears of.
    GuardForgetsTerms,
    /// A master that closes itself tells its waiting clients OK.
    GuardReleasesCommits,
    /// A slave is fenced though it still receives and acknowledges.
    FenceLeavesReceiver,
    /// A new master is opened before its promotion is durable.
    OpenedBeforeDurable,
    /// A new master waits for acknowledgements before it has executed what it received.
    SourceBeforeDrained,
    /// Damaged data is thrown away whoever else answers.
    DiscardUnasked,
    /// A node throws its data away though mysqld can run on it.
    DiscardUnchecked,
    /// A resting master is copied and led on without having closed.
    RestUnfenced,
    /// Clients are led to a node that becomes master while too few others hold what it shows.
    LedUnheld,
    /// A node with new data is whole once it has what the operator last heard of the master.
    FollowUnasked,
    /// Operators that lead at the same time take each other's changes over at once.
    TakenOverAtOnce,
    /// A killed slave is cut like a master, if it was kept down.
    CutFollower,
    /// A server whose tail was cut keeps its name.
    CutKeepsName,
    /// A server whose data is copied over keeps its name.
    CloneKeepsName,
    /// Each start of a server acknowledges under an id of its own.
    NamedByStart,
    /// A killed master is cut to what another node has before one was chosen by a quorum.
    CutBeforeLed,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 50] = [
        Self::SkipFenceQuorum,
        Self::PromoteUndrained,
        Self::FenceNotDurable,
        Self::TermNotDurable,
        Self::ObeyOlderTerms,
        Self::ElectAny,
        Self::SourceAfterWritable,
        Self::LabelBeforeUnlabel,
        Self::CloneOverLastCopy,
        Self::FenceBySigterm,
        Self::RelayLogRecovery,
        Self::ReplicaStartsAtBoot,
        Self::BootsOpen,
        Self::FallBackToAsync,
        Self::AckBeforeDisk,
        Self::FollowErrant,
        Self::VolumeIgnored,
        Self::ShrinkUnfenced,
        Self::LateLeadForgotten,
        Self::PromotedTwice,
        Self::NoCompareAndSwap,
        Self::FenceOnlyReported,
        Self::UnseenIsNone,
        Self::RelayThrownAway,
        Self::AcksRecordedFirst,
        Self::EmptyIsNew,
        Self::CommandOutlivesServer,
        Self::DonorUnchecked,
        Self::FenceBesideClone,
        Self::ForcedWithAnyTerm,
        Self::ForcedUnfenced,
        Self::AcksLoweredUnrecorded,
        Self::GuardNeverCloses,
        Self::GuardForgetsSlaves,
        Self::GuardForgetsTerms,
        Self::GuardReleasesCommits,
        Self::FenceLeavesReceiver,
        Self::OpenedBeforeDurable,
        Self::SourceBeforeDrained,
        Self::DiscardUnasked,
        Self::DiscardUnchecked,
        Self::RestUnfenced,
        Self::LedUnheld,
        Self::FollowUnasked,
        Self::TakenOverAtOnce,
        Self::CutFollower,
        Self::CutKeepsName,
        Self::CloneKeepsName,
        Self::NamedByStart,
        Self::CutBeforeLed,
    ];
}
