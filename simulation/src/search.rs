//! Every order of a small world's moves: breadth first from a given state, each state seen once.
//!
//! A move is what one party does without being interrupted; the random runs interrupt everywhere. Faults are bounded
//! by a budget, so that the search ends.

use std::collections::HashSet;

use crate::{
    event::{Event, Node},
    invariant::Violation,
    world::{Beginning, World},
};

/// What one party does in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The operator takes in all that reaches it and looks.
    Operator,
    /// The API server serves all requests.
    Api,
    /// The agent takes its commands and carries them out.
    Agent(Node),
    /// The slave receives, acknowledges and executes all there is.
    Replicate(Node),
    /// A client writes to the node.
    Write(Node),
    /// So much time passes that silence becomes evidence.
    Silence,
    /// mysqld dies and boots again: one fault.
    Crash(Node),
    /// mysqld dies and stays away: one fault.
    Kill(Node),
    /// Nobody reaches the node any more: one fault.
    Isolate(Node),
    /// The operator begins with an empty memory: one fault.
    Forget,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Moves that were tried.
    pub moves: u64,
    /// The first broken rule with the moves that lead to it.
    pub violation: Option<(Violation, Vec<Move>)>,
}

/// Searches all orders of at most `depth` moves with at most `faults` faults, from a led database of three nodes.
pub fn search(depth: usize, faults: u32) -> Found {
    let mut seen = HashSet::new();
    let mut layer = vec![(led(), Vec::new(), faults)];
    let mut moves = 0;
    for _ in 0..depth {
        let mut next = Vec::new();
        for (world, path, left) in &layer {
            for step in alphabet(*left > 0) {
                let mut after = world.clone();
                if !make(&mut after, step) {
                    continue;
                }
                moves += 1;
                let path: Vec<Move> = path.iter().copied().chain([step]).collect();
                if let Some(violation) = after.violation.clone() {
                    let states = seen.len();
                    return Found {
                        states,
                        moves,
                        violation: Some((violation, path)),
                    };
                }
                let left = left - u32::from(is_fault(step));
                if seen.insert((after.fingerprint(), left)) {
                    next.push((after, path, left));
                }
            }
        }
        layer = next;
    }
    Found {
        states: seen.len(),
        moves,
        violation: None,
    }
}

/// A database of three nodes with a master, two slaves and two writes.
fn led() -> World {
    let mut world = World::new(
        Beginning {
            nodes: 3,
            quarantine: false,
            available: false,
            kept: false,
        },
        None,
    );
    let mut events = 0;
    let whole = world.recover(&mut events);
    debug_assert!(whole.is_ok(), "{whole:?}");
    world
}

fn is_fault(step: Move) -> bool {
    matches!(
        step,
        Move::Crash(_) | Move::Kill(_) | Move::Isolate(_) | Move::Forget
    )
}

fn alphabet(faults: bool) -> Vec<Move> {
    let mut all = vec![Move::Operator, Move::Api, Move::Silence];
    for node in 0..3 {
        all.extend([Move::Agent(node), Move::Replicate(node), Move::Write(node)]);
        if faults {
            all.extend([Move::Crash(node), Move::Kill(node), Move::Isolate(node)]);
        }
    }
    all.extend(faults.then_some(Move::Forget));
    all
}

/// Makes the move; false where it changes nothing.
fn make(world: &mut World, step: Move) -> bool {
    match step {
        Move::Operator => operator(world),
        Move::Api => all(world, Event::Api { nth: 0 }),
        Move::Agent(node) => agent(world, node),
        Move::Replicate(node) => {
            let mut did = world.apply(Event::Attach { node });
            did |= all(world, Event::Ship { node });
            did |= all(world, Event::Ack { node });
            did | all(world, Event::Apply { node })
        }
        Move::Write(node) => world.apply(Event::Write { node }),
        Move::Silence => world.now < 10_000 && world.apply(Event::Wait { ms: 1500 }),
        Move::Crash(node) => world.apply(Event::KillServer { node }) && world.apply(Event::Boot { node }),
        Move::Kill(node) => world.apply(Event::KillServer { node }),
        Move::Isolate(node) => (0..8).fold(false, |did, other| {
            let to = world.apply(Event::Cut {
                from: node,
                to: other,
            });
            did | to
                | world.apply(Event::Cut {
                    from: other,
                    to: node,
                })
        }),
        Move::Forget => {
            world.apply(Event::KillOperator { op: 0 }) && world.apply(Event::StartOperator { op: 0 })
        }
    }
}

fn all(world: &mut World, event: Event) -> bool {
    let mut did = false;
    while world.apply(event) {
        did = true;
    }
    did
}

fn operator(world: &mut World) -> bool {
    let op = 0;
    all(world, Event::Answer { op });
    world.apply(Event::WatchPods { op });
    world.apply(Event::WatchResource { op });
    for node in 0..3 {
        world.apply(Event::Connect { op, node });
        world.apply(Event::Report { node });
        all(world, Event::Hear { op, node });
    }
    world.apply(Event::Look { op })
}

fn agent(world: &mut World, node: Node) -> bool {
    let mut did = all(
        world,
        Event::Deliver {
            node,
            nth: 0,
            keep: false,
        },
    );
    for _ in 0..12 {
        if world.apply(Event::Work { node }) {
            did = true;
        } else if world.machines[node].agent.running.is_some() {
            // A command that waits is given the time it waits for.
            world.apply(Event::Apply { node });
            world.apply(Event::Boot { node });
            world.apply(Event::Wait { ms: 60 });
        }
    }
    did | world.apply(Event::Open { node })
}
