//! The busy benchmark: a machine whose cores are all kept busy is slow, and slowness is no death. For an hour nothing may
//! replace the master and no guard may close it.
//!
//! Each core gets a loop that does nothing else, at the priority of this program, beside a database of three nodes with
//! a light writer and a reader. The loops are children of this program, end with it, and are ended one by one.

use std::{fs, process::Stdio, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    bench,
    clock::millis,
    database::{Database, Node},
    install,
    screen::Screen,
    settings::Target,
    storm::{Aftermath, Storm},
    terms, world,
    writer::Habits,
};

const NAMESPACE: &str = "ddb-busy";
const NAME: &str = "busy";
const SCHEMA: &str = "busy";
const TABLE: &str = "busy.writes";
/// From one write to the next: enough to see an outage, too little to be a load.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// Between two lines that say how it goes.
const LINE_EVERY: Duration = Duration::from_mins(5);
/// For one look at a node's metrics on a machine that is busy.
const LOOK: Duration = Duration::from_secs(10);
/// What the loops may last longer than the measurement, in seconds of their own processor time.
const BEYOND: u64 = 120;
/// Ends with the process `$1`, and after `$2` seconds of processor time.
const LOOP: &str = "ulimit -t \"$2\"; \
    while kill -0 \"$1\" 2>/dev/null; do i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; done";

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// For how long the cores were kept busy.
    pub minutes: u64,
    /// How many loops, one a core.
    pub loops: usize,
    /// Their niceness; 0 is ordinary.
    pub nice: i64,
    /// Terms that somebody led in: 1 where nothing replaced the master.
    pub terms: u64,
    /// How often a guard closed a master.
    pub guard_closings: u64,
    /// Nodes whose pod or containers are not those of the beginning.
    pub restarted: Vec<String>,
    /// The longest time that the writer was without an acknowledgement.
    pub outage_ms: u64,
    /// The longest time that the reader of the slaves was without an answer.
    pub read_outage_ms: u64,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged writes that some node lacks.
    pub lost: usize,
    /// What is wrong, each in a sentence; nothing where the verdict is good.
    pub wrong: Vec<String>,
    /// `ok` or `failed`.
    pub verdict: &'static str,
}

/// Measures on a database of its own, which is removed afterwards unless something is wrong.
pub async fn run(target: &Target, minutes: u64, screen: &Screen) -> Result<Facts> {
    let client = world::client(target).await?;
    bench::fresh_namespace(&client, NAMESPACE).await?;
    install::install(&client, target, &[]).await?;
    let database = bench::create(&client, NAMESPACE, NAME).await?;
    let facts = measure(&database, minutes, screen).await;
    match &facts {
        Ok(facts) if facts.wrong.is_empty() => world::remove_namespace(&client, NAMESPACE).await?,
        _ => crate::dump::dump(&client, NAMESPACE, "busy").await,
    }
    let facts = facts?;
    tell(screen, &facts);
    Ok(facts)
}

async fn measure(database: &Database, minutes: u64, screen: &Screen) -> Result<Facts> {
    let first = database.status().await?.record.term.0;
    let closings = closings(&database.pods().await?).await?;
    let habits = Habits {
        every: WRITE_EVERY,
        ..Habits::of(1, TABLE)
    };
    let storm = Storm::begin(database, &habits).await?;
    let span = Duration::from_secs(minutes * 60);
    let mut loops = Loops::start(span.as_secs() + BEYOND)?;
    let (count, nice) = (loops.0.len(), niceness()?);
    screen.heading(&format!(
        "{count} busy loops of niceness {nice} for {minutes} minutes"
    ));
    let at = storm.clock.at();
    while storm.clock.at() < at + span {
        sleep(LINE_EVERY.min((at + span).saturating_sub(storm.clock.at()))).await;
        let passed = storm.clock.at().saturating_sub(at).as_secs() / 60;
        let acknowledged = storm.writers.acknowledged();
        // The API server is slow as well; what it says now is only for who watches.
        let term = database.status().await.map_or(0, |status| status.record.term.0);
        screen.line(&format!("  {passed:>4} min  term {term}, {acknowledged} writes"));
    }
    loops.end().await?;
    let before = storm.before().to_vec();
    let aftermath = storm.after_same_master(&[SCHEMA]).await?;
    let status = database.status().await?;
    let changes = status.last_failovers.iter().filter(|it| it.change.term.0 > first);
    let mut wrong: Vec<String> = changes
        .map(|it| format!("term {}: {}", it.change.term, it.change.intent.cause.sentence()))
        .collect();
    let terms = status.record.term.0.saturating_sub(first) + 1;
    if terms > 1 {
        wrong.insert(0, format!("{} terms were taken beyond the first", terms - 1));
    }
    let guard_closings = self::closings(&aftermath.after).await?.saturating_sub(closings);
    if guard_closings > 0 {
        wrong.push(format!("a guard closed a master {guard_closings} times"));
    }
    let restarted = restarted(&before, &aftermath.after);
    if !restarted.is_empty() {
        wrong.push(format!("restarted: {}", restarted.join(", ")));
    }
    let Aftermath {
        ledger, reads, proof, ..
    } = &aftermath;
    wrong.extend(proof.check().err().map(|error| format!("{error:#}")));
    Ok(Facts {
        minutes,
        loops: count,
        nice,
        terms,
        guard_closings,
        restarted,
        outage_ms: millis(ledger.outage(at)),
        read_outage_ms: millis(reads.outage(at)),
        acknowledged: proof.acknowledged,
        lost: proof.lost(),
        verdict: if wrong.is_empty() { "ok" } else { "failed" },
        wrong,
    })
}

/// How often the guards of all nodes closed a master since their agents began.
async fn closings(nodes: &[Node]) -> Result<u64> {
    let mut all = 0;
    for node in nodes {
        let address = node.ip.as_deref().context("a node without address")?;
        let asked = timeout(LOOK, terms::ask(address, "ddb_node_guard_actions_total")).await;
        all += asked
            .context("no answer in time")
            .flatten()
            .with_context(|| format!("the metrics of {}", node.name))?;
    }
    Ok(all)
}

fn restarted(before: &[Node], after: &[Node]) -> Vec<String> {
    let is_another = |node: &&Node| {
        let mut after = after.iter();
        !after.any(|other| other.uid == node.uid && other.restarts == node.restarts)
    };
    before
        .iter()
        .filter(is_another)
        .map(|node| node.name.clone())
        .collect()
}

/// Busy loops; dropping them ends them.
struct Loops(Vec<Child>);

impl Loops {
    /// One a core, each for so many seconds of processor time at most.
    fn start(seconds: u64) -> Result<Self> {
        let cores = thread::available_parallelism()?.get();
        let one = |_| {
            Command::new("sh")
                .args(["-c", LOOP, "busy"])
                .arg(std::process::id().to_string())
                .arg(seconds.to_string())
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .context("`sh` cannot be started")
        };
        Ok(Self((0..cores).map(one).collect::<Result<_>>()?))
    }

    /// Ends each.
    ///
    /// # Errors
    /// Where one had ended before: then the cores were not kept busy.
    async fn end(&mut self) -> Result<()> {
        for child in &mut self.0 {
            let early = child.try_wait()?;
            ensure!(early.is_none(), "a busy loop ended by itself: {early:?}");
            child.kill().await?;
        }
        Ok(())
    }
}

/// This program's, which its children inherit.
fn niceness() -> Result<i64> {
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    nice_in(&stat).context("no niceness in /proc/self/stat")
}

/// After the name comes field 3; the niceness is field 19.
fn nice_in(stat: &str) -> Option<i64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(16)?.parse().ok()
}

fn tell(screen: &Screen, facts: &Facts) {
    screen.heading("What came of it");
    screen.fact("terms", &facts.terms.to_string());
    screen.fact("guard closings", &facts.guard_closings.to_string());
    screen.fact("longest outage of the writer", &format!("{} ms", facts.outage_ms));
    screen.fact(
        "longest outage of the reader",
        &format!("{} ms", facts.read_outage_ms),
    );
    screen.fact(
        "writes",
        &format!("{} acknowledged, {} lost", facts.acknowledged, facts.lost),
    );
    for what in &facts.wrong {
        screen.line(&format!("  {what}"));
    }
    screen.line(&format!("verdict: {}", facts.verdict));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_niceness_is_read_behind_a_name_with_spaces() {
        let stat = "7 (a (b) c) R 1 7 7 0 -1 4194304 94 0 0 0 3 4 5 6 30 10 1 0 57262 2293760 100 18446744073709551615";
        assert_eq!(nice_in(stat), Some(10));
        assert_eq!(nice_in("7 (sh) R 1"), None);
    }

    #[tokio::test]
    async fn loops_are_busy_until_they_are_ended_and_their_early_end_is_told() {
        let mut loops = Loops::start(60).unwrap();
        assert!(!loops.0.is_empty());
        loops.end().await.unwrap();
        let error = loops.end().await.unwrap_err().to_string();
        assert!(error.contains("ended by itself"), "{error}");
    }
}
