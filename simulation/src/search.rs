//! Every order of a small world's moves, from states in which something decisive is about to happen.
//!
//! A move is what one party does without being interrupted; the random runs interrupt everywhere. Budgets bound the
//! faults, the writes, the time that passes and the looks of a second operator, and nothing else does: a search goes
//! on until no move leads to a state that was not seen. States are told apart by one number, in which the order of what
//! is independent does not count, and what commutes with everything else is done at once: what is sent to the operator
//! reaches it, and slaves execute only when a command waits for it. From one state in so many everything is healed, and
//! must become whole.

mod moves;
mod scope;

use std::collections::HashSet;

use serde::Serialize;

pub use self::{
    moves::Move,
    scope::{Budget, SCOPES, Scope, Start},
};
use crate::{event::Node, invariant::Violation, ledger::index, mutant::Mutant, world::World};

/// From one state in so many it is tried whether the database recovers.
const HEALED: u64 = 256;

/// What a search found.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Different states.
    pub states: u64,
    /// Moves that were made.
    pub moves: u64,
    /// Nothing is left to be searched.
    pub complete: bool,
    /// The longest order of moves.
    pub longest: usize,
    /// States in which a newer term than that of the beginning has promoted somebody.
    pub promoted: u64,
    /// States in which a client was told OK in a newer term.
    pub acknowledged: u64,
    /// The same by another node than the master of the beginning.
    pub moved: u64,
    /// States from which the database was healed, and became whole.
    pub healed: u64,
    /// The first broken rule with the moves that lead to it.
    pub violation: Option<(Violation, Vec<Move>)>,
}

/// A state with the moves that were not tried in it yet.
struct Frame {
    world: World,
    left: Budget,
    rest: Vec<Move>,
    by: Option<Move>,
}

/// Searches all orders of moves in `scope`, with the rule broken that `mutant` names, until `limit` states are known.
pub fn search(scope: &Scope, mutant: Option<Mutant>, limit: u64) -> Found {
    let start = scope.world(mutant);
    let before = Before::of(&start);
    let mut seen = HashSet::new();
    let mut found = Found::default();
    seen.insert((start.fingerprint(), scope.budget));
    let mut stack = vec![Frame {
        rest: moves::possible(&start, scope, scope.budget),
        world: start,
        left: scope.budget,
        by: None,
    }];
    while let Some(frame) = stack.last_mut() {
        if found.states >= limit {
            return found;
        }
        let Some(step) = frame.rest.pop() else {
            stack.pop();
            continue;
        };
        let mut after = frame.world.clone();
        if !moves::make(&mut after, step) {
            continue;
        }
        found.moves += 1;
        let left = frame.left.after(step);
        let number = after.fingerprint();
        let is_new = after.violation.is_none() && seen.insert((number, left));
        if is_new && number.is_multiple_of(HEALED) {
            let mut healed = after.clone();
            after.violation = healed.recover(&mut 0).err();
            found.healed += u64::from(after.violation.is_none());
        }
        if let Some(violation) = after.violation {
            let path = stack.iter().filter_map(|frame| frame.by).chain([step]);
            found.violation = Some((violation, path.collect()));
            return found;
        }
        if !is_new {
            continue;
        }
        before.count(&after, &mut found);
        let mut rest = moves::possible(&after, scope, left);
        if !rest.is_empty() {
            // A search that is broken off has tried something of everything.
            let first = usize::try_from(number >> 32).unwrap_or(0) % rest.len();
            rest.rotate_left(first);
        }
        stack.push(Frame {
            rest,
            world: after,
            left,
            by: Some(step),
        });
        found.longest = found.longest.max(stack.len() - 1);
    }
    found.complete = true;
    found
}

/// Drops moves that the violation does not need.
pub fn shrink(scope: &Scope, mutant: Option<Mutant>, path: &[Move]) -> Vec<Move> {
    let play = |path: &[Move]| {
        let mut world = scope.world(mutant);
        for step in path {
            moves::make(&mut world, *step);
        }
        world
    };
    let heals = play(path).violation.is_none();
    let breaks = |path: &[Move]| {
        let mut world = play(path);
        world.violation.is_some() || (heals && world.recover(&mut 0).is_err())
    };
    let mut best = path.to_vec();
    let mut at = 0;
    while at < best.len() {
        let mut fewer = best.clone();
        fewer.remove(at);
        if breaks(&fewer) {
            best = fewer;
        } else {
            at += 1;
        }
    }
    best
}

/// Who led when the search began.
struct Before {
    term: u64,
    master: Option<Node>,
}

impl Before {
    fn of(world: &World) -> Self {
        let last = world.ledger.promoted.iter().next_back();
        Self {
            term: last.map_or(0, |(term, _)| *term),
            master: last.map(|(_, node)| *node),
        }
    }

    fn count(&self, world: &World, found: &mut Found) {
        let ledger = &world.ledger;
        let newest = ledger.promoted.keys().next_back();
        let told = ledger.told > self.term;
        let by = ledger.promoted.get(&ledger.told).copied();
        found.states += 1;
        found.promoted += u64::from(newest.is_some_and(|term| *term > self.term));
        found.acknowledged += u64::from(told);
        found.moved += u64::from(told && by != self.master);
    }
}

/// The node that leads by the record.
fn master(world: &World) -> Node {
    world.api.record.master.as_ref().map_or(0, index)
}
