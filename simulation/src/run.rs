//! Runs: many from seeds, one from a file; and the shrinking of one that failed.

use serde::{Deserialize, Serialize};

use crate::{
    event::Event,
    generate::Generator,
    heal::Recovery,
    invariant::{Invariant, Violation},
    mutant::Mutant,
    world::{Beginning, World},
};

/// So many events are tried in an attack before everything is healed.
const ATTACK: usize = 1500;

/// A run as it can be kept and repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// What it was drawn from.
    pub seed: u64,
    /// What it begins with.
    #[serde(flatten)]
    pub beginning: Beginning,
    /// The rule that is broken on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<Mutant>,
    /// Which rule was found broken.
    pub invariant: Invariant,
    /// How.
    pub what: String,
    /// What happened.
    pub events: Vec<Event>,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Events that happened, healing included.
    pub events: u64,
    /// The newest term, so how often the master changed.
    pub terms: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// The engine rightly waits for a person in the end.
    pub blocked: bool,
    /// A promotion was forced.
    pub forced: bool,
    /// The run, if a rule was broken.
    pub failure: Option<Replay>,
}

/// Attacks a database with the faults of `seed`, heals, and checks everything.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Outcome {
    let mut generator = Generator::new(seed);
    let beginning = generator.beginning();
    let mut world = World::new(beginning, mutant);
    let (mut trace, mut events) = (Vec::new(), 0);
    for _ in 0..ATTACK {
        let event = generator.next(&world);
        // Also one that does nothing is kept: trying may have changed something.
        trace.push(event);
        events += u64::from(world.apply(event));
        if world.violation.is_some() {
            break;
        }
    }
    let found = match world.violation.clone() {
        Some(violation) => Err(violation),
        None => world.recover(&mut events),
    };
    Outcome {
        events,
        terms: world.api.record.term.0,
        acknowledged: world.ledger.acknowledged.iter().count() as u64,
        blocked: found == Ok(Recovery::Blocked),
        forced: world.ledger.given_up > 0,
        failure: found.err().map(|violation| Replay {
            seed,
            beginning,
            mutant,
            invariant: violation.invariant,
            what: violation.what,
            events: trace,
        }),
    }
}

/// What many runs came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Events that happened.
    pub events: u64,
    /// Broken rules.
    pub violations: u64,
    /// Databases that were attacked.
    pub runs: u64,
    /// The first seed; each run has the next.
    pub seed: u64,
    /// Terms that were taken.
    pub terms: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Runs that end with more lost than the quorum bears, where the engine rightly waits for a person.
    pub blocked: u64,
    /// Runs in which a person gave a majority up.
    pub forced: u64,
}

/// Attacks databases from `seed` on until `events` have happened or a rule is broken; `progress` is told after each.
/// The run that failed is shrunk.
pub fn campaign(seed: u64, events: u64, mut progress: impl FnMut(&Summary)) -> (Summary, Option<Replay>) {
    let mut summary = Summary {
        seed,
        ..Summary::default()
    };
    while summary.events < events {
        let outcome = run(seed.wrapping_add(summary.runs), None);
        summary.events += outcome.events;
        summary.runs += 1;
        summary.terms += outcome.terms;
        summary.acknowledged += outcome.acknowledged;
        summary.blocked += u64::from(outcome.blocked);
        summary.forced += u64::from(outcome.forced);
        progress(&summary);
        if let Some(failure) = outcome.failure {
            summary.violations += 1;
            return (summary, Some(shrink(&failure)));
        }
    }
    (summary, None)
}

/// Repeats a run: the first broken rule, if there still is one, and how many events happened.
pub fn replay(replay: &Replay) -> (u64, Option<Violation>) {
    let mut world = World::new(replay.beginning, replay.mutant);
    let mut events = 0;
    for event in &replay.events {
        events += u64::from(world.apply(*event));
        if world.violation.is_some() {
            return (events, world.violation);
        }
    }
    let found = world.recover(&mut events).err();
    (events, found)
}

/// Drops events as long as the same rule stays broken.
#[must_use]
pub fn shrink(failed: &Replay) -> Replay {
    let mut best = failed.clone();
    let mut chunk = best.events.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let before = best.events.len();
        while at < best.events.len() {
            let mut fewer = best.clone();
            fewer.events.drain(at..(at + chunk).min(best.events.len()));
            match replay(&fewer).1 {
                Some(violation) if violation.invariant == failed.invariant => {
                    fewer.what = violation.what;
                    best = fewer;
                }
                _ => at += chunk,
            }
        }
        if chunk == 1 && best.events.len() == before {
            return best;
        }
        chunk = chunk.div_ceil(2).max(1);
    }
}
