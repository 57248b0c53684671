//! Every order of moves from prepared states: the searches go from a fault to writes that a newer term acknowledges, but for
//! the rest, of which a test sees only the new promotion; and they find weakened rules by themselves.

use simulation::{
    Mutant,
    search::{self, Found, SCOPES, Scope},
};

/// Searches that have too many states for a test look at so many of them; `cargo xtask simulate --search` at all.
const STATES: u64 = 60_000;
/// A weakened rule must be found in so many.
const UNTIL_FOUND: u64 = 200_000;

fn scope(name: &str, faults: u8) -> Scope {
    let mut scope = *SCOPES
        .iter()
        .find(|it| it.name == name)
        .expect("it is one of them");
    scope.budget.faults = faults;
    scope
}

fn searched(scope: &Scope, limit: u64) -> Found {
    let found = search::search(scope, None, limit);
    if let Some((violation, path)) = &found.violation {
        let path = search::shrink(scope, None, path);
        panic!("{}: {violation}\n{path:?}", scope.name);
    }
    assert!(
        found.promoted > 0 && found.healed > 0,
        "{}: somebody is promoted, and all becomes whole: {found:?}",
        scope.name
    );
    println!("{}: {found:?}", scope.name);
    found
}

/// Searches the scope whole, and a part of it with one fault more: another master acknowledges.
fn holds(name: &str) {
    let found = searched(&scope(name, 0), u64::MAX);
    assert!(found.complete && found.moved > 0, "{found:?}");
    assert!(searched(&scope(name, 1), STATES).acknowledged > 0);
}

#[test]
fn in_every_order_a_killed_masters_successor_acknowledges_and_no_rule_is_broken() {
    holds("killed");
}

#[test]
fn in_every_order_a_master_that_is_cut_off_and_comes_back_breaks_no_rule() {
    holds("cutOff");
}

#[test]
fn in_every_order_a_master_that_hands_over_breaks_no_rule() {
    holds("handingOver");
}

#[test]
fn a_promotion_that_is_interrupted_between_any_two_statements_breaks_no_rule() {
    holds("promoting");
}

#[test]
fn a_master_that_stood_still_and_goes_on_breaks_no_rule() {
    assert!(searched(&scope("frozen", 1), STATES).moved > 0);
}

#[test]
fn two_operators_with_the_same_record_break_no_rule() {
    for faults in 0..=1 {
        assert!(searched(&scope("twoOperators", faults), STATES).moved > 0);
    }
}

#[test]
fn a_master_that_rests_while_it_is_copied_leads_on_and_breaks_no_rule() {
    for faults in 0..=1 {
        searched(&scope("resting", faults), STATES);
    }
}

#[test]
fn the_search_alone_finds_weakened_rules() {
    let found_in = [
        (Mutant::ElectAny, "killed", 0),
        (Mutant::LabelBeforeUnlabel, "killed", 0),
        (Mutant::BootsOpen, "killed", 0),
        (Mutant::PromoteUndrained, "handingOver", 0),
        (Mutant::FenceLeavesReceiver, "frozen", 0),
        (Mutant::SourceAfterWritable, "promoting", 0),
        (Mutant::OpenedBeforeDurable, "promoting", 0),
        (Mutant::TermNotDurable, "promoting", 1),
        (Mutant::FenceNotDurable, "promoting", 1),
        (Mutant::FollowErrant, "cutOff", 0),
        (Mutant::CloneOverLastCopy, "resting", 0),
    ];
    let mut missed = Vec::new();
    for (mutant, name, faults) in found_in {
        match search::search(&scope(name, faults), Some(mutant), UNTIL_FOUND).violation {
            Some((violation, path)) => {
                println!("{mutant:?} in {name}: {violation} after {} moves", path.len());
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
