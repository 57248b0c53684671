//! The world: machines, operators, the API server and everything on its way between them; and what each event does.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use failover::Millis;
use serde::{Deserialize, Serialize};

use crate::{
    apiserver::{Api, UnderWay},
    event::{Event, Node, Op},
    invariant::Violation,
    ledger::Ledger,
    machine::{Agent, Command, Disk, Machine, Memory},
    mutant::Mutant,
    operator::Operator,
};

/// So many nodes there can be.
pub const NODES: usize = 9;
/// The same, as the resource asks for them.
const MOST: u32 = 9;
/// So many operators.
pub const OPERATORS: usize = 2;
const ACTORS: usize = NODES + OPERATORS + 1;

/// A command lives no longer: its session is closed by then, or its operator has given it up.
const COMMAND_LIFE: Millis = 10_000;

/// A command on its way to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wire {
    /// The node.
    pub node: Node,
    /// The pod it was sent to.
    pub pod: u32,
    /// The command.
    pub command: Command,
    /// When it was sent.
    pub sent: Millis,
}

/// What a run begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Beginning {
    /// So many nodes are asked for.
    pub nodes: u32,
    /// Nodes with errant transactions are held instead of cloned.
    pub quarantine: bool,
    /// Writes go on with fewer acknowledgements while slaves are missing.
    #[serde(default)]
    pub available: bool,
    /// The volumes are kept from an earlier database, and some of them lag.
    #[serde(default)]
    pub kept: bool,
    /// Supervisors keep a killed master down until it is known what to cut off; where they cannot, it starts at once.
    #[serde(default)]
    pub holds: bool,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct World {
    /// The time on every clock.
    pub now: Millis,
    /// The nodes.
    pub machines: [Machine; NODES],
    /// The operators.
    pub operators: [Operator; OPERATORS],
    /// What each operator's engine said last.
    pub verdicts: [Option<failover::Report>; OPERATORS],
    /// The API server.
    pub api: Api,
    /// Requests on their way to it.
    pub requests: Vec<UnderWay>,
    /// Commands on their way to agents.
    pub wires: Vec<Wire>,
    /// What `from` sends does not reach `to`.
    pub cut: [[bool; ACTORS]; ACTORS],
    /// The observer's notes.
    pub ledger: Ledger,
    /// The first broken rule.
    pub violation: Option<Violation>,
    /// The rule that is broken on purpose.
    pub mutant: Option<Mutant>,
    /// Nodes with errant transactions are held instead of cloned.
    pub quarantine: bool,
    /// Writes go on with fewer acknowledgements while slaves are missing.
    pub available: bool,
    /// Killed masters are kept down until it is known what to cut off.
    pub holds: bool,
    pub(crate) lives: u32,
    pub(crate) volumes: u32,
    pub(crate) pods_made: u32,
}

impl World {
    pub(crate) const API: usize = NODES + OPERATORS;

    /// A database that was just applied: nothing runs yet.
    pub fn new(beginning: Beginning, mutant: Option<Mutant>) -> Self {
        let Beginning {
            nodes,
            quarantine,
            available,
            kept,
            holds,
        } = beginning;
        let mut world = Self::empty(nodes, mutant, quarantine);
        (world.available, world.holds) = (available, holds);
        if kept {
            world.keep_volumes(nodes as usize);
        }
        world
    }

    /// Volumes of an earlier database: the first lags, the others hold all that it acknowledged.
    fn keep_volumes(&mut self, nodes: usize) {
        let uuid = self.machines[nodes - 1].disk.uuid;
        for _ in 0..4 {
            let txn = self.ledger.create(uuid, &self.machines[nodes - 1].disk.log);
            self.ledger.acknowledged.insert(txn);
            for (node, machine) in self.machines.iter_mut().enumerate().take(nodes) {
                machine.disk.memory.term = 3;
                if node > 0 || nodes == 1 || txn == 0 {
                    machine.disk.append(txn);
                }
            }
        }
    }

    fn empty(nodes: u32, mutant: Option<Mutant>, quarantine: bool) -> Self {
        let mut volumes = 0;
        let machines = std::array::from_fn(|_| {
            volumes += 1;
            let memory = Memory {
                volume: volumes,
                ..Memory::default()
            };
            Machine {
                disk: Disk {
                    memory,
                    uuid: volumes,
                    ..Disk::default()
                },
                ..Machine::default()
            }
        });
        Self {
            now: 0,
            machines,
            operators: [Operator::new(true, 1), Operator::new(false, 0)],
            verdicts: [const { None }; OPERATORS],
            api: Api {
                nodes,
                ..Api::default()
            },
            requests: Vec::new(),
            wires: Vec::new(),
            cut: [[false; ACTORS]; ACTORS],
            ledger: Ledger::default(),
            violation: None,
            mutant,
            quarantine,
            available: false,
            holds: false,
            lives: 0,
            volumes,
            pods_made: 0,
        }
    }

    pub(crate) fn actor(&self, op: Op) -> usize {
        debug_assert!(op < self.operators.len(), "there are two operators");
        NODES + op
    }

    /// True when what `from` sends arrives at `to`.
    pub(crate) fn sends(&self, from: usize, to: usize) -> bool {
        !self.cut[from][to]
    }

    /// True when what node `from` sends arrives at node `to`.
    pub(crate) fn reaches(&self, from: Node, to: Node) -> bool {
        self.sends(from, to)
    }

    /// Lets `event` happen; false where it cannot.
    pub fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Wait { ms } => {
                self.now += ms;
                let now = self.now;
                self.wires.retain(|wire| now - wire.sent < COMMAND_LIFE);
                self.replication_time();
                self.guards_look();
                true
            }
            Event::Look { op } => op < OPERATORS && self.look(op),
            Event::Api { nth } => self.serve(nth),
            Event::LoseRequest { nth } => {
                nth < self.requests.len() && {
                    self.requests.remove(nth);
                    true
                }
            }
            Event::Answer { op } => self.answer(op, false),
            Event::LoseAnswer { op } => self.answer(op, true),
            Event::WatchPods { op } => self.watch(op, true),
            Event::WatchResource { op } => self.watch(op, false),
            Event::Connect { op, node } => self.connect(op, node),
            Event::Break { op, node } => self.break_session(op, node),
            Event::Deliver { node, nth, keep } => self.deliver(node, nth, keep),
            Event::LoseCommand { node, nth } => self.nth_wire(node, nth).is_some_and(|at| {
                self.wires.remove(at);
                true
            }),
            Event::Report { node } => self.tell(node),
            Event::Hear { op, node } => self.hear(op, node),
            Event::Work { node } => self.work(node),
            Event::Copy { node } => self.copy(node),
            Event::Write { node } => self.write(node),
            Event::Attach { node } => self.attach(node),
            Event::Ship { node } => self.ship(node),
            Event::Ack { node } => self.acknowledge(node),
            Event::Detach { node } => self.detach(node),
            Event::Apply { node } => self.execute(node),
            Event::Boot { node } => self.boot(node),
            Event::Uncut { node } => self.start_uncut(node),
            Event::Open { node } => self.open_slave(node),
            Event::Purge { node } => self.purge(node),
            fault => self.suffer(fault),
        }
    }

    /// Faults and what people do.
    fn suffer(&mut self, event: Event) -> bool {
        match event {
            Event::KillServer { node } => self.crash(node),
            Event::KillAgent { node } => self.kill_agent(node),
            Event::StartAgent { node } => self.start_agent(node),
            Event::Freeze { node } => self.freeze(node, true),
            Event::Thaw { node } => self.freeze(node, false),
            Event::FreezeAgent { node } => self.freeze_agent(node, true),
            Event::ThawAgent { node } => self.freeze_agent(node, false),
            Event::Errant { node } => self.errant(node),
            Event::Diverge { node } => self.diverge(node),
            Event::LoseVolume { node } => self.lose_volume(node),
            Event::Damage { node } => self.damage(node),
            Event::LosePower { node } => self.lose_power(node),
            Event::Cut { from, to } => self.set_cut(from, to, true),
            Event::Heal { from, to } => self.set_cut(from, to, false),
            Event::KillOperator { op } => self.set_operator(op, false),
            Event::StartOperator { op } => self.set_operator(op, true),
            Event::Wish { node } => self.api.wish.replace(node) != Some(node),
            Event::Force { node, typed } => {
                let typed = (node, typed);
                if !self.ledger.typed.contains(&typed) {
                    self.ledger.typed.push(typed);
                }
                self.api.asked.force.replace(typed) != Some(typed)
            }
            Event::Resync { node } => self.api.asked.resync.replace(node) != Some(node),
            Event::Fence { node } => {
                self.api.asked.fence ^= 1 << node;
                true
            }
            Event::Pause => {
                self.api.asked.paused ^= true;
                true
            }
            Event::Resize { nodes } => std::mem::replace(&mut self.api.nodes, nodes.clamp(1, MOST)) != nodes,
            Event::DeletePod { node } => self.delete_pod(node),
            Event::ForceDelete { node } => self.api.pods[node].take().is_some(),
            Event::EndPod { node } => self.end_pod(node),
            Event::Reconcile => self.reconcile(),
            _ => false,
        }
    }

    fn nth_wire(&self, node: Node, nth: usize) -> Option<usize> {
        self.wires
            .iter()
            .enumerate()
            .filter(|(_, wire)| wire.node == node)
            .nth(nth)
            .map(|(at, _)| at)
    }

    fn deliver(&mut self, node: Node, nth: usize, keep: bool) -> bool {
        let Some(at) = self.nth_wire(node, nth) else {
            return false;
        };
        let wire = &self.wires[at];
        let machine = &self.machines[node];
        let there = machine.agent.up && !machine.agent.frozen && machine.pod == wire.pod;
        if !there || !self.sends(self.actor(wire.command.from.0), node) {
            return false;
        }
        let command = if keep {
            wire.command.clone()
        } else {
            self.wires.remove(at).command
        };
        self.take_command(node, command);
        true
    }

    fn start_agent(&mut self, node: Node) -> bool {
        let machine = &mut self.machines[node];
        let starts = machine.pod != 0 && !machine.agent.up;
        machine.agent.up |= starts;
        if starts && machine.is_held() {
            machine.held_since = self.now;
        }
        starts
    }

    fn freeze(&mut self, node: Node, stop: bool) -> bool {
        let now = self.now;
        let Some(server) = &mut self.machines[node].server else {
            return false;
        };
        if server.frozen.is_some() == stop {
            return false;
        }
        server.frozen = stop.then_some(now);
        if !stop {
            self.settle(node);
        }
        true
    }

    fn freeze_agent(&mut self, node: Node, stop: bool) -> bool {
        let agent: &mut Agent = &mut self.machines[node].agent;
        agent.up && std::mem::replace(&mut agent.frozen, stop) != stop
    }

    /// A volume may be lost as long as enough members keep theirs: more losses at once are beyond what N and W bear.
    fn may_lose(&self, node: Node) -> bool {
        let intact = self.intact_members();
        let is_member = intact.contains(&node);
        let first = self.awaits_first_master();
        let held = self.machines[node].disk.holds() & (self.ledger.acknowledged | self.ledger.readable);
        if first && held.iter().any(|txn| self.holders(txn, node) == 0) {
            // Members of a database that never led are entered empty, so the quorum says nothing of copies yet.
            return false;
        }
        let left = intact.len() - usize::from(is_member);
        self.machines[node].pod != 0
            && left >= self.api.record.fence_quorum().max(1)
            && self.api.record.size != 0
    }

    /// No master was recorded yet. Should the one that rests be lost, it is begun anew.
    fn awaits_first_master(&self) -> bool {
        let intent = self.api.record.intent.as_ref();
        intent.is_some_and(|it| match it.kind {
            failover::Kind::Bootstrap => true,
            failover::Kind::Rest => it.from.is_none(),
            _ => false,
        })
    }

    /// The data is kept as it is, and mysqld ends at each start. A database that never led waits for all its nodes, so
    /// there a person has to replace the volume.
    fn damage(&mut self, node: Node) -> bool {
        if self.awaits_first_master() || self.machines[node].disk.damaged || !self.may_lose(node) {
            return false;
        }
        self.crash(node);
        self.machines[node].disk.damaged = true;
        true
    }

    fn lose_volume(&mut self, node: Node) -> bool {
        if !self.may_lose(node) {
            return false;
        }
        self.stop_machine(node);
        self.api.pods[node] = None;
        self.wipe(node);
        true
    }

    /// The volume is made anew, and with it everything durable.
    pub(crate) fn wipe(&mut self, node: Node) {
        self.volumes += 1;
        let memory = Memory {
            volume: self.volumes,
            ..Memory::default()
        };
        self.machines[node].disk = Disk {
            memory,
            uuid: self.volumes,
            ..Disk::default()
        };
    }

    /// Members whose volume is the one of the record and can be read.
    pub fn intact_members(&self) -> Vec<Node> {
        let same = |node: &Node| {
            if self.machines[*node].disk.damaged {
                return false;
            }
            let volume = crate::machine::volume_text(self.machines[*node].disk.memory.volume);
            self.api
                .record
                .members
                .get(&crate::machine::name(*node))
                .is_some_and(|known| known.as_str() == volume)
        };
        (0..NODES).filter(same).collect()
    }

    fn set_cut(&mut self, from: usize, to: usize, cut: bool) -> bool {
        from < ACTORS && to < ACTORS && from != to && std::mem::replace(&mut self.cut[from][to], cut) != cut
    }

    fn set_operator(&mut self, op: Op, up: bool) -> bool {
        if op >= OPERATORS || self.operators[op].up == up {
            return false;
        }
        self.operators[op] = Operator::new(up, self.operators[op].life + 1);
        self.verdicts[op] = None;
        true
    }

    /// A number for the whole state; equal states have equal numbers, whatever the order in which they came about.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut wires: Vec<&Wire> = self.wires.iter().collect();
        // Only the order of those to one node matters.
        wires.sort_by_key(|wire| wire.node);
        wires.hash(&mut hasher);
        (self.now, &self.machines, &self.operators, &self.ledger).hash(&mut hasher);
        (&self.api, &self.requests, self.cut).hash(&mut hasher);
        hasher.finish()
    }
}
