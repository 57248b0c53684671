//! The tests bite: each safety rule is broken on purpose, and some rule of safety must be found violated.

use simulation::{Invariant, Mutant, run};

/// So many runs are tried for one mutant. A run has at most some thousand events.
const RUNS: u64 = 150_000;

/// Where the search begins: for those that need a rare meeting of faults, near a seed that found them before. It
/// goes on from there, so a changed engine makes the test slower and not weaker.
fn first(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::RelayThrownAway => 77_600,
        Mutant::CommandOutlivesServer => 6_790,
        Mutant::DonorUnchecked => 23_550,
        Mutant::FenceBesideClone => 72_300,
        _ => 0,
    }
}

fn caught(mutant: Mutant) -> Option<Invariant> {
    (first(mutant)..first(mutant) + RUNS).find_map(|seed| {
        let broken = run::run(seed, Some(mutant)).failure?.invariant;
        let safety = !matches!(broken, Invariant::WritableAgain | Invariant::AllReadyAndEqual);
        safety.then_some(broken)
    })
}

/// Chance does not bring their harm about in so many runs; `directed.rs` plays it.
fn is_played(mutant: Mutant) -> bool {
    matches!(mutant, Mutant::LateLeadForgotten | Mutant::PromotedTwice)
}

#[test]
fn every_weakened_rule_is_found_out() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL.into_iter().filter(|it| !is_played(*it)) {
        match caught(mutant) {
            Some(broken) => println!("{mutant:?}: {broken}"),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
