//! What a copy gives up, and when it is given up itself: MySQL would wait for ever for commits of the donor that wait.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use api::wire::{Command, Refusal};
use failover::{GtidSet, NodeReport, Receiver, Role};
use sqlx::raw_sql;
use support::{
    cluster::{Cluster, assert_holds, fence, rows},
    now, up,
};
use tokio::time::sleep;

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
    let begun = now();
    let copy = clone_of_master(&cluster, GtidSet::new());
    let (_, refusal) = cluster.operators[2].tell(2, copy).await;
    println!("given up after {} ms", begun.elapsed().as_millis());
    assert!(
        matches!(&refusal, Some(Refusal::Failed { message }) if message.contains("nothing came from it for 15 s")),
        "{refusal:?}"
    );
    cluster.operators[2]
        .until("another life", |report| up(report).is_some())
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
    let has_table = cluster.operators[0].state().executed;
    let follows = |report: &NodeReport| up(report).is_some_and(|state| state.executed.contains(&has_table));
    cluster.operators[2].until("the table", follows).await;
    let mut root = cluster.nodes[2].root().await;
    raw_sql("SET GLOBAL super_read_only = OFF; INSERT INTO t.r VALUES (7); SET GLOBAL super_read_only = ON")
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
    assert_holds(&cluster.nodes[2], &[7]).await;
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

    let copy = clone_of_master(&cluster, cluster.extra(2, 0));
    cluster.operators[2].done("clone", 1, copy).await;
    assert_ne!(cluster.operators[2].report().volume, before);
    assert!(rows(&cluster.nodes[2]).await.is_empty());
    // Pages of the data that is gone would be put over the new ones when mysqld is killed for the first time.
    let said = std::fs::read_to_string(cluster.nodes[2].directory.join("mysql.log")).unwrap();
    assert!(
        said.contains("doublewrite files of the data that was copied over are taken away"),
        "{said}"
    );
    cluster.end();
}
