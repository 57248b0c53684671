//! How long handovers take on the agents' side: switchovers and failovers under load, commanded as the engine commands
//! them, with the medians of their steps. Nothing acknowledged may be lost and nothing may be refused.
//!
//! `DDB_TEST_ROUNDS=30` asks for more rounds than the few that serve as a test.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use api::wire::{Command, Refusal};
use failover::{GtidSet, Role, Tail, Term};
use sqlx::raw_sql;
use support::{
    cluster::{Cluster, assert_holds, executed, fence, follow, is_down, load, median, signal},
    is_caught_up, now, up,
};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

/// What comes of a command.
type Outcome = oneshot::Receiver<(u64, Option<Refusal>)>;
/// How long each step took, in milliseconds.
type Steps = BTreeMap<&'static str, Vec<u64>>;

#[expect(clippy::disallowed_methods, reason = "a longer run is asked for from outside")]
fn rounds() -> u64 {
    let text = std::env::var("DDB_TEST_ROUNDS").unwrap_or_default();
    text.parse().unwrap_or(3)
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switchovers_under_load_are_quick_and_lose_nothing() {
    repeated("handover", switchover).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failovers_under_load_are_quick_and_lose_nothing() {
    repeated("failover", failover).await;
}

/// Its relay logs hold what the first of two new masters wrote, and its own wait for acknowledgements is still on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_master_that_is_overtaken_while_it_follows_follows_the_next_one() {
    let Some(mut cluster) = Cluster::led("overtaken").await else {
        return;
    };
    let mut requires = GtidSet::new();
    for (term, led, leads) in [(2, 0, 1), (3, 1, 2)] {
        cluster.operators[0].done("fence", term, fence(true)).await;
        // All that the first of them wrote is on the second, so that it may lead.
        let written = executed(&cluster.nodes[led]).await;
        cluster.operators[2]
            .until("all received", |report| {
                up(report).is_some_and(|state| state.holds().contains(&written))
            })
            .await;
        for node in [1, 2] {
            cluster.operators[node].done("fence", term, fence(false)).await;
        }
        requires = cluster.operators[leads].state().holds();
        cluster.operators[leads]
            .done("drain", term, Command::Drain { deadline_ms: 3000 })
            .await;
        let promote = Command::Promote {
            acks: 1,
            requires: requires.clone(),
        };
        cluster.operators[leads].done("promote", term, promote).await;
        if term == 2 {
            let command = follow(&cluster.nodes[1], &requires);
            cluster.operators[2].done("follow", 2, command.clone()).await;
            drop(cluster.operators[0].send(2, command));
            let stop = Arc::new(AtomicBool::new(false));
            let writer = load(&cluster.nodes[1], 1, Arc::clone(&stop)).await;
            sleep(Duration::from_millis(250)).await;
            stop.store(true, Ordering::Relaxed);
            assert!(!writer.await.unwrap().is_empty());
        }
    }
    let command = follow(&cluster.nodes[2], &requires);
    cluster.operators[0].done("follow", 3, command).await;
    cluster.operators[0].until("caught up", is_caught_up).await;
    cluster.end();
}

/// Clients are led to a node while it becomes master. One that then does not become one keeps none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_did_not_become_master_lets_its_clients_go() {
    let Some(mut cluster) = Cluster::led("unfinished").await else {
        return;
    };
    for node in [0, 1, 2] {
        cluster.operators[node].done("fence", 2, fence(node == 0)).await;
    }
    let (target, requires) = fuller(&cluster);
    drain(&mut cluster, target, 2, &requires).await;
    let mut client = cluster.nodes[target].app().await.unwrap();
    // The last step before the node opens is something that the supervisor confirms.
    signal(cluster.nodes[target].supervisor.id(), "-STOP");
    let promote = Command::Promote { acks: 1, requires };
    let promoted = cluster.operators[target].send(2, promote);
    cluster.operators[target]
        .until("promoted", |report| report.promoted == Some(Term(2)))
        .await;
    raw_sql("SELECT 1").execute(&mut client).await.unwrap();
    let fenced = cluster.operators[target].send(3, fence(false));
    sleep(Duration::from_millis(50)).await;
    signal(cluster.nodes[target].supervisor.id(), "-CONT");
    assert!(promoted.await.unwrap().1.is_some(), "it became master");
    assert_eq!(fenced.await.unwrap().1, None);
    let stayed = raw_sql("SELECT 1").execute(&mut client).await;
    assert!(stayed.is_err(), "a client stayed");
    cluster.end();
}

/// Changes the master some times, and tells how long the steps took.
async fn repeated(name: &str, change: impl AsyncFn(&mut Cluster, u64, &mut Steps) -> Vec<u64>) {
    let Some(mut cluster) = Cluster::led(name).await else {
        return;
    };
    let mut steps = Steps::new();
    let mut written = Vec::new();
    for round in 0..rounds() {
        written.extend(change(&mut cluster, round, &mut steps).await);
        assert_holds(&cluster.nodes[0], &written).await;
    }
    println!("{} writes acknowledged", written.len());
    tell(steps);
    cluster.end();
}

fn tell(steps: Steps) {
    for (step, took) in steps {
        println!(
            "{step}: median {} ms of {}, worst {}",
            median(took.clone()),
            took.len(),
            took.iter().max().unwrap()
        );
    }
}

/// Four lanes of load on node 0.
struct Writers {
    stop: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Vec<u64>>>,
}

impl Writers {
    async fn start(cluster: &Cluster, round: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut lanes = Vec::new();
        for lane in 0..4 {
            let first = 1 + (round * 4 + lane) * 1_000_000;
            lanes.push(load(&cluster.nodes[0], first, Arc::clone(&stop)).await);
        }
        sleep(Duration::from_millis(500)).await;
        Self { stop, lanes }
    }

    /// What was acknowledged.
    async fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for lane in self.lanes {
            written.extend(lane.await.unwrap());
        }
        written
    }
}

async fn fenced(cluster: &Cluster, node: usize, term: u64) {
    cluster.operators[node]
        .until("fenced", |report| report.fenced == Some(Term(term)))
        .await;
}

/// The slave that holds more, and what it holds.
fn fuller(cluster: &Cluster) -> (usize, GtidSet) {
    let [one, other] = [1, 2].map(|slave| cluster.operators[slave].state().holds());
    if one.contains(&other) {
        (1, one)
    } else {
        (2, other)
    }
}

async fn drain(cluster: &mut Cluster, target: usize, term: u64, requires: &GtidSet) {
    if !cluster.operators[target].state().executed.contains(requires) {
        cluster.operators[target]
            .done("drain", term, Command::Drain { deadline_ms: 3000 })
            .await;
    }
}

/// Promotes, and returns when the node says that it leads; what is returned tells what came of the command.
async fn promote(cluster: &mut Cluster, target: usize, term: u64, requires: &GtidSet) -> Outcome {
    let promote = Command::Promote {
        acks: 1,
        requires: requires.clone(),
    };
    let outcome = cluster.operators[target].send(term, promote);
    cluster.operators[target]
        .until("leads", |report| {
            up(report)
                .is_some_and(|state| matches!(state.role, Role::Master { term: t, .. } if t == Term(term)))
        })
        .await;
    outcome
}

/// The first write on a new master.
async fn write_first(node: &support::Node, round: u64) {
    let sql = format!("INSERT INTO t.r VALUES ({})", 900_000_000 + round);
    let mut app = node.app().await.unwrap();
    raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut app).await.unwrap();
}

/// Returns when both others have caught up with the new master.
async fn caught_up(cluster: &Cluster, target: usize) {
    for slave in [0, 3 - target] {
        cluster.operators[slave].until("caught up", is_caught_up).await;
    }
}

/// Node 0 hands over to the better of the others, which is node 0 afterwards.
async fn switchover(cluster: &mut Cluster, round: u64, steps: &mut Steps) -> Vec<u64> {
    let term = round + 2;
    let writers = Writers::start(cluster, round).await;
    let mut note = |step, took| steps.entry(step).or_default().push(took);
    let begun = now();
    let stopped = cluster.operators[0].send(term, fence(true));
    fenced(cluster, 0, term).await;
    note("1 master fenced", ms(begun));
    let last = up(&cluster.operators[0].report()).unwrap().executed.clone();
    let at = now();
    let fences: Vec<_> = [1, 2]
        .map(|slave| cluster.operators[slave].send(term, fence(false)))
        .into();
    for slave in [1, 2] {
        fenced(cluster, slave, term).await;
    }
    note("2 slaves fenced", ms(at));
    let (target, requires) = fuller(cluster);
    assert!(
        requires.contains(&last),
        "a fenced master's last writes are on a slave"
    );
    let at = now();
    drain(cluster, target, term, &requires).await;
    note("3 drained", ms(at));
    let at = now();
    let promoted = promote(cluster, target, term, &requires).await;
    note("4 promoted", ms(at));
    let at = now();
    let follows: Vec<_> = [0, 3 - target]
        .map(|slave| {
            let command = follow(&cluster.nodes[target], &requires);
            cluster.operators[slave].send(term, command)
        })
        .into();
    write_first(&cluster.nodes[target], round).await;
    note("5 first write acknowledged", ms(at));
    note("6 whole outage", ms(begun));
    for outcome in fences.into_iter().chain(follows).chain([stopped, promoted]) {
        assert_eq!(outcome.await.unwrap().1, None);
    }
    caught_up(cluster, target).await;
    note("7 all slaves caught up", ms(begun));
    cluster.nodes.swap(0, target);
    cluster.operators.swap(0, target);
    writers.finish().await
}

/// mysqld of node 0 is killed; the better of the others leads and is node 0 afterwards, and the old master follows.
async fn failover(cluster: &mut Cluster, round: u64, steps: &mut Steps) -> Vec<u64> {
    let term = round + 2;
    let writers = Writers::start(cluster, round).await;
    let mut note = |step, took| steps.entry(step).or_default().push(took);
    let begun = now();
    signal(cluster.nodes[0].mysqld_pid(), "-KILL");
    cluster.operators[0].until("down", is_down).await;
    note("1 told", ms(begun));
    let mut outcomes: Vec<_> = [1, 2]
        .map(|slave| cluster.operators[slave].send(term, fence(false)))
        .into();
    for slave in [1, 2] {
        fenced(cluster, slave, term).await;
    }
    note("2 slaves fenced", ms(begun));
    let (target, requires) = fuller(cluster);
    drain(cluster, target, term, &requires).await;
    note("3 drained", ms(begun));
    outcomes.push(promote(cluster, target, term, &requires).await);
    note("4 promoted", ms(begun));
    let command = follow(&cluster.nodes[target], &requires);
    outcomes.push(cluster.operators[3 - target].send(term, command));
    let keep = cluster.operators[target].state().executed;
    write_first(&cluster.nodes[target], round).await;
    note("5 first write acknowledged", ms(begun));
    cluster.operators[0]
        .until("held", |report| report.tail == Some(Tail::Held))
        .await;
    cluster.operators[0]
        .done("cut", term, Command::Cut { keep })
        .await;
    let command = follow(&cluster.nodes[target], &requires);
    outcomes.push(cluster.operators[0].send(term, command));
    caught_up(cluster, target).await;
    note("6 old master follows", ms(begun));
    for outcome in outcomes {
        assert_eq!(outcome.await.unwrap().1, None);
    }
    cluster.nodes.swap(0, target);
    cluster.operators.swap(0, target);
    writers.finish().await
}
