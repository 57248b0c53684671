//! Draws events. Each run has its own mixture of faults, so that rare ones also meet each other; in between the
//! system is given the ordinary events that carry it on, in any order.

use rand::{Rng as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    event::Event,
    world::{Beginning, NODES, OPERATORS, World},
};

/// What can be drawn as a fault.
const FAULTS: usize = 24;
/// Milliseconds for which an agent waits to be told what to cut off.
const HELD: u64 = 3000;
/// Most databases have no more nodes than this.
const USUAL: usize = 5;

/// A source of events.
pub struct Generator {
    rng: ChaCha8Rng,
    ordinary: Vec<Event>,
    /// Faults in ten thousand events.
    fault_rate: u32,
    /// Events out of their order in ten thousand.
    chaos_rate: u32,
    /// The kinds of fault of this run.
    kinds: Vec<usize>,
    /// Appliers are slow, so that much is received and not executed.
    lags: bool,
    /// What people do, where they do anything; drawn apart, so that the other runs stay as they were.
    people: Option<ChaCha8Rng>,
    /// The API server is slow and takes requests in any order, where it is; drawn apart too.
    slow: Option<ChaCha8Rng>,
    /// The sizes of a large database, where it is one; drawn apart too.
    large: Option<ChaCha8Rng>,
    /// Machines lose their power, where they do; drawn apart too.
    power: Option<ChaCha8Rng>,
    /// Whether killed masters are kept down; drawn apart too.
    holds: bool,
    /// What is still to happen of a disaster, or of its end.
    disaster: Vec<Event>,
}

impl Generator {
    /// The mixture of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut kinds: Vec<usize> = (0..FAULTS).collect();
        kinds.shuffle(&mut rng);
        kinds.truncate(rng.random_range(2..=10));
        let fault_rate = [20, 60, 150, 400][rng.random_range(0..4)];
        let chaos_rate = [0, 100, 1000, 4000][rng.random_range(0..4)];
        let lags = rng.random_ratio(1, 4);
        let mut people = ChaCha8Rng::seed_from_u64(!seed);
        let people = people.random_ratio(1, 4).then_some(people);
        let mut slow = ChaCha8Rng::seed_from_u64(seed.rotate_left(32));
        let slow = slow.random_ratio(1, 8).then_some(slow);
        let mut large = ChaCha8Rng::seed_from_u64(!seed.rotate_left(32));
        let large = large.random_ratio(1, 6).then_some(large);
        let mut power = ChaCha8Rng::seed_from_u64(seed.rotate_left(16));
        let holds = power.random_ratio(1, 2);
        let power = (holds && power.random_ratio(1, 4)).then_some(power);
        Self {
            rng,
            ordinary: Vec::new(),
            fault_rate,
            chaos_rate,
            kinds,
            lags,
            people,
            slow,
            large,
            power,
            holds,
            disaster: Vec::new(),
        }
    }

    /// What the run begins with.
    pub fn beginning(&mut self) -> Beginning {
        let nodes = [3, 3, 3, 5, 2, 1, 4][self.rng.random_range(0..7)];
        let large = self.large.as_mut().map(|large| large.random_range(6..=9));
        Beginning {
            nodes: large.unwrap_or(nodes),
            quarantine: self.rng.random_ratio(1, 8),
            kept: self.rng.random_ratio(1, 8),
            available: self
                .people
                .as_mut()
                .is_some_and(|people| people.random_ratio(1, 2)),
            holds: self.holds,
        }
    }

    /// The next event.
    pub fn next(&mut self, world: &World) -> Event {
        if let Some(command) = self.command(world) {
            return command;
        }
        let most = self.span().min(world.api.nodes as usize);
        if let Some(power) = &mut self.power
            && power.random_ratio(1, 150)
        {
            let node = power.random_range(0..most.max(1));
            return Event::LosePower { node };
        }
        let draw = self.rng.random_range(0..10_000);
        // The database is given time to begin before it is attacked.
        let begun = world.api.record.master.is_some() || self.rng.random_ratio(1, 3);
        if draw < self.fault_rate && begun {
            let kind = self.kinds[self.rng.random_range(0..self.kinds.len())];
            return self.fault(kind, world);
        }
        if self.ordinary.is_empty() {
            self.ordinary = round(world);
            self.ordinary.shuffle(&mut self.rng);
            let ms = [1, 5, 20, 60, 300][self.rng.random_range(0..5)];
            self.ordinary.push(Event::Wait { ms });
        }
        if draw < self.fault_rate + self.chaos_rate {
            return self.out_of_order(world);
        }
        let next = self.ordinary.pop();
        if let (Some(slow), Some(Event::Api { .. })) = (&mut self.slow, next) {
            let nth = slow.random_range(0..world.requests.len().max(1));
            return if slow.random_ratio(1, 8) {
                Event::Api { nth }
            } else {
                Event::Wait { ms: 1 }
            };
        }
        match next {
            Some(Event::Apply { .. }) if self.lags && self.rng.random_ratio(9, 10) => Event::Wait { ms: 1 },
            event => event.unwrap_or(Event::Wait { ms: 10 }),
        }
    }

    fn node(&mut self, world: &World) -> usize {
        // The master is where it hurts.
        let master = world.api.record.master.as_ref().map(crate::ledger::index);
        match master {
            Some(master) if self.rng.random_ratio(2, 5) => master,
            _ => {
                let most = self.span().min(world.api.nodes as usize + 1);
                self.rng.random_range(0..most)
            }
        }
    }

    /// So many nodes the run can have.
    fn span(&self) -> usize {
        if self.large.is_some() { NODES } else { USUAL }
    }

    /// What somebody commands; mostly of use where the engine waits for a person.
    fn command(&mut self, world: &World) -> Option<Event> {
        if let Some(next) = self.disaster.pop() {
            return Some(next);
        }
        let span = self.span();
        let people = self.people.as_mut()?;
        world
            .api
            .record
            .master
            .as_ref()
            .or(world.api.record.intent.as_ref()?.from.as_ref())?;
        let blocked = world
            .verdicts
            .iter()
            .flatten()
            .find(|verdict| verdict.decision == failover::Decision::Blocked);
        let term = world.api.record.term.0;
        if let Some(last) = blocked.and_then(|verdict| verdict.last_resort.as_ref())
            && people.random_ratio(1, 15)
        {
            let node = match &last.candidate {
                Some(node) if people.random_ratio(4, 5) => crate::ledger::index(node),
                _ => people.random_range(0..span),
            };
            let typed = [term, term, term, term + 1, term.saturating_sub(1)][people.random_range(0..5)];
            return Some(Event::Force { node, typed });
        }
        if people.random_ratio(1, 200) {
            self.disaster = disaster(world);
        }
        if !people.random_ratio(1, 150) {
            return None;
        }
        let node = people.random_range(0..span.min(world.api.nodes as usize));
        Some(match people.random_range(0..9) {
            0 | 1 => Event::Resync { node },
            2 | 3 => Event::Fence { node },
            4 => Event::Pause,
            5 => Event::Force { node, typed: term },
            6 => Event::Diverge { node },
            // Most of the time a database is neither paused nor fenced.
            _ if world.api.asked.paused => Event::Pause,
            _ => (0..NODES)
                .find(|node| world.api.asked.fence & (1 << node) != 0)
                .map_or(Event::Resync { node }, |node| Event::Fence { node }),
        })
    }

    fn out_of_order(&mut self, world: &World) -> Event {
        let (node, op) = (self.node(world), self.rng.random_range(0..OPERATORS));
        let nth = self.rng.random_range(0..4);
        match self.rng.random_range(0..14) {
            0 => Event::Api { nth },
            1 => Event::LoseRequest { nth },
            2 => Event::LoseAnswer { op },
            3 => Event::Deliver {
                node,
                nth,
                keep: true,
            },
            4 | 5 => Event::Deliver {
                node,
                nth,
                keep: false,
            },
            6 => Event::LoseCommand { node, nth },
            7 => Event::Break { op, node },
            8 => Event::Detach { node },
            9 => Event::Write { node },
            10 => Event::Wait {
                ms: [100, 500, 1200, 3000][nth],
            },
            11 => Event::Look { op },
            12 => Event::Ship { node },
            _ => Event::Work { node },
        }
    }

    fn fault(&mut self, kind: usize, world: &World) -> Event {
        let (node, op) = (self.node(world), self.rng.random_range(0..OPERATORS));
        let span = self.span();
        let actors = span + OPERATORS + 1;
        let mut actor = || {
            let drawn = self.rng.random_range(0..actors);
            // What is no node comes after all nodes that there can be.
            if drawn < span { drawn } else { drawn - span + NODES }
        };
        let (from, to) = (actor(), actor());
        let cut = |from: usize, to: usize| {
            if world.cut[from][to] {
                Event::Heal { from, to }
            } else {
                Event::Cut { from, to }
            }
        };
        match kind {
            0 | 1 => Event::KillServer { node },
            2 | 3 => Event::KillAgent { node },
            4 if world.machines[node]
                .server
                .as_ref()
                .is_some_and(|it| it.frozen.is_some()) =>
            {
                Event::Thaw { node }
            }
            4 | 5 => Event::Freeze { node },
            6 if world.machines[node].agent.frozen => Event::ThawAgent { node },
            6 => Event::FreezeAgent { node },
            7 if op == 0 => Event::Damage { node },
            7 => Event::LoseVolume { node },
            8 => cut(node, to),
            9 => cut(from, node),
            10 => cut(from, to),
            11 => cut(node, self.rng.random_range(0..span)),
            12 => Event::Heal { from, to },
            13 => Event::Thaw { node },
            14 | 15 => Event::KillOperator { op },
            16 => Event::StartOperator { op: 1 },
            17 => Event::Wish { node },
            18 => {
                let nodes = [3, 5, 3, 2, 4][self.rng.random_range(0..5)];
                let large = self.large.as_mut().map(|large| large.random_range(1..=9));
                Event::Resize {
                    nodes: large.unwrap_or(nodes),
                }
            }
            19 => Event::DeletePod { node },
            20 => Event::ForceDelete { node },
            21 => Event::Errant { node },
            22 => Event::Purge { node },
            _ => Event::Detach { node },
        }
    }
}

/// So many nodes stand still at once, the master among them, that the rest is no quorum; or, if any does, they go on.
fn disaster(world: &World) -> Vec<Event> {
    let still = |node: &usize| world.machines[*node].agent.frozen;
    if (0..NODES).any(|node| still(&node)) {
        let nodes = (0..NODES).filter(still);
        return nodes
            .flat_map(|node| [Event::Thaw { node }, Event::ThawAgent { node }])
            .collect();
    }
    let record = &world.api.record;
    let master = record.master.as_ref().map(crate::ledger::index);
    let members = record.members.keys().map(crate::ledger::index);
    let others = members.filter(|node| Some(*node) != master);
    let lost = (record.size as usize + 1).saturating_sub(record.fence_quorum());
    let lost = master.into_iter().chain(others).take(lost);
    let stop = lost.flat_map(|node| [Event::Freeze { node }, Event::FreezeAgent { node }]);
    // Taken from the end: so long after it that silence has become evidence.
    [Event::Wait { ms: 2600 }, Event::Wait { ms: 1200 }]
        .into_iter()
        .chain(stop)
        .collect()
}

/// Everything that carries the system on from here.
pub fn round(world: &World) -> Vec<Event> {
    let mut all = vec![Event::Reconcile];
    all.extend((0..world.requests.len()).map(|_| Event::Api { nth: 0 }));
    for (op, operator) in world.operators.iter().enumerate() {
        if !operator.up {
            all.extend((op == 0).then_some(Event::StartOperator { op }));
            continue;
        }
        all.extend([
            Event::WatchPods { op },
            Event::WatchResource { op },
            Event::Look { op },
        ]);
        all.extend(operator.answers.iter().map(|_| Event::Answer { op }));
    }
    for (node, machine) in world
        .machines
        .iter()
        .enumerate()
        .filter(|(_, machine)| machine.pod != 0)
    {
        if world.api.pods[node].as_ref().is_none_or(|pod| pod.deleting) {
            all.push(Event::EndPod { node });
        }
        for (op, operator) in world.operators.iter().enumerate().filter(|(_, it)| it.up) {
            all.push(if operator.links[node].alive {
                Event::Hear { op, node }
            } else {
                Event::Connect { op, node }
            });
            all.extend(
                operator.links[node]
                    .inbox
                    .iter()
                    .map(|_| Event::Hear { op, node }),
            );
        }
        all.extend(
            world
                .wires
                .iter()
                .filter(|wire| wire.node == node)
                .map(|_| Event::Deliver {
                    node,
                    nth: 0,
                    keep: false,
                }),
        );
        all.push(if machine.agent.up {
            Event::Report { node }
        } else {
            Event::StartAgent { node }
        });
        machine_round(world, node, &mut all);
    }
    all
}

fn machine_round(world: &World, node: usize, all: &mut Vec<Event>) {
    let machine = &world.machines[node];
    if machine.agent.running.is_some() || !machine.agent.queue.is_empty() {
        all.extend([Event::Work { node }; 4]);
    }
    if machine.agent.cloning.is_some() {
        all.push(Event::Copy { node });
    }
    let Some(server) = &machine.server else {
        // The wait for a word on what to cut off has an end.
        let waited = machine.is_held() && world.now.saturating_sub(machine.held_since) > HELD;
        return all.push(if waited {
            Event::Uncut { node }
        } else {
            Event::Boot { node }
        });
    };
    if server.receiver {
        all.push(if server.connected {
            Event::Ship { node }
        } else {
            Event::Attach { node }
        });
        all.extend([Event::Ship { node }; 2]);
    }
    all.extend(machine.sent.iter().map(|_| Event::Ack { node }));
    all.extend(machine.disk.relay.iter().take(3).map(|_| Event::Apply { node }));
    if server.offline && server.read_only {
        all.push(Event::Open { node });
    }
    if !server.read_only && !server.offline {
        all.push(Event::Write { node });
    }
}
