//! MySQL's behaviour in the model (`simulation`) held against a real server, statement by statement: one table of
//! scenarios, run on both, and every line that is seen must be the same.
//!
//! `DDB_TEST_MYSQLD` names the mysqld; without it only the model is held against the table, and that is said.
//! `DDB_TEST_SCENARIO` picks the scenarios that contain its text.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod model;
mod real;
mod scenario;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;

use model::Model;
use real::{Ground, Real};
use scenario::{A, SCENARIOS, Scenario, Step};
use simulation::Statement;

#[expect(
    clippy::disallowed_methods,
    reason = "the place of mysqld differs from machine to machine"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// An open master and slaves that replicate from it.
fn beginning(scenario: &Scenario) -> Vec<Step> {
    let mut steps = vec![
        Step::Boot(A),
        Step::Say(A, Statement::SourceOn { acks: scenario.acks }),
        Step::Say(A, Statement::ReadOnlyOff),
        Step::Say(A, Statement::OfflineOff),
    ];
    for slave in 1..scenario.servers {
        steps.push(Step::Boot(slave));
        for statement in [
            Statement::ChangeSource { source: A },
            Statement::ReplicaEnabled(true),
            Statement::StartReceiver,
            Statement::StartApplier,
        ] {
            steps.push(Step::Say(slave, statement));
        }
    }
    steps.push(Step::See(match scenario.servers {
        2 => " | a 0 | b 0+0",
        _ => " | a 0 | b 0+0 | c 0+0",
    }));
    steps
}

fn steps(scenario: &Scenario) -> Vec<Step> {
    let mut all = beginning(scenario);
    all.extend(scenario.steps);
    all
}

fn wrong(scenario: &Scenario, at: usize, who: &str, wanted: &str, seen: &str) -> String {
    let step = at + 1 - beginning(scenario).len();
    format!(
        "{}\n  step {step}: {who} shows  {seen}\n  the table says  {wanted}",
        scenario.name
    )
}

fn against_model(scenario: &Scenario) -> Result<(), String> {
    let mut model = Model::new(scenario);
    for (at, step) in steps(scenario).into_iter().enumerate() {
        if let (Some(seen), Step::See(wanted)) = (model.step(step), step)
            && seen != wanted
        {
            return Err(wrong(scenario, at, "the model", wanted, &seen));
        }
    }
    Ok(())
}

async fn against_mysql(ground: &Ground, scenario: &Scenario) -> Result<(), String> {
    let mut real = Real::new(ground, scenario);
    for (at, step) in steps(scenario).into_iter().enumerate() {
        if let (Some(seen), Step::See(wanted)) = (real.step(step).await, step)
            && seen != wanted
        {
            return Err(wrong(scenario, at, "MySQL", wanted, &seen));
        }
    }
    Ok(())
}

fn chosen() -> impl Iterator<Item = &'static Scenario> {
    let part = environment("DDB_TEST_SCENARIO").unwrap_or_default();
    SCENARIOS.iter().filter(move |it| it.name.contains(&part))
}

#[test]
fn the_model_is_as_the_table_says() {
    let failed: Vec<String> = SCENARIOS
        .iter()
        .filter_map(|it| against_model(it).err())
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_is_as_the_table_says() {
    let Some(mysqld) = environment("DDB_TEST_MYSQLD").map(PathBuf::from) else {
        return support::cluster::skip(
            "MySQL itself is not held against the model: DDB_TEST_MYSQLD names no mysqld \
             (`cargo xtask test` takes the one of the MySQL image)",
        );
    };
    assert!(
        chosen().next().is_some(),
        "DDB_TEST_SCENARIO picks no scenario, so nothing would be compared"
    );
    let ground = Ground::make(mysqld);
    let mut failed = Vec::new();
    for scenario in chosen() {
        let begun = support::now();
        let outcome = against_mysql(&ground, scenario).await;
        let word = if outcome.is_ok() {
            "as in the model"
        } else {
            "DIFFERS"
        };
        println!("{:>6} ms  {word}: {}", begun.elapsed().as_millis(), scenario.name);
        failed.extend(outcome.err());
    }
    ground.remove();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}
