//! The tests bite: each safety rule is broken on purpose, and some rule of safety must be found violated.

use simulation::{Invariant, Mutant, run};

/// So many runs are tried for one mutant. A run has at most some thousand events.
const RUNS: u64 = 150_000;

/// Where the search begins: for those that need a rare meeting of faults, near a seed that found them before. It
/// goes on from there, so a changed engine makes the test slower and not weaker.
fn first(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::RelayThrownAway => 104_900,
        Mutant::CommandOutlivesServer => 7_200,
        Mutant::CutFollower => 24_000,
        Mutant::NamedByStart => 10_300,
        Mutant::DiscardUnchecked => 5_200,
        Mutant::DonorUnchecked => 36_600,
        Mutant::FenceBesideClone => 191_000,
        Mutant::FollowUnasked => 787_000,
        _ => 0,
    }
}

/// The seed and what it finds broken.
fn caught(mutant: Mutant) -> Option<(u64, Invariant)> {
    (first(mutant)..first(mutant) + RUNS).find_map(|seed| {
        let broken = run::run(seed, Some(mutant)).failure?.invariant;
        let safety = !matches!(broken, Invariant::WritableAgain | Invariant::AllReadyAndEqual);
        (safety || only_waits(mutant)).then_some((seed, broken))
    })
}

/// Its harm is that nothing goes on: commits wait for ever, and acknowledge nothing.
fn only_waits(mutant: Mutant) -> bool {
    matches!(
        mutant,
        Mutant::SourceBeforeDrained | Mutant::RestUnfenced | Mutant::TakenOverAtOnce
    )
}

/// Chance does not bring their harm about in so many runs; `directed.rs` plays it.
fn is_played(mutant: Mutant) -> bool {
    matches!(
        mutant,
        Mutant::LateLeadForgotten | Mutant::PromotedTwice | Mutant::CutKeepsName | Mutant::CloneKeepsName
    )
}

#[test]
fn every_weakened_rule_is_found_out() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL.into_iter().filter(|it| !is_played(*it)) {
        match caught(mutant) {
            Some((seed, broken)) => println!("{mutant:?}: {broken} (seed {seed})"),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
