//! A slave whose applier stops on an error while the slave is on its way to another source. MySQL would throw away what was
//! received and not executed, which the slave may have acknowledged.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use failover::NodeReport;
use sqlx::raw_sql;
use support::{
    cluster::{Cluster, executed, follow, signal},
    up,
};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_slave_received_outlives_its_applier() {
    let Some(mut cluster) = Cluster::led("received").await else {
        return;
    };
    let has_table = cluster.caught_up(2).await;
    let mut root = cluster.nodes[2].root().await;
    raw_sql(
        "SET GLOBAL super_read_only = OFF; SET sql_log_bin = 0; INSERT INTO t.r VALUES (1); SET sql_log_bin = 1; \
         SET GLOBAL super_read_only = ON; LOCK TABLES t.r READ",
    )
    .execute(&mut root)
    .await
    .unwrap();
    raw_sql("INSERT INTO t.r VALUES (1)")
        .execute(&mut cluster.nodes[0].app().await.unwrap())
        .await
        .unwrap();
    let all = executed(&cluster.nodes[0]).await;
    let received = |report: &NodeReport| up(report).is_some_and(|state| state.received.contains(&all));
    cluster.operators[2].until("the row", received).await;
    let before = cluster.operators[2].report();

    // The receiver takes a second to end while it connects to a server that is silent, and meanwhile the applier meets the
    // row that is there. From the next source nothing is got back, as it is silent, too.
    for silent in [0, 1] {
        signal(cluster.nodes[silent].mysqld_pid(), "-STOP");
    }
    raw_sql("STOP REPLICA IO_THREAD; START REPLICA IO_THREAD")
        .execute(&mut cluster.nodes[2].root().await)
        .await
        .unwrap();
    let command = follow(&cluster.nodes[1], &has_table);
    let outcome = cluster.operators[2].send(2, command);
    sleep(Duration::from_millis(200)).await;
    raw_sql("UNLOCK TABLES").execute(&mut root).await.unwrap();
    let (_, refusal) = outcome.await.unwrap();

    sleep(Duration::from_secs(1)).await;
    let after = cluster.operators[2].report();
    let lost = all.subtract(&cluster.operators[2].state().holds());
    println!("refused: {refusal:?}; lost: {lost}");
    assert!(
        lost.is_empty() || after.volume != before.volume,
        "it lost {lost} and counts as what it was"
    );
    assert!(lost.is_empty(), "it lost {lost}");
    assert!(refusal.is_some(), "what it received is not executed");
    for silent in [0, 1] {
        signal(cluster.nodes[silent].mysqld_pid(), "-CONT");
    }
    cluster.end();
}
