//! What a copy gives up, when it is given up itself (MySQL would wait for ever for commits of the donor that wait), and
//! that it outlives the kills after it.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use api::{
    kept::GivenUp,
    wire::{Command, Refusal},
};
use failover::{GtidSet, NodeReport, Receiver, Role};
use sqlx::{Row, raw_sql};
use support::{
    Operator,
    cluster::{Cluster, assert_holds, assert_keeps, fence, rows, signal},
    now, up,
};
use tokio::{task::JoinSet, time::sleep};

fn clone_of_master(cluster: &Cluster, extra: GtidSet) -> Command {
    Command::Clone {
        donor: "a".into(),
        address: cluster.nodes[0].address(),
        extra,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_stands_still_is_given_up_and_succeeds_from_a_closed_donor() {
    let Some(mut cluster) = Cluster::led("copy").await else {
        return;
    };
    for slave in [1, 2] {
        cluster.operators[slave].done("fence", 2, fence(false)).await;
    }
    let mut app = cluster.nodes[0].app().await.unwrap();
    let waits = tokio::spawn(async move {
        raw_sql("INSERT INTO t.r VALUES (1)")
            .execute(&mut app)
            .await
            .is_ok()
    });
    sleep(Duration::from_millis(200)).await;
    let uuid = cluster.operators[2].state().uuid;
    let begun = now();
    let copy = clone_of_master(&cluster, GtidSet::new());
    let (_, refusal) = cluster.operators[2].tell(2, copy).await;
    println!("given up after {} ms", begun.elapsed().as_millis());
    assert!(
        matches!(&refusal, Some(Refusal::Failed { message }) if message.contains("nothing came from it for 15 s")),
        "{refusal:?}"
    );
    // Its data is gone, its log too, and what it had counted under its old name would be counted again.
    cluster.operators[2]
        .until("another server", |report| {
            up(report).is_some_and(|state| state.uuid != uuid && state.holds().is_empty())
        })
        .await;

    cluster.operators[0].done("fence a", 3, fence(false)).await;
    assert!(
        !waits.await.unwrap(),
        "a master that was killed acknowledged a write that no slave had"
    );
    cluster.operators[0]
        .until("up", |report| up(report).is_some())
        .await;
    let copy = clone_of_master(&cluster, GtidSet::new());
    cluster.operators[2].done("clone", 3, copy).await;
    // Recovery has committed what waited.
    assert_holds(&cluster.nodes[2], &[1]).await;
    cluster.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_donor_lacks_is_given_up_only_by_name() {
    let Some(mut cluster) = Cluster::led("give-up").await else {
        return;
    };
    cluster.caught_up(2).await;
    let mut root = cluster.nodes[2].root().await;
    // In several files, of which one is closed; with and without a tag, compressed and not.
    raw_sql(
        "SET GLOBAL super_read_only = OFF; INSERT INTO t.r VALUES (7); FLUSH BINARY LOGS; \
         SET gtid_next = 'AUTOMATIC:aside'; INSERT INTO t.r VALUES (8); SET gtid_next = 'AUTOMATIC'; \
         SET binlog_transaction_compression = OFF; INSERT INTO t.r VALUES (9); CREATE TABLE t.aside (n INT); \
         SET GLOBAL super_read_only = ON",
    )
    .execute(&mut root)
    .await
    .unwrap();
    let lacks = cluster.operators[0].state().executed;
    let errant = |report: &NodeReport| up(report).is_some_and(|state| !lacks.contains(&state.executed));
    cluster.operators[2].until("errant", errant).await;
    let before = cluster.operators[2].report().volume;

    let copy = clone_of_master(&cluster, GtidSet::new());
    let (_, refusal) = cluster.operators[2].tell(1, copy).await;
    assert!(
        matches!(&refusal, Some(Refusal::Precondition { message }) if message.contains("has not executed all")),
        "{refusal:?}"
    );
    assert_eq!(cluster.operators[2].report().volume, before);
    assert_holds(&cluster.nodes[2], &[7, 8, 9]).await;
    assert!(cluster.operators[2].kept().is_empty(), "nothing is given up");
    assert_acknowledges(&cluster);

    let extra = cluster.extra(2, 0);
    assert_eq!(extra.count(), 4);
    // No folder can be made where a file is.
    let in_the_way = cluster.nodes[2].directory.join("tails");
    std::fs::write(&in_the_way, b"").unwrap();
    let copy = clone_of_master(&cluster, extra.clone());
    let (_, refusal) = cluster.operators[2].tell(1, copy).await;
    assert!(
        matches!(&refusal, Some(Refusal::Failed { message }) if message.contains("cannot be kept as a file")),
        "{refusal:?}"
    );
    assert_eq!(cluster.operators[2].report().volume, before);
    assert_acknowledges(&cluster);
    std::fs::remove_file(in_the_way).unwrap();

    let copy = clone_of_master(&cluster, extra.clone());
    cluster.operators[2].done("clone", 1, copy).await;
    assert_ne!(cluster.operators[2].report().volume, before);
    assert!(rows(&cluster.nodes[2]).await.is_empty());
    let kept = cluster.operators[2].kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].reason, kept[0].missing.is_empty()),
        (GivenUp::Extra, true)
    );
    assert_keeps(&kept[0], &extra, &[7, 8, 9]);

    let bound = raw_sql("SELECT @@global.clone_max_data_bandwidth")
        .fetch_one(&mut cluster.nodes[2].root().await)
        .await
        .unwrap();
    let bound: u32 = bound.try_get_unchecked(0).unwrap();
    assert_eq!(bound, api::mycnf::COPY_MIB_PER_SECOND, "the donor serves on");

    // Another agent finds the file again, and another clone has nothing more to keep.
    let copy = clone_of_master(&cluster, extra);
    cluster.operators[2].done("clone again", 1, copy).await;
    cluster.nodes[2].agent.kill().unwrap();
    cluster.nodes[2].agent.wait().unwrap();
    cluster.nodes[2].restart_agent();
    let operator = Operator::connect(&cluster.nodes[2], &cluster.tls, "operator")
        .await
        .unwrap();
    operator.until("up", |report| up(report).is_some()).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(operator.kept(), kept);
    cluster.end();
}

fn assert_acknowledges(cluster: &Cluster) {
    let state = cluster.operators[2].state();
    assert!(
        matches!(
            state.role,
            Role::Slave {
                receiver: Receiver::Receiving { .. },
                ..
            }
        ),
        "it acknowledges as before: {state:?}"
    );
}

/// Pages of the data that is gone, in InnoDB's doublewrite files, are put over the copy's when mysqld is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_over_data_that_had_seen_more_outlives_kills() {
    let Some(mut cluster) = Cluster::led("copied-over").await else {
        return;
    };
    let mut master = cluster.nodes[0].root().await;
    raw_sql("CREATE TABLE t.busy (id BIGINT AUTO_INCREMENT PRIMARY KEY, k BIGINT, pad TEXT, KEY (k))")
        .execute(&mut master)
        .await
        .unwrap();
    cluster.caught_up(2).await;
    cluster.operators[2].done("fence c", 1, fence(false)).await;
    for _ in 0..2 {
        writes_and_is_killed(&mut cluster, Duration::from_millis(1500)).await;
    }
    let copy = clone_of_master(&cluster, cluster.extra(2, 0));
    cluster.operators[2].done("clone", 1, copy).await;
    for _ in 0..3 {
        writes_and_is_killed(&mut cluster, Duration::from_millis(500)).await;
    }
    let said = std::fs::read_to_string(cluster.nodes[2].directory.join("mysql.log")).unwrap();
    assert!(!said.contains("Assertion failure"), "{said}");
    assert!(!said.contains("is in the future"), "{said}");
    cluster.end();
}

/// Node c writes for itself, with many at a time, and its mysqld is killed in the middle of it.
async fn writes_and_is_killed(cluster: &mut Cluster, span: Duration) {
    let node = &cluster.nodes[2];
    let mut root = node.root().await;
    raw_sql("SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF")
        .execute(&mut root)
        .await
        .unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let mut root = node.root().await;
        writers.spawn(async move {
            let mut written = 0_u64;
            let insert = "INSERT INTO t.busy (k, pad) VALUES (RAND() * 100000, REPEAT('x', RAND() * 400)); \
                          DELETE FROM t.busy WHERE id = CAST(LAST_INSERT_ID() AS SIGNED) - 50";
            loop {
                match raw_sql(insert).execute(&mut root).await {
                    Ok(_) => written += 1,
                    Err(error) => break (written, error.to_string()),
                }
            }
        });
    }
    sleep(span).await;
    signal(node.mysqld_pid(), "-KILL");
    let ended = writers.join_all().await;
    let written: u64 = ended.iter().map(|(written, _)| written).sum();
    assert!(written > 0, "nobody could write: {}", ended[0].1);
    println!("{written} writes before the kill");
    cluster.operators[2]
        .until("down", |report| up(report).is_none())
        .await;
    cluster.operators[2]
        .until("up again", |report| up(report).is_some())
        .await;
}
