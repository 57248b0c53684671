//! What the system costs while nothing happens: processor and memory of operator and agents, MySQL's throughput with
//! and without them, and the passage to the master against the direct way.
//!
//! "Without" is the same servers with the same replication in the same minute, while operator and agents stand still
//! (SIGSTOP): what is left is MySQL alone, as if somebody had set the replication up by hand. It cannot measure what
//! the configuration itself costs, which is the price of losing nothing. The two are measured in turns, so that a slow
//! minute of the machine hits both.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use sqlx::mysql::MySqlConnection;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    bench,
    clock::{Clock, millis},
    database::Database,
    faults::process_of,
    gaps::percentile,
    install,
    screen::Screen,
    settings::Target,
    sql::{self, Address},
    world,
};

const NAMESPACE: &str = "ddb-steady";
const NAME: &str = "steady";
const TABLE: &str = "steady.writes";
const CLIENTS: u32 = 8;
const REST: Duration = Duration::from_secs(5);
/// Shorter than the time after which anybody would miss who stands still: sessions and the operator's lease last longer.
const SLICE: Duration = Duration::from_millis(1500);
/// From stopping everybody, or letting them go on, to the beginning of what is counted.
const SETTLE: Duration = Duration::from_millis(300);
/// Rows that are read, by their keys.
const ROWS: u64 = 200;
const TICKS_PER_SECOND: f64 = 100.0;

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Hundredths of a core that the busiest agent used while nothing happened.
    pub agent_cpu_percent: f64,
    /// The same of the operator's replica that leads, with this one database.
    pub operator_cpu_percent: f64,
    /// The same of the replica that stands by.
    pub standby_cpu_percent: f64,
    /// The largest agent's resident memory.
    pub agent_rss_mib: f64,
    /// The largest operator's.
    pub operator_rss_mib: f64,
    /// Median of all turns: writes per second with agents and operator.
    pub writes_with: u64,
    /// The same while they stand still.
    pub writes_without: u64,
    /// Writes with, all turns together, as hundredths of those without.
    pub writes_percent: f64,
    /// Median of the turns' own ratios, in hundredths.
    pub median_turn_percent: f64,
    /// Point selects per second through the passage, as hundredths of those through the master's Service.
    pub passage_percent: f64,
    /// What the passage adds to the median point select of one client, in microseconds.
    pub passage_added_us: i64,
    /// The median point select through the master's Service.
    pub direct_select_us: u64,
    /// Each turn: writes per second with, and without.
    pub turns: Vec<(u64, u64)>,
}

/// A process that is watched, and stopped for a while.
struct Watched {
    name: String,
    pid: Pid,
}

/// Measures on a database of its own, which is removed afterwards.
pub async fn run(target: &Target, turns: u32, idle: Duration, screen: &Screen) -> Result<Facts> {
    let client = world::client(target).await?;
    bench::fresh_namespace(&client, NAMESPACE).await?;
    install::install(&client, target, &[]).await?;
    let database = bench::create(&client, NAMESPACE, NAME).await?;
    let mut connection = database.master_connection().await?;
    sql::create_writes(&mut connection, TABLE).await?;
    for id in 1..=ROWS {
        let id = i64::try_from(id)?;
        sql::insert_write(&mut connection, TABLE, id).await?;
    }
    let agents = agents(&database).await?;
    let (leader, standby) = operators(&client).await?;
    screen.heading("At rest");
    sleep(REST).await;
    let pids = [&agents, &leader, &standby].map(|group| group.iter().map(|it| it.pid).collect::<Vec<_>>());
    let cpu = at_rest(&[&pids[0], &pids[1], &pids[2]], idle).await?;
    let most = |group: usize| cpu[group].iter().copied().fold(0.0, f64::max);
    let memory = |group: &[Watched]| -> Result<f64> {
        let all: Result<Vec<f64>> = group.iter().map(|it| resident_mib(it.pid)).collect();
        Ok(all?.into_iter().fold(0.0, f64::max))
    };
    let operators: Vec<&Watched> = leader.iter().chain(&standby).collect();
    let operator_rss_mib = memory(&leader)?.max(memory(&standby)?);
    let agent_rss_mib = memory(&agents)?;
    screen.fact(
        "agent",
        &format!("{:.2} % of a core, {agent_rss_mib:.1} MiB", most(0)),
    );
    screen.fact(
        "operator",
        &format!("{:.2} % of a core, {operator_rss_mib:.1} MiB", most(1)),
    );
    screen.fact("standby", &format!("{:.2} % of a core", most(2)));

    screen.heading("Writes per second, with agents and operator and without");
    let everybody: Vec<&Watched> = agents.iter().chain(operators).collect();
    let term = database.status().await?.record.term;
    let address = database.master_address().await?;
    let pairs = writes(&address, &everybody, turns, screen).await?;
    let ratios: Vec<u64> = pairs
        .iter()
        .map(|(with, without)| with * 10_000 / without.max(&1))
        .collect();

    ensure!(
        database.wait_healthy(Duration::from_secs(30)).await?.record.term == term,
        "the master changed while agents and operator stood still"
    );

    screen.heading("Point selects, through the master's Service and through the passage");
    let passage = database.any_address().await?;
    let selects = selects(&address, &passage, turns, screen).await?;
    world::remove_namespace(&client, NAMESPACE).await?;
    Ok(Facts {
        agent_cpu_percent: most(0),
        operator_cpu_percent: most(1),
        standby_cpu_percent: most(2),
        agent_rss_mib,
        operator_rss_mib,
        writes_with: percentile(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>(), 50),
        writes_without: percentile(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>(), 50),
        writes_percent: hundredths(sum(&pairs, |pair| pair.0) * 10_000 / sum(&pairs, |pair| pair.1).max(1)),
        median_turn_percent: hundredths(percentile(&ratios, 50)),
        passage_percent: hundredths(selects.percent),
        passage_added_us: selects.added_us,
        direct_select_us: selects.direct_us,
        turns: pairs,
    })
}

fn sum(pairs: &[(u64, u64)], of: impl Fn(&(u64, u64)) -> u64) -> u64 {
    pairs.iter().map(of).sum()
}

/// From hundredths of a percent.
fn hundredths(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX)) / 100.0
}

async fn agents(database: &Database) -> Result<Vec<Watched>> {
    let pods = database.pod_api().list(&database.selector()).await?.items;
    pods.iter().map(|pod| watched(pod, "ddb-node")).collect()
}

async fn operators(client: &kube::Client) -> Result<(Vec<Watched>, Vec<Watched>)> {
    let leader = install::leader(client).await?;
    let pods = kube::Api::<Pod>::namespaced(client.clone(), install::NAMESPACE);
    let pods = pods
        .list(&ListParams::default().labels(install::SELECTOR))
        .await?
        .items;
    let (leads, others): (Vec<Pod>, Vec<Pod>) = pods
        .into_iter()
        .partition(|pod| pod.metadata.uid == leader.metadata.uid);
    let all = |pods: &[Pod]| {
        pods.iter()
            .map(|pod| watched(pod, "ddb-operator"))
            .collect::<Result<Vec<_>>>()
    };
    Ok((all(&leads)?, all(&others)?))
}

fn watched(pod: &Pod, name: &str) -> Result<Watched> {
    Ok(Watched {
        name: kube::ResourceExt::name_any(pod),
        pid: process_of(pod, name)?,
    })
}

/// Hundredths of a core that each process of each group used in `span`.
pub async fn at_rest(groups: &[&[Pid]], span: Duration) -> Result<Vec<Vec<f64>>> {
    let read = || -> Result<Vec<Vec<u64>>> {
        let group = |group: &&[Pid]| group.iter().map(|pid| ticks(*pid)).collect::<Result<Vec<u64>>>();
        groups.iter().map(group).collect()
    };
    let (clock, before) = (Clock::start(), read()?);
    sleep(span).await;
    let (after, took) = (read()?, clock.at().as_secs_f64());
    let used = |before: u64, after: u64| {
        let ticks = u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX);
        f64::from(ticks) / TICKS_PER_SECOND / took * 100.0
    };
    let of_group = |(before, after): (&Vec<u64>, &Vec<u64>)| {
        before
            .iter()
            .zip(after)
            .map(|(before, after)| used(*before, *after))
            .collect()
    };
    Ok(before.iter().zip(&after).map(of_group).collect())
}

/// Processor time so far, in hundredths of a second, of all threads.
fn ticks(pid: Pid) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let (_, rest) = stat.rsplit_once(')').context("a process without a name")?;
    // After the name comes field 3; user and system time are fields 14 and 15.
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut next = || {
        fields
            .next()
            .and_then(|it| it.parse::<u64>().ok())
            .context("no times in /proc")
    };
    Ok(next()? + next()?)
}

/// Resident memory.
pub fn resident_mib(pid: Pid) -> Result<f64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: u32 = line
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .context("an odd VmRSS")?;
    Ok(f64::from(kib) / 1024.0)
}

/// Stops everybody, and lets them go on when it is dropped, whatever happened meanwhile.
struct Standstill<'a>(&'a [&'a Watched]);

impl<'a> Standstill<'a> {
    fn begin(all: &'a [&'a Watched]) -> Result<Self> {
        let still = Self(all);
        for it in all {
            kill(it.pid, Signal::SIGSTOP).with_context(|| format!("stopping {}", it.name))?;
        }
        Ok(still)
    }
}

impl Drop for Standstill<'_> {
    fn drop(&mut self) {
        // Agents first: an operator that goes on must find reports.
        for it in self.0 {
            let _ = kill(it.pid, Signal::SIGCONT);
        }
    }
}

/// Turns of writes with and without, under one load that never ends; the order changes from turn to turn.
async fn writes(
    address: &Address,
    everybody: &[&Watched],
    turns: u32,
    screen: &Screen,
) -> Result<Vec<(u64, u64)>> {
    let load = Load::begin(address, Work::Write, CLIENTS).await?;
    let mut pairs = Vec::new();
    for turn in 1..=turns {
        let (mut with, mut without) = (0, 0);
        for half in 0..2 {
            if (turn + half) % 2 == 0 {
                with = load.rate(SLICE).await;
            } else {
                let still = Standstill::begin(everybody)?;
                without = load.rate(SLICE).await;
                drop(still);
            }
        }
        screen.line(&format!("  turn {turn:>2}  {with:>6} with  {without:>6} without"));
        pairs.push((with, without));
    }
    load.end().await?;
    Ok(pairs)
}

struct Selects {
    percent: u64,
    added_us: i64,
    direct_us: u64,
}

async fn selects(direct: &Address, passage: &Address, turns: u32, screen: &Screen) -> Result<Selects> {
    let (mut ratios, mut one_direct, mut one_passage) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 1..=turns {
        let many = [
            rate(direct, Work::Read, CLIENTS, SLICE).await?.0,
            rate(passage, Work::Read, CLIENTS, SLICE).await?.0,
        ];
        let alone = [
            rate(direct, Work::Read, 1, SLICE).await?.1,
            rate(passage, Work::Read, 1, SLICE).await?.1,
        ];
        screen.line(&format!(
            "  turn {turn:>2}  {:>6}/s direct  {:>6}/s passage   alone {} µs direct, {} µs passage",
            many[0], many[1], alone[0], alone[1]
        ));
        ratios.push(many[1] * 10_000 / many[0].max(1));
        one_direct.push(alone[0]);
        one_passage.push(alone[1]);
    }
    let direct_us = percentile(&one_direct, 50);
    let passage_us = percentile(&one_passage, 50);
    Ok(Selects {
        percent: percentile(&ratios, 50),
        added_us: i64::try_from(passage_us)? - i64::try_from(direct_us)?,
        direct_us,
    })
}

#[derive(Clone, Copy)]
enum Work {
    Write,
    Read,
}

/// Clients at work.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<Vec<u64>>>>,
}

impl Load {
    async fn begin(address: &Address, work: Work, clients: u32) -> Result<Self> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for client in 0..clients {
            let connection = sql::connect(address, Duration::from_secs(5)).await?;
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tasks.push(tokio::spawn(one_client(
                connection,
                work,
                u64::from(client),
                stop,
                done,
            )));
        }
        Ok(Self {
            stop,
            done,
            clients: tasks,
        })
    }

    /// Statements per second from a moment from now on.
    async fn rate(&self, span: Duration) -> u64 {
        sleep(SETTLE).await;
        let (clock, before) = (Clock::start(), self.done.load(Ordering::Relaxed));
        sleep(span).await;
        let count = self.done.load(Ordering::Relaxed) - before;
        count * 1000 / millis(clock.at()).max(1)
    }

    /// The microseconds of every statement.
    async fn end(self) -> Result<Vec<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut spans = Vec::new();
        for client in self.clients {
            spans.extend(client.await??);
        }
        Ok(spans)
    }
}

async fn one_client(
    mut connection: MySqlConnection,
    work: Work,
    mut key: u64,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Result<Vec<u64>> {
    let mut spans = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        key = key % ROWS + 1;
        let clock = Clock::start();
        match work {
            Work::Write => sql::insert_write(&mut connection, TABLE, 0).await?,
            Work::Read => sql::read_by_key(&mut connection, TABLE, key).await?,
        }
        spans.push(u64::try_from(clock.at().as_micros())?);
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(spans)
}

/// Statements per second of so many clients, and the median statement in microseconds.
async fn rate(address: &Address, work: Work, clients: u32, span: Duration) -> Result<(u64, u64)> {
    let load = Load::begin(address, work, clients).await?;
    let rate = load.rate(span).await;
    Ok((rate, percentile(&load.end().await?, 50)))
}
