//! Everything that can happen, as data: a run is a list of these and replays without a random number.
//!
//! An event names what it touches by small numbers that stay meaningful when earlier events are dropped; one that
//! can no longer happen is skipped.

use serde::{Deserialize, Serialize};

/// A node, by its index.
pub type Node = usize;
/// An operator, by its index.
pub type Op = usize;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// Milliseconds pass.
    Wait { ms: u64 },
    /// The operator looks, asks the engine, and starts what it planned.
    Look { op: Op },
    /// The `nth` request under way reaches the API server.
    Api { nth: usize },
    /// The `nth` request under way is lost.
    LoseRequest { nth: usize },
    /// The API server's oldest answer reaches the operator.
    Answer { op: Op },
    /// The API server's oldest answer to the operator is lost.
    LoseAnswer { op: Op },
    /// The operator's cache takes in the pods as they are now.
    WatchPods { op: Op },
    /// The operator's cache takes in the resource as it is now.
    WatchResource { op: Op },
    /// The operator opens its session with the node.
    Connect { op: Op, node: Node },
    /// The session between them breaks.
    Break { op: Op, node: Node },
    /// The `nth` command under way to the node reaches its agent; with `keep` it will arrive once more.
    Deliver { node: Node, nth: usize, keep: bool },
    /// The `nth` command under way to the node is lost.
    LoseCommand { node: Node, nth: usize },
    /// The agent sends its report to every operator that has a session.
    Report { node: Node },
    /// The oldest message of the session reaches the operator.
    Hear { op: Op, node: Node },
    /// The agent carries out one statement of its command.
    Work { node: Node },
    /// The clone into the node goes on by one stage.
    Copy { node: Node },
    /// A client writes to the node.
    Write { node: Node },
    /// The node's receiver connects to its source.
    Attach { node: Node },
    /// The node's receiver gets the next transaction.
    Ship { node: Node },
    /// The node's oldest acknowledgement reaches its source.
    Ack { node: Node },
    /// The node's replication connection breaks; acknowledgements under way are lost.
    Detach { node: Node },
    /// The node's applier executes one transaction.
    Apply { node: Node },
    /// The supervisor starts mysqld.
    Boot { node: Node },
    /// The caretaker lets readers into a slave that has caught up.
    Open { node: Node },
    /// The node's server forgets its binary logs up to now.
    Purge { node: Node },
    /// mysqld dies.
    KillServer { node: Node },
    /// The agent dies.
    KillAgent { node: Node },
    /// The agent starts.
    StartAgent { node: Node },
    /// mysqld is stopped in its tracks.
    Freeze { node: Node },
    /// It goes on.
    Thaw { node: Node },
    /// The agent is stopped in its tracks.
    FreezeAgent { node: Node },
    /// It goes on.
    ThawAgent { node: Node },
    /// Somebody writes a transaction of the node's own on a slave.
    Errant { node: Node },
    /// A row disappears on a slave behind its back, or somebody mends that.
    Diverge { node: Node },
    /// The node's volume is lost, with everything that runs on it.
    LoseVolume { node: Node },
    /// What the node's volume holds can no longer be read by mysqld, which ends.
    Damage { node: Node },
    /// What `from` sends no longer reaches `to` (nodes, then operators, then the API server).
    Cut { from: usize, to: usize },
    /// It does again.
    Heal { from: usize, to: usize },
    /// The operator dies.
    KillOperator { op: Op },
    /// The operator starts with nothing in memory.
    StartOperator { op: Op },
    /// Somebody asks for this master.
    Wish { node: Node },
    /// Somebody gives the missing majority up for this node, and types a term.
    Force { node: Node, typed: u64 },
    /// Somebody wants the node cloned again.
    Resync { node: Node },
    /// Somebody wants the node kept closed, or no longer.
    Fence { node: Node },
    /// Somebody pauses the database, or no longer.
    Pause,
    /// The resource asks for so many nodes.
    Resize { nodes: u32 },
    /// The node's pod is deleted in order.
    DeletePod { node: Node },
    /// The node's pod object is deleted by force; what runs is not told.
    ForceDelete { node: Node },
    /// The node's machine loses its power.
    LosePower { node: Node },
    /// The agent has waited to be told what to cut off, and has mysqld start with it.
    Uncut { node: Node },
    /// What runs in a pod that was deleted ends.
    EndPod { node: Node },
    /// The reconcile side makes the pods that are missing and ends those that are too many.
    Reconcile,
}
