//! A killed master gives up what nobody acknowledged and follows without a clone: rounds under eight writers, with
//! commits that hang, schema changes and compression; and every reason to refuse.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use api::{
    kept::GivenUp,
    wire::{Command, Refusal},
};
use failover::{GtidSet, Role, Tail, Term};
use sqlx::{AssertSqlSafe, Row, raw_sql};
use support::{
    cluster::{Cluster, assert_holds, fence, follow, is_down, load, median, rows, signal},
    is_caught_up, now, up,
};
use tokio::time::{sleep, timeout};

#[expect(clippy::disallowed_methods, reason = "a longer run is asked for from outside")]
fn rounds() -> u64 {
    let text = std::env::var("DDB_TEST_ROUNDS").unwrap_or_default();
    text.parse().unwrap_or(4)
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap()
}

fn is_held(report: &failover::NodeReport) -> bool {
    report.tail == Some(Tail::Held)
}

async fn sql(cluster: &Cluster, at: usize, text: String) {
    let mut root = cluster.nodes[at].root().await;
    raw_sql(AssertSqlSafe(text)).execute(&mut root).await.unwrap();
}

/// Runs a statement on the master and forgets it; it may wait for ever.
async fn hang(cluster: &Cluster, text: &str) {
    let mut root = cluster.nodes[0].root().await;
    let text = text.to_owned();
    tokio::spawn(async move { raw_sql(AssertSqlSafe(text)).execute(&mut root).await.is_ok() });
    sleep(Duration::from_millis(150)).await;
}

async fn fence_slaves(cluster: &mut Cluster, term: u64) {
    for slave in [1, 2] {
        cluster.operators[slave]
            .done("fence slave", term, fence(false))
            .await;
    }
}

async fn kill_master(cluster: &Cluster) -> Instant {
    let killed = now();
    signal(cluster.nodes[0].mysqld_pid(), "-KILL");
    cluster.operators[0].until("held", is_held).await;
    killed
}

/// The better slave leads in `term`; it is node 1 afterwards. Returns what it has.
async fn fail_over(cluster: &mut Cluster, term: u64) -> GtidSet {
    fence_slaves(cluster, term).await;
    let holds = [1, 2].map(|slave| cluster.operators[slave].state().holds());
    if !holds[0].contains(&holds[1]) {
        cluster.nodes.swap(1, 2);
        cluster.operators.swap(1, 2);
    }
    let requires = cluster.operators[1].state().holds();
    cluster.operators[1]
        .done("drain", term, Command::Drain { deadline_ms: 5000 })
        .await;
    let promote = Command::Promote {
        acks: 1,
        requires: requires.clone(),
    };
    cluster.operators[1].done("promote", term, promote).await;
    let command = follow(&cluster.nodes[1], &requires);
    cluster.operators[2].done("follow", term, command).await;
    cluster.operators[1].state().executed
}

/// The old master, node 0, follows node 1; then node 1 is called node 0.
async fn rejoin(cluster: &mut Cluster, term: u64) {
    let until = cluster.operators[1].state().executed;
    let command = follow(&cluster.nodes[1], &until);
    cluster.operators[0]
        .done("old master follows", term, command)
        .await;
    for slave in [0, 2] {
        cluster.operators[slave].until("caught up", is_caught_up).await;
    }
    cluster.nodes.swap(0, 1);
    cluster.operators.swap(0, 1);
}

async fn assert_equal(cluster: &Cluster) {
    let deadline = now() + Duration::from_secs(10);
    loop {
        let sets: Vec<GtidSet> = cluster
            .operators
            .iter()
            .map(|operator| operator.state().executed)
            .collect();
        if sets.iter().all(|set| *set == sets[0]) {
            break;
        }
        assert!(now() < deadline, "{sets:?}");
        sleep(Duration::from_millis(50)).await;
    }
    let mut seen = Vec::new();
    for node in &cluster.nodes {
        let mut root = node.root().await;
        let tables = raw_sql("SELECT GROUP_CONCAT(TABLE_NAME ORDER BY 1) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 't'")
            .fetch_one(&mut root)
            .await
            .unwrap();
        seen.push((
            tables.try_get_unchecked::<String, _>(0).unwrap(),
            rows(node).await,
        ));
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "the nodes' data differs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_gives_up_what_nobody_acknowledged_and_follows() {
    let Some(mut cluster) = Cluster::led("tail").await else {
        return;
    };
    let (mut rejoined, mut cuts, mut written) = (Vec::new(), 0, Vec::new());
    for round in 0..rounds() {
        let (took, cut) = one_round(&mut cluster, round, &mut written).await;
        println!("round {round}: {cut} transactions cut, rejoined after {took} ms");
        rejoined.push(took);
        cuts += u64::from(cut > 0);
    }
    println!(
        "kill to rejoin: median {} ms, {cuts} rounds with a tail",
        median(rejoined.clone())
    );
    assert!(cuts > 0, "no round had a tail");
    cluster.end();
}

async fn one_round(cluster: &mut Cluster, round: u64, written: &mut Vec<u64>) -> (u64, u64) {
    let term = 2 * round + 2;
    if round % 4 == 1 {
        sql(
            cluster,
            0,
            "SET GLOBAL binlog_transaction_compression = ON".to_owned(),
        )
        .await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for lane in 0..8 {
        let first = 1 + (round * 8 + lane) * 1_000_000;
        writers.push(load(&cluster.nodes[0], first, Arc::clone(&stop)).await);
    }
    sleep(Duration::from_millis(400)).await;
    // In every second round no slave acknowledges, so that commits hang for sure.
    if round % 2 == 1 {
        fence_slaves(cluster, term).await;
        hang(cluster, &format!("CREATE TABLE t.d{round} (n INT PRIMARY KEY)")).await;
    }
    let (before, uuid) = (
        cluster.operators[0].report().volume,
        cluster.operators[0].state().uuid,
    );
    let killed = kill_master(cluster).await;
    let keep = fail_over(cluster, term + 1).await;
    let cut = Command::Cut { keep: keep.clone() };
    cluster.operators[0].done("cut", term + 1, cut).await;
    let report = cluster.operators[0].report();
    assert_eq!(report.volume, before, "the data stays");
    let transactions = match &report.tail {
        Some(Tail::Cut {
            transactions,
            file,
            term: at,
        }) if *at == Term(term + 1) => {
            assert_ne!(
                cluster.operators[0].state().uuid,
                uuid,
                "no number is given twice"
            );
            assert!(!keep.contains(transactions) && std::path::Path::new(file).exists());
            let kept = &cluster.operators[0].kept()[0];
            assert_eq!(
                (kept.reason, &kept.file),
                (GivenUp::Unacknowledged, &Some(file.clone()))
            );
            assert!(transactions.contains(&kept.transactions), "{kept:?}");
            if let Some(shown) = support::mysqlbinlog(std::path::Path::new(file)) {
                let of_file = shown.matches("SET @@SESSION.GTID_NEXT= '").count();
                assert!(of_file as u64 > transactions.count(), "{shown}");
            }
            transactions.count()
        }
        Some(Tail::Refused { why }) => panic!("{why}"),
        _ => 0,
    };
    rejoin(cluster, term + 1).await;
    let took = ms(killed);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    assert_equal(cluster).await;
    assert_holds(&cluster.nodes[1], written).await;
    (took, transactions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_or_may_not_be_cut_is_refused_and_the_server_starts() {
    let Some(mut cluster) = Cluster::led("refusals").await else {
        return;
    };
    sql(
        &cluster,
        0,
        "CREATE TABLE t.m (n INT PRIMARY KEY) ENGINE = MyISAM".to_owned(),
    )
    .await;
    let cut = Command::Cut { keep: GtidSet::new() };
    let (_, refusal) = cluster.operators[0].tell(1, cut).await;
    assert!(
        matches!(refusal, Some(Refusal::Precondition { .. })),
        "a running server is not cut"
    );
    lost_relay_logs_are_fetched_again(&mut cluster, 2).await;
    a_slave_is_not_cut(&mut cluster, 2).await;
    refuses_an_older_file(&mut cluster, 2).await;
    nobody_says_what_to_keep(&mut cluster, 3).await;
    refuses_what_is_not_transactional(&mut cluster, 6).await;
    a_pod_that_is_gone_is_held_when_it_returns(&mut cluster, 8).await;
    // From here on every log begins with a tagged set.
    refuses_tags(&mut cluster, 10).await;
    cluster.end();
}

async fn refused(cluster: &mut Cluster, term: u64, keep: GtidSet, why: &str) {
    refused_by(cluster, 0, term, keep, why).await;
}

async fn refused_by(cluster: &mut Cluster, at: usize, term: u64, keep: GtidSet, why: &str) {
    let (_, _) = cluster.operators[at].tell(term, Command::Cut { keep }).await;
    let report = cluster.operators[at].report();
    println!("{:?}", report.tail);
    assert!(
        matches!(&report.tail, Some(Tail::Refused { why: said }) if said.contains(why)),
        "{:?}",
        report.tail
    );
    assert!(up(&report).is_some_and(|state| state.role == Role::Idle && !state.open));
}

async fn refuses_an_older_file(cluster: &mut Cluster, term: u64) {
    let few = cluster.operators[0].state().executed;
    sql(
        cluster,
        0,
        "INSERT INTO t.r VALUES (1); FLUSH BINARY LOGS; INSERT INTO t.r VALUES (2)".to_owned(),
    )
    .await;
    kill_master(cluster).await;
    fail_over(cluster, term).await;
    refused(cluster, term, few, "older binary log").await;
    rejoin(cluster, term).await;
    assert_equal(cluster).await;
}

/// As after a kill in the middle of throwing relay logs away: the server's memory names one that is gone.
async fn lost_relay_logs_are_fetched_again(cluster: &mut Cluster, term: u64) {
    for (slave, same) in [(1, true), (2, false)] {
        cluster.operators[slave].done("fence", term, fence(false)).await;
        let before = cluster.operators[slave].report().volume;
        // A stopped supervisor starts nothing until the files are as they are to be.
        signal(cluster.nodes[slave].supervisor.id(), "-STOP");
        signal(cluster.nodes[slave].mysqld_pid(), "-KILL");
        sleep(Duration::from_millis(300)).await;
        let datadir = cluster.nodes[slave].directory.join("mysql");
        for entry in std::fs::read_dir(&datadir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("relay.") {
                std::fs::remove_file(path).unwrap();
            }
        }
        // The wait begins first: the server is down for a moment only.
        let down = cluster.operators[slave].until("down", is_down);
        tokio::join!(down, async {
            signal(cluster.nodes[slave].supervisor.id(), "-CONT");
        });
        cluster.operators[slave]
            .until("up", |report| up(report).is_some())
            .await;
        let until = cluster.operators[0].state().executed;
        let mut command = follow(&cluster.nodes[0], &until);
        if let (Command::Follow { address, .. }, false) = (&mut command, same) {
            *address = address.replace("127.0.0.1", "127.0.0.2");
        }
        let (_, refusal) = cluster.operators[slave].tell(term, command.clone()).await;
        assert!(
            matches!(&refusal, Some(Refusal::Precondition { message }) if message.contains("counts as new")),
            "{refusal:?}"
        );
        assert_ne!(cluster.operators[slave].report().volume, before);
        if let Command::Follow { whole, .. } = &mut command {
            *whole = false;
        }
        cluster.operators[slave]
            .done("follow after lost relay logs", term, command)
            .await;
        cluster.operators[slave].until("caught up", is_caught_up).await;
    }
    assert_equal(cluster).await;
}

async fn nobody_says_what_to_keep(cluster: &mut Cluster, term: u64) {
    let killed = kill_master(cluster).await;
    cluster.operators[0]
        .until("up", |report| up(report).is_some())
        .await;
    println!("killed, not told what to keep: up after {} ms", ms(killed));
    let tail = cluster.operators[0].report().tail;
    assert!(
        matches!(&tail, Some(Tail::Refused { why }) if why.contains("nobody")),
        "{tail:?}"
    );
    fail_over(cluster, term).await;
    rejoin(cluster, term).await;
}

async fn refuses_tags(cluster: &mut Cluster, term: u64) {
    sql(
        cluster,
        0,
        "SET gtid_next = 'AUTOMATIC:tag'; INSERT INTO t.r VALUES (3)".to_owned(),
    )
    .await;
    kill_master(cluster).await;
    let keep = fail_over(cluster, term).await;
    refused(cluster, term, keep, "tagged").await;
    rejoin(cluster, term).await;
}

async fn refuses_what_is_not_transactional(cluster: &mut Cluster, term: u64) {
    fence_slaves(cluster, term).await;
    hang(cluster, "INSERT INTO t.m VALUES (1)").await;
    kill_master(cluster).await;
    let keep = fail_over(cluster, term + 1).await;
    refused(cluster, term + 1, keep, "not transactional").await;
    let clone = Command::Clone {
        donor: "slave".into(),
        address: cluster.nodes[2].address(),
        extra: cluster.extra(0, 2),
    };
    cluster.operators[0].done("clone", term + 1, clone).await;
    assert_eq!(cluster.operators[0].report().tail, None);
    rejoin(cluster, term + 1).await;
    assert_equal(cluster).await;
}

/// Supervisor and mysqld die together, as with a machine; the next supervisor keeps mysqld down.
async fn lose_the_machine(cluster: &mut Cluster, at: usize) {
    let pid = cluster.nodes[at].mysqld_pid();
    signal(cluster.nodes[at].supervisor.id(), "-KILL");
    signal(pid, "-KILL");
    cluster.nodes[at].supervisor.wait().unwrap();
    cluster.nodes[at].restart_supervisor();
    cluster.operators[at].until("held", is_held).await;
}

/// The marker that keeps a master down can come back after it was taken away: what a slave got since stays.
async fn a_slave_is_not_cut(cluster: &mut Cluster, term: u64) {
    let keep = cluster.operators[2].state().executed;
    sql(cluster, 0, "INSERT INTO t.r VALUES (5)".to_owned()).await;
    cluster.operators[0]
        .until("it has written", |report| {
            up(report).is_some_and(|state| !keep.contains(&state.executed))
        })
        .await;
    let written = cluster.operators[0].state().executed;
    cluster.operators[2]
        .until("it has what was written", |report| {
            up(report).is_some_and(|state| state.executed.contains(&written))
        })
        .await;
    std::fs::write(cluster.nodes[2].directory.join("mysql.hold"), "").unwrap();
    lose_the_machine(cluster, 2).await;
    refused_by(cluster, 2, term, keep.clone(), "it was a slave").await;
    let holds = cluster.operators[2].state().executed;
    assert!(holds.contains(&written), "{holds:?}");
    let command = follow(&cluster.nodes[0], &written);
    cluster.operators[2].done("follow", term, command).await;
    cluster.operators[2].until("caught up", is_caught_up).await;
}

async fn a_pod_that_is_gone_is_held_when_it_returns(cluster: &mut Cluster, term: u64) {
    fence_slaves(cluster, term).await;
    hang(cluster, "INSERT INTO t.r VALUES (4)").await;
    lose_the_machine(cluster, 0).await;
    let keep = fail_over(cluster, term + 1).await;
    let held = timeout(
        Duration::from_millis(100),
        cluster.operators[0].until("up", |report| up(report).is_some()),
    );
    assert!(held.await.is_err(), "it is kept down");
    cluster.operators[0]
        .done("cut", term + 1, Command::Cut { keep })
        .await;
    assert!(matches!(
        cluster.operators[0].report().tail,
        Some(Tail::Cut { .. })
    ));
    rejoin(cluster, term + 1).await;
    assert_equal(cluster).await;
}
