//! The guard of a real master: it keeps its clients while it hears the operator or a slave, drops them when it hears
//! neither, never ends a commit that waits, and opens again only when it is confirmed.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use failover::{NodeReport, Role, Term};
use sqlx::raw_sql;
use support::{
    cluster::{Cluster, fence, rows, signal},
    now, up, word,
};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_alone_drops_its_clients_and_nothing_else() {
    let Some(mut cluster) = Cluster::led("guard").await else {
        return;
    };
    cluster.operators[0]
        .word
        .lock()
        .unwrap()
        .replace(word(Some(1), peers(&cluster)));
    sleep(Duration::from_millis(700)).await;
    losing_the_operator_alone_changes_nothing(&cluster).await;
    losing_the_slaves_alone_changes_nothing(&cluster).await;
    alone_it_closes_and_a_waiting_commit_stays(&mut cluster).await;
    a_higher_term_keeps_it_closed(&mut cluster).await;
    cluster.end();
}

fn peers(cluster: &Cluster) -> Vec<String> {
    let others = cluster.nodes[1..].iter();
    others
        .map(|node| format!("127.0.0.1:{}", node.probe_port))
        .collect()
}

fn is_closed(report: &NodeReport) -> bool {
    report.closed.is_some() && up(report).is_some_and(|state| !state.open)
}

fn is_open(report: &NodeReport) -> bool {
    report.closed.is_none() && up(report).is_some_and(|state| state.open)
}

/// Slaves and their agents, so that they neither acknowledge nor answer.
fn all_slaves(cluster: &Cluster, what: &str) {
    for at in [1, 2] {
        signal(cluster.nodes[at].mysqld_pid(), what);
        signal(cluster.nodes[at].agent.id(), what);
    }
}

async fn losing_the_operator_alone_changes_nothing(cluster: &Cluster) {
    cluster.operators[0].word.lock().unwrap().take();
    sleep(Duration::from_millis(3500)).await;
    assert!(is_open(&cluster.operators[0].report()));
}

async fn losing_the_slaves_alone_changes_nothing(cluster: &Cluster) {
    cluster.operators[0]
        .word
        .lock()
        .unwrap()
        .replace(word(Some(1), peers(cluster)));
    sleep(Duration::from_millis(300)).await;
    all_slaves(cluster, "-STOP");
    sleep(Duration::from_millis(3500)).await;
    assert!(is_open(&cluster.operators[0].report()));
    all_slaves(cluster, "-CONT");
    sleep(Duration::from_millis(2500)).await;
}

async fn alone_it_closes_and_a_waiting_commit_stays(cluster: &mut Cluster) {
    let mut app = cluster.nodes[0].app().await.unwrap();
    all_slaves(cluster, "-STOP");
    let alone = now();
    cluster.operators[0].word.lock().unwrap().take();
    let hung = tokio::spawn(async move {
        raw_sql("INSERT INTO t.r VALUES (4400000)")
            .execute(&mut app)
            .await
            .is_ok()
    });
    let closed = cluster.operators[0].until("closed", is_closed).await;
    let took = closed.duration_since(alone).as_millis();
    println!(
        "alone to closed: {took} ms; {:?}",
        cluster.operators[0].report().closed
    );
    assert!((1500..3500).contains(&took), "{took}");
    assert!(!hung.await.unwrap(), "a commit that no slave holds was told OK");
    assert!(
        cluster.nodes[0].app().await.is_err(),
        "a closed master lets clients in"
    );
    assert!(cluster.nodes[0].get("/readyz").await.starts_with("HTTP/1.1 503"));
    let metrics = cluster.nodes[0].get("/metrics").await;
    let counted = metrics.lines().find_map(|line| {
        line.strip_prefix("ddb_node_guard_actions_total ")?
            .parse::<u64>()
            .ok()
    });
    assert!(counted > Some(0), "{metrics}");
    let waiting = |report: &NodeReport| {
        up(report).is_some_and(|state| matches!(state.role, Role::Master { waiting: 1.., .. }))
    };
    assert!(
        waiting(&cluster.operators[0].report()),
        "the commit is still inside"
    );
    assert!(!rows(&cluster.nodes[0]).await.contains(&4_400_000));
    let back = now();
    all_slaves(cluster, "-CONT");
    let opened = cluster.operators[0].until("open again", is_open).await;
    println!(
        "slaves back to open: {} ms",
        opened.duration_since(back).as_millis()
    );
    let freed = |report: &NodeReport| {
        up(report).is_some_and(|state| matches!(state.role, Role::Master { waiting: 0, .. }))
    };
    cluster.operators[0]
        .until("the commit is acknowledged", freed)
        .await;
    assert!(rows(&cluster.nodes[0]).await.contains(&4_400_000));
}

async fn a_higher_term_keeps_it_closed(cluster: &mut Cluster) {
    sleep(Duration::from_millis(1500)).await;
    cluster.operators[1]
        .done("fence b in term 2", 2, fence(false))
        .await;
    let told = now();
    let closed = cluster.operators[0].until("closed", is_closed).await;
    println!(
        "a slave's higher term to closed: {} ms",
        closed.duration_since(told).as_millis()
    );
    cluster.operators[0]
        .word
        .lock()
        .unwrap()
        .replace(word(Some(1), peers(cluster)));
    sleep(Duration::from_millis(1500)).await;
    let report = cluster.operators[0].report();
    assert!(is_closed(&report) && report.term == Term(1), "{report:?}");
    // Frozen, it obeys nothing: its fence is a kill.
    signal(cluster.nodes[0].mysqld_pid(), "-STOP");
    cluster.operators[0]
        .done("fence a in term 2 (frozen: killed)", 2, fence(false))
        .await;
    let freed = |report: &NodeReport| report.fenced == Some(Term(2)) && report.closed.is_none();
    cluster.operators[0]
        .until("fenced and no longer closed", freed)
        .await;
}
