//! One node as it is: its disk, its mysqld, its agent. Only data; what happens to it is in the other modules.

use std::collections::VecDeque;

use failover::{
    Applier, GtidSet, Millis, NodeId, NodeReport, Receiver, Role, Server as Said, ServerState, Tail, Term,
};

use crate::{
    bits::{Bits, Txn},
    event::{Node, Op},
    guard::Guard,
    ledger::{Ledger, uuid_text},
    world::NODES,
};

/// What the agent keeps on disk, as `node/src/store.rs` does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The life of the data.
    pub volume: u32,
    /// The highest term seen.
    pub term: u64,
    /// The term of the confirmed fence.
    pub fenced: Option<u64>,
    /// The master it was last told to follow.
    pub followed: Option<Followed>,
    /// The promotion record.
    pub promoted: Option<Promoted>,
}

/// A master to follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Followed {
    /// The command's term.
    pub term: u64,
    /// The master.
    pub source: Node,
    /// What it takes to have caught up.
    pub until: GtidSet,
    /// The life of the server that was told.
    pub server: u32,
}

/// A promotion.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Promoted {
    /// The command's term.
    pub term: u64,
    /// The life of the server that was told.
    pub server: u32,
}

/// What outlives every process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The agent's file.
    pub memory: Memory,
    /// The number of the server's UUID.
    pub uuid: u32,
    /// The binary log in its order, with what waits for acknowledgements at its end.
    pub binlog: Vec<Txn>,
    /// The same as a set.
    pub log: Bits,
    /// What is no longer in the files of the binary log.
    pub purged: Bits,
    /// Received and not executed, in order.
    pub relay: VecDeque<Txn>,
    /// `Retrieved_Gtid_Set` of the channel.
    pub received: Bits,
    /// The source that the channel names.
    pub channel: Option<Node>,
    /// A row is missing here that the next transaction changes.
    pub divergent: bool,
    /// mysqld does not start on it.
    pub damaged: bool,
    /// The marker that keeps mysqld down after its next unclean end, until it is known what to cut off.
    pub hold: Marker,
}

/// A marker that is set durably, and taken away without waiting for the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Marker {
    /// As everybody sees it.
    pub is_set: bool,
    /// As it is after a loss of power.
    pub on_disk: bool,
}

impl Marker {
    /// Sets it.
    pub fn set(&mut self) {
        (self.is_set, self.on_disk) = (true, true);
    }

    /// Takes it away.
    pub fn clear(&mut self) {
        self.is_set = false;
    }
}

impl Disk {
    /// Everything the disk holds, executed, waiting or only received.
    pub fn holds(&self) -> Bits {
        self.relay.iter().fold(self.log, |mut all, txn| {
            all.insert(*txn);
            all
        })
    }

    /// Appends to the binary log.
    pub fn append(&mut self, txn: Txn) {
        self.binlog.push(txn);
        self.log.insert(txn);
    }
}

/// A commit that waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// The transaction.
    pub txn: Txn,
    /// The ids under which slaves acknowledged it, a bit each.
    pub by: u32,
    /// Its client is still connected and hears of its end.
    pub heard: bool,
}

/// A running mysqld.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "they are MySQL's own switches")]
pub struct Server {
    /// Another one at each start.
    pub life: u32,
    /// `super_read_only`.
    pub read_only: bool,
    /// A `super_read_only=ON` is under way and blocks new writes.
    pub closing: bool,
    /// `offline_mode`.
    pub offline: bool,
    /// `rpl_semi_sync_source_enabled`.
    pub source_on: bool,
    /// `rpl_semi_sync_source_wait_for_replica_count`.
    pub acks: u32,
    /// `rpl_semi_sync_replica_enabled`.
    pub replica_on: bool,
    /// The receiver runs.
    pub receiver: bool,
    /// Why it stopped by itself.
    pub receiver_failed: bool,
    /// The receiver is connected.
    pub connected: bool,
    /// The receiver was started as an acknowledger.
    pub acknowledges: bool,
    /// When something came from the source.
    pub heard: Millis,
    /// How far into the source's binary log the receiver is.
    pub cursor: usize,
    /// The applier runs.
    pub applier: bool,
    /// The applier stopped at what it cannot execute.
    pub stuck: bool,
    /// Commits that wait, in order.
    pub waiting: VecDeque<Waiting>,
    /// Stopped in its tracks since.
    pub frozen: Option<Millis>,
}

impl Server {
    /// What waits, as a set.
    pub fn hidden(&self) -> Bits {
        self.waiting.iter().map(|it| it.txn).collect()
    }
}

/// What a node can be told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Order {
    /// See [`failover::Action`].
    Fence { orderly: bool },
    /// See [`failover::Action`].
    Drain,
    /// See [`failover::Action`].
    Promote { acks: u32, requires: GtidSet },
    /// See [`failover::Action`].
    Follow {
        source: Node,
        until: GtidSet,
        whole: bool,
    },
    /// See [`failover::Action`].
    Clone { donor: Node, extra: GtidSet },
    /// See [`failover::Action`].
    Discard,
    /// See [`failover::Action`].
    Cut { keep: GtidSet },
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Command {
    /// Who asks, and in which life.
    pub from: (Op, u32),
    /// Its term.
    pub term: u64,
    /// What.
    pub order: Order,
}

/// A command under way in the agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job {
    /// The command.
    pub command: Command,
    /// The next statement.
    pub stage: u8,
    /// When it began.
    pub began: Millis,
    /// The life of the server when it began; a command does not go on with another one.
    pub life: u32,
}

/// The agent's process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and faults set them apart"
)]
pub struct Agent {
    /// It runs.
    pub up: bool,
    /// It is stopped in its tracks.
    pub frozen: bool,
    /// It has told an operator of its server since it started. A sound agent has looked before it takes a session.
    pub told: bool,
    /// It was told to stop.
    pub stopping: bool,
    /// The command under way.
    pub running: Option<Job>,
    /// Those that wait.
    pub queue: VecDeque<Command>,
    /// A clone beside the queue.
    pub cloning: Option<Job>,
    /// How many clones were refused while there was still data.
    pub refused_clones: u32,
    /// What its guard remembers.
    pub guard: Guard,
}

impl Agent {
    /// True once the data is gone that a donor's takes the place of.
    pub fn copies(&self) -> bool {
        self.cloning.as_ref().is_some_and(|job| job.stage == 4)
    }
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Machine {
    /// What runs belongs to the pod of this number; zero where nothing runs.
    pub pod: u32,
    /// Its disk.
    pub disk: Disk,
    /// Its mysqld.
    pub server: Option<Server>,
    /// Its agent.
    pub agent: Agent,
    /// Since when mysqld is kept down, where it is.
    pub held_since: Millis,
    /// Acknowledgements on their way: to which life of which node, up to which transaction.
    pub sent: VecDeque<(Node, u32, Txn)>,
}

impl Machine {
    /// True while mysqld is kept down.
    pub fn is_held(&self) -> bool {
        self.server.is_none() && self.disk.hold.is_set
    }

    /// The server if it runs and is not frozen.
    pub fn awake(&self) -> Option<&Server> {
        self.server.as_ref().filter(|server| server.frozen.is_none())
    }

    /// The server for change, if it runs and is not frozen.
    pub fn awake_mut(&mut self) -> Option<&mut Server> {
        self.server.as_mut().filter(|server| server.frozen.is_none())
    }

    /// `@@gtid_executed` as transactions.
    pub fn executed(&self) -> Bits {
        match &self.server {
            Some(server) => self.disk.log.without(server.hidden()),
            None => self.disk.log,
        }
    }

    /// What the agent reports.
    pub fn report(&self, ledger: &Ledger, now: Millis) -> NodeReport {
        let memory = &self.disk.memory;
        let server = match &self.server {
            None => Said::Down {
                cause: "it ended".to_owned(),
            },
            Some(Server {
                frozen: Some(since), ..
            }) => Said::Hung {
                silent_ms: now.saturating_sub(*since),
            },
            Some(server) => Said::Up(Box::new(self.state(server, ledger, now))),
        };
        NodeReport {
            term: Term(memory.term),
            fenced: memory.fenced.map(Term),
            followed: memory.followed.as_ref().map(|told| failover::Followed {
                term: Term(told.term),
                source: name(told.source),
            }),
            promoted: memory.promoted.as_ref().map(|it| Term(it.term)),
            stopping: self.agent.stopping,
            closed: self.agent.guard.closed.then(|| "it is alone".to_owned()),
            cloning: self.agent.cloning.as_ref().map(|_| 50),
            refused_clones: self.agent.refused_clones,
            tail: self.is_held().then_some(Tail::Held),
            damaged: (self.disk.damaged && !self.is_held()).then(|| "killed by SIGABRT".to_owned()),
            ..NodeReport::new(volume_text(memory.volume).into(), server)
        }
    }

    fn state(&self, server: &Server, ledger: &Ledger, now: Millis) -> ServerState {
        let executed = ledger.gtids(&self.executed());
        ServerState {
            uuid: uuid_text(self.disk.uuid),
            version: "9.7.4".to_owned(),
            role: self.role(server, &executed, now),
            executed,
            received: if self.disk.channel.is_some() {
                ledger.gtids(&self.disk.received)
            } else {
                GtidSet::new()
            },
            purged: ledger.gtids(&self.disk.purged),
            open: !server.offline,
            stuck: server.stuck.then(|| "Error 1032".to_owned()),
        }
    }

    /// As `node/src/board.rs` makes it of memory and status.
    fn role(&self, server: &Server, executed: &GtidSet, now: Millis) -> Role {
        let memory = &self.disk.memory;
        if memory.fenced.is_some() || self.agent.cloning.is_some() {
            return Role::Idle;
        }
        if let Some(promoted) = &memory.promoted
            && promoted.server == server.life
            && !server.read_only
        {
            return Role::Master {
                term: Term(promoted.term),
                acks: if server.source_on { server.acks } else { 0 },
                waiting: u32::try_from(server.waiting.len()).unwrap_or(u32::MAX),
            };
        }
        let (Some(followed), Some(source)) = (&memory.followed, self.disk.channel) else {
            return Role::Idle;
        };
        if followed.server != server.life {
            return Role::Idle;
        }
        let error = String::new();
        Role::Slave {
            term: Term(followed.term),
            source: name(followed.source),
            address: address(source),
            receiver: match (server.receiver, server.connected) {
                (true, true) => Receiver::Receiving {
                    age_ms: now.saturating_sub(server.heard),
                },
                (true, false) => Receiver::Connecting { error },
                (false, _) => Receiver::Stopped { error },
            },
            applier: if server.applier {
                Applier::Running
            } else {
                let error = if server.stuck { "Error 1032" } else { "" };
                Applier::Stopped {
                    error: error.to_owned(),
                }
            },
            caught_up: executed.contains(&followed.until),
        }
    }
}

/// The node's name.
pub fn name(node: Node) -> NodeId {
    const NAMES: [&str; NODES] = [
        "db-0", "db-1", "db-2", "db-3", "db-4", "db-5", "db-6", "db-7", "db-8",
    ];
    NodeId::from(NAMES[node])
}

/// The node's address.
pub fn address(node: Node) -> String {
    format!("10.0.0.{node}")
}

/// A volume in words.
pub fn volume_text(volume: u32) -> String {
    format!("volume-{volume}")
}
