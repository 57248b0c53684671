//! The attack itself: many random runs, and the runs that once failed.

use std::{fs, path::Path};

use simulation::run::{self, Replay};

#[test]
fn a_million_events_break_no_rule() {
    let (summary, failure) = run::campaign(1, 1_000_000, |_| {});
    if let Some(replay) = failure {
        panic!(
            "seed {}: {}: {}\n{}",
            replay.seed,
            replay.invariant,
            replay.what,
            serde_json::to_string(&replay).unwrap()
        );
    }
    assert!(
        summary.terms > 2 * summary.runs && summary.acknowledged > 10 * summary.runs,
        "the runs are worth something: {summary:?}"
    );
    assert!(
        summary.forced > 0,
        "a majority is given up now and then: {summary:?}"
    );
    assert!(
        summary.blocked * 10 < summary.runs,
        "few are left to a person: {summary:?}"
    );
}

#[test]
fn every_run_that_once_failed_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replays");
    let mut files = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let replay: Replay = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let (_, found) = run::replay(&replay);
        assert_eq!(found, None, "{}", path.display());
        files += 1;
    }
    assert!(files > 0);
}

#[test]
fn a_run_repeats_event_by_event() {
    let mutant = Some(simulation::Mutant::FallBackToAsync);
    let failed = (0..50)
        .find_map(|seed| run::run(seed, mutant).failure)
        .expect("the mutant is found at once");
    let text = serde_json::to_string(&failed).unwrap();
    let again: Replay = serde_json::from_str(&text).unwrap();
    let (_, found) = run::replay(&again);
    assert_eq!(
        found.map(|it| (it.invariant, it.what)),
        Some((failed.invariant, failed.what.clone()))
    );
    let small = run::shrink(&failed);
    assert!(small.events.len() < failed.events.len());
    assert_eq!(
        run::replay(&small).1.map(|it| it.invariant),
        Some(failed.invariant)
    );
}
