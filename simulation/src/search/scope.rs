//! From where a search begins and how far it goes.

use super::{
    Move, master,
    moves::{isolate, make},
};
use crate::{
    event::{Event, Node},
    generate::round,
    machine::Order,
    mutant::Mutant,
    world::{Beginning, World},
};

/// How much may happen of what has no end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Faults.
    pub faults: u8,
    /// Writes of clients.
    pub writes: u8,
    /// Times that pass without anything.
    pub silences: u8,
    /// Looks of the second operator.
    pub second: u8,
}

impl Budget {
    /// What is left after `step`.
    #[must_use]
    pub fn after(self, step: Move) -> Self {
        let one = |spent: bool| u8::from(spent);
        Self {
            faults: self.faults.saturating_sub(one(step.is_fault())),
            writes: self.writes.saturating_sub(one(matches!(step, Move::Write(_)))),
            silences: self
                .silences
                .saturating_sub(one(matches!(step, Move::Silence | Move::Moment))),
            second: self
                .second
                .saturating_sub(one(matches!(step, Move::Look(1) | Move::Blind(1)))),
        }
    }
}

/// A state of three nodes to begin from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The master's mysqld has died when one slave had received a write whose acknowledgement was under way.
    Killed,
    /// The master is cut off with a commit that waits, and a term was taken.
    CutOff,
    /// The master and its agent stand still in the same moment, and a term was taken.
    Frozen,
    /// Somebody asks for another master while a commit waits.
    HandingOver,
    /// The candidate of a failover is told to lead.
    Promoting,
    /// The master's mysqld has died, and two operators have the same record and see it.
    TwoOperators,
    /// Both slaves have to copy the master, and a commit that waits for them holds the first copy up.
    Resting,
}

/// One search.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Its name.
    pub name: &'static str,
    /// From where.
    pub start: Start,
    /// How far.
    pub budget: Budget,
    /// Agents are interrupted between any two statements.
    pub fine: bool,
}

/// The searches that a test makes.
pub const SCOPES: [Scope; 7] = [
    scope("killed", Start::Killed, [0, 1, 0, 0], false),
    scope("cutOff", Start::CutOff, [0, 1, 0, 0], false),
    scope("frozen", Start::Frozen, [0, 1, 0, 0], false),
    scope("handingOver", Start::HandingOver, [0, 1, 0, 0], false),
    scope("promoting", Start::Promoting, [0, 1, 0, 0], true),
    scope("twoOperators", Start::TwoOperators, [0, 1, 0, 2], false),
    scope("resting", Start::Resting, [0, 1, 1, 0], false),
];

const fn scope(name: &'static str, start: Start, budget: [u8; 4], fine: bool) -> Scope {
    let [faults, writes, silences, second] = budget;
    Scope {
        name,
        start,
        budget: Budget {
            faults,
            writes,
            silences,
            second,
        },
        fine,
    }
}

impl Scope {
    /// The state to begin from, reached without the mutant, which is there from then on.
    pub(super) fn world(&self, mutant: Option<Mutant>) -> World {
        let mut world = match self.start {
            Start::Killed => killed(),
            Start::CutOff => cut_off(),
            Start::Frozen => frozen(),
            Start::HandingOver => handing_over(),
            Start::Promoting => promoting(),
            Start::TwoOperators => two_operators(),
            Start::Resting => resting(),
        };
        debug_assert!(world.violation.is_none(), "{:?}", world.violation);
        world.mutant = mutant;
        world
    }
}

/// A database with a master, slaves that hold what it holds, and acknowledged writes.
fn led() -> World {
    let beginning = Beginning {
        nodes: 3,
        quarantine: false,
        available: false,
        kept: false,
        holds: true,
    };
    let mut world = World::new(beginning, None);
    let whole = world.recover(&mut 0);
    debug_assert!(whole.is_ok(), "{whole:?}");
    world
}

/// A commit waits at the master, and one slave's acknowledgement of it is under way.
fn loaded() -> (World, Node) {
    let mut world = led();
    let master = master(&world);
    make(&mut world, Move::Write(master));
    make(&mut world, Move::Receive((master + 1) % 3));
    debug_assert!(
        world.machines.iter().any(|it| !it.sent.is_empty()),
        "one acknowledges"
    );
    (world, master)
}

fn killed() -> World {
    let (mut world, master) = loaded();
    make(&mut world, Move::Kill(master));
    world
}

fn cut_off() -> World {
    let (mut world, master) = loaded();
    isolate(&mut world, master);
    take_term(&mut world);
    world
}

fn frozen() -> World {
    let (mut world, master) = loaded();
    make(&mut world, Move::Freeze(master));
    take_term(&mut world);
    world
}

/// Silence goes on until the operator takes a term.
fn take_term(world: &mut World) {
    until(world, 300, &[Move::Look(0), Move::Api(0)], |world| {
        world.api.record.intent.is_some()
    });
}

fn handing_over() -> World {
    let (mut world, master) = loaded();
    world.apply(Event::Wish {
        node: (master + 1) % 3,
    });
    world
}

fn promoting() -> World {
    let mut world = killed();
    let steps = [
        Move::Look(0),
        Move::Api(0),
        Move::Agent(0),
        Move::Agent(1),
        Move::Agent(2),
    ];
    until(&mut world, 0, &steps, |world| {
        let promotes = |order: &Order| matches!(order, Order::Promote { .. });
        world.wires.iter().any(|wire| promotes(&wire.command.order))
    });
    world
}

fn two_operators() -> World {
    let (mut world, master) = loaded();
    world.apply(Event::StartOperator { op: 1 });
    make(&mut world, Move::Look(1));
    make(&mut world, Move::Kill(master));
    world
}

/// Both slaves have to copy the master: one lost its volume, the other lacks what the master has purged. One copy has
/// begun, and a commit holds it up.
fn resting() -> World {
    let mut world = led();
    let master = master(&world);
    let (holds, lacks) = ((master + 1) % 3, (master + 2) % 3);
    make(&mut world, Move::Kill(lacks));
    for step in [
        Move::Write(master),
        Move::Receive(holds),
        Move::Acknowledge(holds),
    ] {
        make(&mut world, step);
    }
    world.apply(Event::Purge { node: master });
    world.apply(Event::LoseVolume { node: holds });
    make(&mut world, Move::Boot(lacks));
    make(&mut world, Move::Write(master));
    for _ in 0..100 {
        let all = round(&world).into_iter();
        for event in all.filter(|event| !matches!(event, Event::Write { .. })) {
            if world.machines.iter().any(|machine| machine.agent.copies()) {
                return world;
            }
            world.apply(event);
        }
    }
    debug_assert!(false, "it is not copied: {}", world.picture());
    world
}

/// Makes `steps` in turn, with `ms` milliseconds between two rounds, until `reached`.
fn until(world: &mut World, ms: u64, steps: &[Move], reached: impl Fn(&World) -> bool) {
    for _ in 0..100 {
        for step in steps {
            make(world, *step);
            if reached(world) {
                return;
            }
        }
        world.apply(Event::Wait { ms });
    }
    debug_assert!(false, "not reached: {}", world.picture());
}
