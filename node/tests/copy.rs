//! A copy to which the donor adds nothing any more is given up: MySQL itself would wait for ever for commits of the
//! donor that wait. Once the donor is fenced, which kills it, the copy succeeds.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use api::wire::{Command, Refusal};
use sqlx::raw_sql;
use support::{
    cluster::{Cluster, assert_holds, fence},
    now, up,
};
use tokio::time::sleep;

fn clone_of_master(cluster: &Cluster) -> Command {
    Command::Clone {
        donor: "a".into(),
        address: cluster.nodes[0].address(),
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
    let copy = clone_of_master(&cluster);
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
    let copy = clone_of_master(&cluster);
    cluster.operators[2].done("clone", 3, copy).await;
    // Recovery has committed what waited.
    assert_holds(&cluster.nodes[2], &[1]).await;
    cluster.end();
}
