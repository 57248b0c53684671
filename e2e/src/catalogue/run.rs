//! Runs rows one after the other on a real cluster. One that fails prints what there is to know of pods, events and
//! logs, everything broken is mended, and the next one gets a fresh database.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Duration};

use anyhow::{Result, ensure};
use futures::FutureExt;

use super::{Case, Finding, cases, operator, rows};
use crate::{
    clock::{Clock, millis},
    facts::{CaseFacts, FaultsFacts, RowFacts},
    machines,
    screen::{Screen, Tone, seconds},
    settings::Target,
    tools::kubectl,
    wait::{Seen, until},
    world::{self, World},
};

/// From the mending of everything to an operator that is ready again.
const RESTORED: Duration = Duration::from_mins(3);
/// No case may hold up all the others.
const LONGEST: Duration = Duration::from_mins(12);

/// Runs the rows or cases of `only` (`13`, `4b`); all where it is empty.
pub async fn run(target: &Target, only: &[String], screen: &Screen) -> Result<FaultsFacts> {
    let chosen = choose(only)?;
    let client = world::client(target).await?;
    world::remove_namespaces(&client).await?;
    let world = World::new(client, target.clone());
    let mut by_row: BTreeMap<u8, Vec<CaseFacts>> = BTreeMap::new();
    for case in chosen {
        screen.heading(&format!("{} {}", case.key(), case.fault));
        screen.line(&screen.paint(Tone::Dim, &format!("  expected: {}", case.expects)));
        let facts = one(&world, case, screen).await;
        by_row.entry(case.row).or_default().push(facts);
    }
    world::remove_namespaces(&world.client).await?;
    let rows = by_row.into_iter().map(|(row, cases)| sum(row, cases)).collect();
    let facts = FaultsFacts { rows };
    table(screen, &facts);
    Ok(facts)
}

fn choose(only: &[String]) -> Result<Vec<&'static Case>> {
    for wish in only {
        ensure!(
            cases().iter().any(|case| is_meant(case, wish)),
            "there is no row or case `{wish}`; rows are 1 to {}, cases such as 4b",
            rows::ROWS.len()
        );
    }
    let wanted = |case: &&Case| only.is_empty() || only.iter().any(|wish| is_meant(case, wish));
    Ok(cases().into_iter().filter(wanted).collect())
}

fn is_meant(case: &Case, wish: &str) -> bool {
    case.key() == wish || case.row.to_string() == wish
}

async fn one(world: &World, case: &Case, screen: &Screen) -> CaseFacts {
    let clock = Clock::start();
    let attempt = async {
        world.ensure_operator().await?;
        case.play(world).await
    };
    let attempt = tokio::time::timeout(LONGEST, AssertUnwindSafe(attempt).catch_unwind()).await;
    let outcome = match attempt {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(world::panic_text(panic.as_ref())),
        Err(_) => Err(anyhow::anyhow!("not done within {} s", LONGEST.as_secs())),
    };
    let took = seconds(millis(clock.at()));
    let facts = match &outcome {
        Ok(Finding { outage, notes }) => {
            let outage = outage.map(millis);
            let said = outage.map_or(String::new(), |outage| format!("writes out {outage} ms; "));
            screen.verdict(
                &case.key(),
                true,
                &format!("{said}{}; took {took}", notes.join("; ")),
            );
            CaseFacts::passed(case, outage)
        }
        Err(error) => {
            screen.verdict(&case.key(), false, &format!("{error:#}; took {took}"));
            world
                .clean_after_failure(&format!("row {} {}", case.key(), case.fault))
                .await;
            CaseFacts::failed(case, format!("{error:#}"))
        }
    };
    if !facts.passed {
        restore(world, screen).await;
    }
    facts
}

/// Mends all that a case may have left broken.
async fn restore(world: &World, screen: &Screen) {
    let context = world.target.context.as_deref();
    let every = ["uncordon", "--selector", "kubernetes.io/hostname"];
    let mended = until("mended cluster", RESTORED, async || {
        machines::mend_all(&world.target).await?;
        kubectl(context, &every).await?;
        operator::remove_second(world).await?;
        world.ensure_operator().await.map(Seen::Done)
    });
    if let Err(error) = mended.await {
        screen.line(&format!("  the cluster could not be mended: {error:#}"));
    }
}

fn sum(row: u8, cases: Vec<CaseFacts>) -> RowFacts {
    RowFacts {
        row,
        name: rows::name(row),
        passed: cases.iter().all(|case| case.passed),
        outage_ms: cases.iter().filter_map(|case| case.outage_ms).max(),
        cases,
    }
}

fn table(screen: &Screen, facts: &FaultsFacts) {
    screen.heading("Faults");
    let head = format!("  {:>3}  {:<48} {:>10}  result", "row", "fault", "outage");
    screen.line(&screen.paint(Tone::Dim, &head));
    for row in &facts.rows {
        let outage = row
            .outage_ms
            .map_or("-".to_owned(), |outage| format!("{outage} ms"));
        let (tone, word) = if row.passed {
            (Tone::Good, "passed".to_owned())
        } else {
            (Tone::Bad, format!("FAILED: {}", failed(row)))
        };
        let word = screen.paint(tone, word.trim_end());
        screen.line(&format!(
            "  {:>3}  {:<48} {outage:>10}  {word}",
            row.row, row.name
        ));
    }
    let passed = facts.rows.iter().filter(|row| row.passed).count();
    screen.line(&format!("\n  {passed} of {} rows passed", facts.rows.len()));
}

fn failed(row: &RowFacts) -> String {
    let failed = row.cases.iter().filter(|case| !case.passed);
    failed
        .map(|case| case.case.clone())
        .collect::<Vec<_>>()
        .join(", ")
}
