//! The rejoin benchmark: a master is killed while commits wait for slaves that hear nothing of them, so that its binary
//! log ends in transactions that nobody acknowledged. It must come back by itself, with its data, and equal.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, ResourceExt, api::ListParams};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    bench,
    clock::{Clock, millis},
    database::Database,
    faults,
    gaps::percentile,
    install,
    ledger::{Ledger, Outcome},
    machines,
    screen::{Screen, Tone},
    settings::Target,
    sql,
    storm::{HEALED, Storm},
    wait::{self, Seen},
    world,
    writer::Habits,
};

const NAMESPACE: &str = "ddb-rejoin";
const NAME: &str = "rejoin";
const SCHEMA: &str = "rejoin";
/// So many commits hang when the master is killed: one a client.
const WRITERS: u32 = 4;
/// From the cut to the kill.
const HANG: Duration = Duration::from_millis(100);
/// Between two looks at the old master.
const LOOK: Duration = Duration::from_millis(20);

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// How many kills.
    pub runs: usize,
    /// After so many of them the old master replicated again by itself.
    pub rejoined: usize,
    /// So many kept their data and gave up the tail.
    pub cut: usize,
    /// So many were cloned.
    pub cloned: usize,
    /// Commits that waited at the moments of the kills, all together.
    pub waiting: usize,
    /// Median, from the new master's first acknowledged write to the old one replicating again.
    pub median_ms: u64,
    /// Nine of ten were not longer.
    pub p90_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// Median from the kill to the old master replicating again.
    pub from_kill_ms: u64,
    /// Acknowledged writes that some node lacks.
    pub lost: usize,
    /// Runs after which the nodes did not hold what they should.
    pub failed_proofs: usize,
    /// Every time from the first write, in order.
    pub rejoins_ms: Vec<u64>,
}

struct Run {
    rejoin: u64,
    from_kill: u64,
    waiting: usize,
    how: How,
    lost: usize,
    failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Cut,
    Cloned,
    AsItWas,
}

/// Measures on a database of its own, which is removed afterwards.
pub async fn run(target: &Target, runs: u32, screen: &Screen) -> Result<Facts> {
    let client = world::client(target).await?;
    bench::fresh_namespace(&client, NAMESPACE).await?;
    install::install(&client, target, &[]).await?;
    let database = bench::create(&client, NAMESPACE, NAME).await?;
    screen.heading("Killed masters with commits that wait");
    let mut done = Vec::new();
    for number in 1..=runs {
        let clock = Clock::start();
        let run = match one(&database, target, number).await {
            Ok(run) => run,
            Err(error) => {
                if let Err(left) = machines::mend_all(target).await {
                    screen.line(&format!("  the network stays cut: {left:#}"));
                }
                crate::dump::dump(&client, NAMESPACE, &format!("rejoin {number}")).await;
                return Err(error.context(format!("run {number}")));
            }
        };
        let seconds = clock.at().as_secs_f64();
        screen.line(&format!(
            "  run {number:>3} {:>6} ms after the first write, {:>6} ms after the kill, {} commits waited, {:?}, lost {} ({seconds:.1} s)",
            run.rejoin, run.from_kill, run.waiting, run.how, run.lost
        ));
        if let Some(failure) = &run.failure {
            screen.line(&screen.paint(Tone::Bad, &format!("          {failure}")));
        }
        done.push(run);
    }
    world::remove_namespace(&client, NAMESPACE).await?;
    Ok(facts(&done))
}

fn facts(runs: &[Run]) -> Facts {
    let rejoins: Vec<u64> = runs.iter().map(|run| run.rejoin).collect();
    let kills: Vec<u64> = runs.iter().map(|run| run.from_kill).collect();
    let count = |how| runs.iter().filter(|run| run.how == how).count();
    Facts {
        runs: runs.len(),
        // A run whose old master does not come back is an error, which ends the benchmark.
        rejoined: runs.len(),
        cut: count(How::Cut),
        cloned: count(How::Cloned),
        waiting: runs.iter().map(|run| run.waiting).sum(),
        median_ms: percentile(&rejoins, 50),
        p90_ms: percentile(&rejoins, 90),
        max_ms: percentile(&rejoins, 100),
        from_kill_ms: percentile(&kills, 50),
        lost: runs.iter().map(|run| run.lost).sum(),
        failed_proofs: runs.iter().filter(|run| run.failure.is_some()).count(),
        rejoins_ms: rejoins,
    }
}

async fn one(database: &Database, target: &Target, number: u32) -> Result<Run> {
    let term = database.wait_healthy(HEALED).await?.record.term.0;
    let table = format!("{SCHEMA}.r{number}");
    let master = database.master_pod().await?;
    let address = |pod: &k8s_openapi::api::core::v1::Pod| {
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        ip.with_context(|| format!("{} has no address", pod.name_any()))
    };
    let own = address(&master)?;
    let pods = database.pods().await?;
    let slaves = pods.iter().filter(|pod| pod.name != master.name_any());
    let slaves: Vec<String> = slaves.filter_map(|pod| pod.ip.clone()).collect();
    let storm = Storm::begin(database, &Habits::of(WRITERS, &table)).await?;
    let cuts = slaves
        .iter()
        .map(|slave| machines::cut_between(target, &own, slave, true));
    futures::future::try_join_all(cuts).await?;
    sleep(HANG).await;
    let killed = storm.clock.at();
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    let clock = storm.clock;
    let rejoined = tokio::spawn(async move { rejoined(&own, clock).await });
    database.wait_led(term, HEALED).await?;
    machines::mend_all(target).await?;
    let rejoined = rejoined
        .await?
        .with_context(|| format!("{} does not come back", master.name_any()))?;
    let after = storm.after_new_master(&[SCHEMA]).await?;
    let first = first_write(&after.ledger, killed).context("nothing was written after the kill")?;
    let how = how(database, term, &master.name_any()).await?;
    let mut connection = database.master_connection().await?;
    sql::drop_table(&mut connection, &table).await?;
    Ok(Run {
        rejoin: millis(rejoined.saturating_sub(first)),
        from_kill: millis(rejoined.saturating_sub(killed)),
        waiting: waiting(&after.ledger, killed),
        how,
        lost: after.proof.lost(),
        failure: after.proof.check().err().map(|error| format!("{error:#}")),
    })
}

/// When the first write that was begun after the kill was acknowledged.
fn first_write(ledger: &Ledger, killed: Duration) -> Option<Duration> {
    let after = ledger
        .writers
        .iter()
        .flatten()
        .filter(|entry| entry.outcome == Outcome::Acknowledged && entry.begun > killed);
    after.map(|entry| entry.ended).min()
}

/// Writes that were under way at the kill and whose end nobody was told.
fn waiting(ledger: &Ledger, killed: Duration) -> usize {
    let all = ledger.writers.iter().flatten();
    all.filter(|entry| entry.outcome == Outcome::Unknown && entry.begun < killed && entry.ended >= killed)
        .count()
}

/// When the node's own agent says that it receives and executes.
async fn rejoined(host: &str, clock: Clock) -> Result<Duration> {
    while clock.at() < HEALED {
        let text = timeout(Duration::from_millis(500), metrics(host)).await;
        if let Ok(Ok(text)) = text
            && text.contains("\nddb_node_source_age_seconds ")
            && text.contains("\nddb_node_applier_running 1\n")
        {
            return Ok(clock.at());
        }
        sleep(LOOK).await;
    }
    anyhow::bail!("it does not replicate after {} s", HEALED.as_secs())
}

async fn metrics(host: &str) -> Result<String> {
    let mut stream = TcpStream::connect((host, 8081)).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    ensure!(text.starts_with("HTTP/1.1 200"), "the agent answers {text}");
    Ok(text)
}

/// By which way the node came back after `term`, by what the operator told.
async fn how(database: &Database, term: u64, node: &str) -> Result<How> {
    let events = Api::<Event>::namespaced(database.client.clone(), &database.namespace);
    wait::until(
        "word of how the node came back",
        Duration::from_secs(15),
        async || {
            let told = events.list(&ListParams::default()).await?.items;
            let about = |reason: &str| {
                told.iter().any(|event| {
                    let sentence = event.message.as_deref().unwrap_or_default();
                    let of = sentence
                        .strip_prefix("Term ")
                        .and_then(|rest| rest.split(':').next()?.parse::<u64>().ok());
                    event.reason.as_deref() == Some(reason)
                        && of.is_some_and(|of| of > term)
                        && sentence.contains(&format!(": {node} "))
                })
            };
            Ok(match (about("Cloned"), about("TailCut"), about("Follows")) {
                (true, _, _) => Seen::Done(How::Cloned),
                (false, true, _) => Seen::Done(How::Cut),
                (false, false, true) => Seen::Done(How::AsItWas),
                (false, false, false) => Seen::NotYet("no event".to_owned()),
            })
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Entry;

    #[test]
    fn a_commit_waited_if_it_was_under_way_at_the_kill_and_has_no_outcome() {
        let entry = |begun, ended, outcome| Entry {
            id: 0,
            begun: Duration::from_millis(begun),
            ended: Duration::from_millis(ended),
            outcome,
        };
        let ledger = Ledger {
            writers: vec![
                vec![
                    entry(1, 2, Outcome::Acknowledged),
                    entry(3, 11, Outcome::Unknown),
                    entry(15, 20, Outcome::Acknowledged),
                ],
                vec![entry(12, 13, Outcome::Unknown)],
            ],
            ended: Duration::from_millis(30),
        };
        let killed = Duration::from_millis(10);
        assert_eq!(waiting(&ledger, killed), 1);
        assert_eq!(first_write(&ledger, killed), Some(Duration::from_millis(20)));
    }
}
