//! MySQL as it was measured: what a write, an acknowledgement, a crash and a boot do. `docs` of the engine rest on the
//! same facts: `AFTER_SYNC`, endless wait, fenced boot, relay logs that survive.

use crate::{
    bits::{Bits, Txn},
    event::Node,
    invariant::Invariant,
    machine::{Server, Waiting},
    mutant::Mutant,
    statement::Statement,
    world::{NODES, World},
};

/// A receiver notices a silent source after so long.
const NET_TIMEOUT: u64 = 1000;

impl World {
    /// mysqld of `node` ends at once. What waited comes back as committed: it is in the binary log.
    pub fn crash(&mut self, node: Node) -> bool {
        let now = self.now;
        let machine = &mut self.machines[node];
        if machine.server.take().is_none() {
            return false;
        }
        machine.sent.clear();
        machine.held_since = if machine.disk.hold.is_set { now } else { 0 };
        if self.mutant == Some(Mutant::AckBeforeDisk)
            && let Some(last) = machine.disk.relay.pop_back()
        {
            machine.disk.received.remove(last);
        }
        self.drop_slaves_of(node);
        true
    }

    /// mysqld of `node` starts, fenced: read-only, offline, receiving nothing.
    pub fn boot(&mut self, node: Node) -> bool {
        let (life, mutant, now) = (self.lives + 1, self.mutant, self.now);
        let machine = &mut self.machines[node];
        if machine.server.is_some() || machine.pod == 0 || machine.disk.damaged || machine.is_held() {
            return false;
        }
        self.lives = life;
        let open = mutant == Some(Mutant::BootsOpen);
        let starts = mutant == Some(Mutant::ReplicaStartsAtBoot) && machine.disk.channel.is_some();
        if mutant == Some(Mutant::RelayLogRecovery) {
            let disk = &mut machine.disk;
            for txn in std::mem::take(&mut disk.relay) {
                disk.received.remove(txn);
            }
        }
        machine.server = Some(Server {
            life,
            read_only: !open,
            offline: !open,
            replica_on: starts,
            acknowledges: starts,
            receiver: starts,
            applier: starts,
            heard: now,
            ..Server::default()
        });
        true
    }

    /// mysqld that was kept down starts with all that its log holds: an operator is connected, and none has said what
    /// to keep. How long that is waited for is not asked here.
    pub(crate) fn start_uncut(&mut self, node: Node) -> bool {
        let connected = self.operators.iter().any(|it| it.links[node].alive);
        let machine = &self.machines[node];
        let waits = machine.agent.up && !machine.agent.frozen && machine.agent.running.is_none();
        connected && waits && machine.is_held() && self.start_held(node)
    }

    /// The supervisor is told to start mysqld that it keeps down.
    pub(crate) fn start_held(&mut self, node: Node) -> bool {
        self.machines[node].disk.hold.clear();
        self.boot(node)
    }

    /// The machine loses its power: what the disk was not waited for is as before.
    pub(crate) fn lose_power(&mut self, node: Node) -> bool {
        if self.machines[node].pod == 0 {
            return false;
        }
        self.kill_agent(node);
        self.crash(node);
        let now = self.now;
        let machine = &mut self.machines[node];
        machine.disk.hold.is_set = machine.disk.hold.on_disk;
        machine.held_since = if machine.disk.hold.is_set { now } else { 0 };
        true
    }

    /// The slaves of `node` lose their connection.
    pub(crate) fn drop_slaves_of(&mut self, node: Node) {
        for machine in &mut self.machines {
            if machine.disk.channel == Some(node)
                && let Some(server) = &mut machine.server
            {
                server.connected = false;
                machine.sent.retain(|(to, _, _)| *to != node);
            }
        }
    }

    /// What can be read or said over a replication connection from `node` to its source now.
    fn can_replicate(&self, node: Node) -> Option<Node> {
        let machine = &self.machines[node];
        let server = machine.awake().filter(|server| server.receiver)?;
        let source = machine.disk.channel.filter(|source| *source != node)?;
        let theirs = self.machines[source].awake()?;
        (!theirs.offline && server.life > 0 && self.reaches(source, node)).then_some(source)
    }

    /// The receiver connects. MySQL refuses a slave that has more of the source's own transactions than the source,
    /// and one that needs purged logs; it checks nothing else.
    pub(crate) fn attach(&mut self, node: Node) -> bool {
        let Some(source) = self
            .can_replicate(node)
            .filter(|source| self.reaches(node, *source))
        else {
            return false;
        };
        let now = self.now;
        let holds = self.ledger.identifiers(&self.machines[node].disk.holds());
        let theirs = &self.machines[source].disk;
        let log = self.ledger.identifiers(&theirs.log);
        let more = !log.contains(&self.ledger.made_by(&holds, theirs.uuid));
        let gone = !holds.contains(&self.ledger.identifiers(&theirs.purged));
        let Some(server) = self.machines[node].awake_mut().filter(|server| !server.connected) else {
            return false;
        };
        if more || gone {
            (server.receiver, server.receiver_failed) = (false, true);
            return true;
        }
        (server.connected, server.heard, server.cursor) = (true, now, 0);
        server.acknowledges = server.replica_on;
        true
    }

    /// The replication connection of `node` breaks.
    pub(crate) fn detach(&mut self, node: Node) -> bool {
        let machine = &mut self.machines[node];
        machine.sent.clear();
        machine
            .server
            .as_mut()
            .is_some_and(|server| std::mem::take(&mut server.connected))
    }

    /// Heartbeats arrive, or do not for so long that the receiver gives up.
    pub(crate) fn replication_time(&mut self) {
        for node in 0..NODES {
            let source = self
                .can_replicate(node)
                .filter(|source| self.reaches(node, *source));
            let now = self.now;
            let machine = &mut self.machines[node];
            let Some(server) = machine.awake_mut().filter(|server| server.connected) else {
                continue;
            };
            if source.is_some() {
                server.heard = now;
            } else if now.saturating_sub(server.heard) > NET_TIMEOUT {
                server.connected = false;
                machine.sent.clear();
            }
        }
    }

    /// The next transaction reaches the receiver of `node`; an acknowledger acknowledges it.
    pub(crate) fn ship(&mut self, node: Node) -> bool {
        let Some(source) = self.can_replicate(node) else {
            return false;
        };
        let Some(server) = self.machines[node].awake().filter(|server| server.connected) else {
            return false;
        };
        let disk = &self.machines[source].disk;
        let next = if self.ledger.twins {
            let has = self.ledger.identifiers(&self.machines[node].disk.holds());
            let missing = |txn: &&Txn| !has.has(self.ledger.get(**txn).twin);
            disk.binlog[server.cursor.min(disk.binlog.len())..]
                .iter()
                .find(missing)
        } else {
            let has = &self.machines[node].disk;
            let missing = |txn: &&Txn| !has.log.has(**txn) && !has.relay.contains(txn);
            disk.binlog[server.cursor.min(disk.binlog.len())..]
                .iter()
                .find(missing)
        };
        let Some(txn) = next.copied() else { return false };
        let cursor = disk.binlog.iter().position(|it| *it == txn).unwrap_or(0) + 1;
        let theirs = self.machines[source].server.as_ref();
        let (source_life, semi_sync) = theirs.map_or((0, false), |it| (it.life, it.source_on));
        self.on_received(node, txn);
        let now = self.now;
        let machine = &mut self.machines[node];
        machine.disk.relay.push_back(txn);
        machine.disk.received.insert(txn);
        if let Some(server) = &mut machine.server {
            (server.cursor, server.heard) = (cursor, now);
            if server.acknowledges && semi_sync {
                machine.sent.push_back((source, source_life, txn));
            }
        }
        true
    }

    /// The oldest acknowledgement of `node` arrives.
    pub(crate) fn acknowledge(&mut self, node: Node) -> bool {
        let Some((source, life, txn)) = self.machines[node].sent.front().copied() else {
            return false;
        };
        if !self.reaches(node, source) {
            return false;
        }
        self.machines[node].sent.pop_front();
        // Acknowledgements are counted by the server's id.
        let own_life = self.machines[node].server.as_ref().map_or(0, |it| it.life);
        let second_name = self.mutant == Some(Mutant::NamedByStart) && own_life % 2 == 1;
        let place = |binlog: &[Txn], txn: Txn| binlog.iter().position(|it| *it == txn);
        let theirs = &mut self.machines[source];
        let upto = place(&theirs.disk.binlog, txn);
        let acknowledger = 1 << (node + NODES * usize::from(second_name));
        if let Some(server) = theirs.awake_mut().filter(|server| server.life == life) {
            let mut waiting = std::mem::take(&mut server.waiting);
            for it in &mut waiting {
                if place(&self.machines[source].disk.binlog, it.txn) <= upto {
                    it.by |= acknowledger;
                }
            }
            if let Some(server) = &mut self.machines[source].server {
                server.waiting = waiting;
            }
            self.settle(source);
        }
        true
    }

    /// Commits what has its acknowledgements, in order.
    pub(crate) fn settle(&mut self, node: Node) {
        loop {
            let Some(server) = self.machines[node].awake_mut() else {
                return;
            };
            let enough = |it: &Waiting| !server.source_on || it.by.count_ones() >= server.acks.max(1);
            if !server.waiting.front().is_some_and(enough) {
                return;
            }
            let Some(done) = server.waiting.pop_front() else {
                return;
            };
            if done.heard {
                self.on_acknowledged(node, done.txn);
            }
            self.on_readable(node);
        }
    }

    /// A client writes.
    pub(crate) fn write(&mut self, node: Node) -> bool {
        let Some(server) = self.machines[node].awake() else {
            return false;
        };
        if server.read_only || server.closing || server.offline || self.ledger.is_full() {
            return false;
        }
        let fenced = self.machines[node].disk.memory.fenced;
        self.require(fenced.is_none(), Invariant::FenceStays, |_| {
            format!("db-{node} is fenced in {fenced:?} and accepts a write")
        });
        let disk = &self.machines[node].disk;
        let txn = self.ledger.create(disk.uuid, &disk.log);
        let asynchronous = self.mutant == Some(Mutant::FallBackToAsync) && txn.is_multiple_of(8);
        self.machines[node].disk.append(txn);
        if let Some(server) = &mut self.machines[node].server {
            server.waiting.push_back(Waiting {
                txn,
                by: if asynchronous { u32::MAX } else { 0 },
                heard: true,
            });
        }
        self.settle(node);
        true
    }

    /// Somebody with every privilege writes on a slave, beside the replication.
    pub(crate) fn errant(&mut self, node: Node) -> bool {
        let machine = &self.machines[node];
        let slave =
            machine.awake().is_some_and(|server| server.read_only) && machine.disk.memory.promoted.is_none();
        if !slave || machine.disk.log.is_empty() || machine.agent.cloning.is_some() || self.ledger.is_full() {
            return false;
        }
        let txn = self.ledger.create(machine.disk.uuid, &machine.disk.log);
        self.ledger.errant.insert(txn);
        self.machines[node].disk.append(txn);
        true
    }

    /// A row that later transactions change is removed without a trace, or brought back.
    pub(crate) fn diverge(&mut self, node: Node) -> bool {
        let machine = &mut self.machines[node];
        if machine.awake().is_none_or(|server| !server.read_only) {
            return false;
        }
        machine.disk.divergent = !machine.disk.divergent;
        if !machine.disk.divergent && machine.server.as_ref().is_some_and(|server| server.stuck) {
            // Whoever mends it starts the applier.
            self.say(node, Statement::StartApplier);
        }
        true
    }

    /// The applier executes one transaction. Where semi-sync as a source is on, its commits wait like those of clients.
    pub(crate) fn execute(&mut self, node: Node) -> bool {
        let machine = &mut self.machines[node];
        if machine.awake().is_none_or(|server| !server.applier) {
            return false;
        }
        if machine.disk.divergent
            && !machine.disk.relay.is_empty()
            && let Some(server) = &mut machine.server
        {
            (server.applier, server.stuck) = (false, true);
            return true;
        }
        if machine
            .server
            .as_ref()
            .is_some_and(|it| it.source_on && !it.waiting.is_empty())
        {
            // The commit before waits for slaves of this server's own.
            return false;
        }
        let Some(txn) = machine.disk.relay.pop_front() else {
            return false;
        };
        machine.disk.append(txn);
        if let Some(server) = machine.server.as_mut().filter(|it| it.source_on) {
            server.waiting.push_back(Waiting {
                txn,
                by: 0,
                heard: false,
            });
        }
        true
    }

    /// The binary logs up to now are purged.
    pub(crate) fn purge(&mut self, node: Node) -> bool {
        let machine = &mut self.machines[node];
        let executed = machine.executed();
        if machine.awake().is_none() || machine.disk.purged == executed {
            return false;
        }
        machine.disk.purged = executed;
        true
    }

    /// The server is asked to end: everything that waits is told OK.
    pub fn sigterm(&mut self, node: Node) {
        let Some(server) = &mut self.machines[node].server else {
            return;
        };
        server.frozen = None;
        let ended: Vec<Waiting> = server.waiting.drain(..).collect();
        for it in ended.iter().filter(|it| it.heard) {
            self.on_acknowledged(node, it.txn);
        }
        // It ends cleanly, and is not kept down.
        self.machines[node].disk.hold.clear();
        self.crash(node);
    }

    /// The data of `from` as a clone sees it.
    pub(crate) fn copy_of(&self, from: Node) -> (Vec<Txn>, Bits) {
        let executed = self.machines[from].executed();
        let order = self.machines[from]
            .disk
            .binlog
            .iter()
            .filter(|txn| executed.has(**txn));
        (order.copied().collect(), executed)
    }
}
