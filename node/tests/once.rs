//! The servers of a node have one id: a slave acknowledges a write once, whichever start of its server and whichever data
//! it is that does, and a server still gets what it once wrote itself.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use api::wire::Command;
use failover::{GtidSet, NodeReport, Role};
use sqlx::{AssertSqlSafe, raw_sql};
use support::{
    cluster::{Cluster, assert_holds, fence, follow, is_down, signal},
    is_caught_up, up, word,
};
use tokio::{task::JoinHandle, time::sleep};

/// The master waits for two slaves of which one stands still. What the other has, and has lost, must not count twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_two_slaves_and_not_for_one_twice() {
    let Some(mut cluster) = Cluster::led("once").await else {
        return;
    };
    let leading = word(Some(1), Vec::new());
    cluster.operators[0].word.lock().unwrap().replace(leading);
    cluster.caught_up(1).await;
    let has_table = cluster.caught_up(2).await;
    cluster.operators[2].done("fence c", 1, fence(false)).await;
    raw_sql("SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 2")
        .execute(&mut cluster.nodes[0].root().await)
        .await
        .unwrap();
    let first = write(&cluster, 1).await;
    let received =
        |report: &NodeReport| up(report).is_some_and(|state| !state.executed.subtract(&has_table).is_empty());
    cluster.operators[1].until("the first write", received).await;

    signal(cluster.nodes[1].mysqld_pid(), "-KILL");
    cluster.operators[1].until("down", is_down).await;
    cluster.operators[1]
        .until("up again", |report| up(report).is_some())
        .await;
    let again = follow(&cluster.nodes[0], &has_table);
    cluster.operators[1].done("follow a again", 1, again).await;
    cluster.operators[1].until("caught up", is_caught_up).await;
    let second = write(&cluster, 2).await;
    still_waits(&cluster, &[&first, &second]).await;

    gets_new_data(&mut cluster, 1, 0, 1).await;
    let third = write(&cluster, 3).await;
    still_waits(&cluster, &[&first, &second, &third]).await;

    let command = follow(&cluster.nodes[0], &has_table);
    cluster.operators[2].done("follow a", 1, command).await;
    for write in [first, second, third] {
        assert!(write.await.unwrap(), "two slaves have it");
    }
    for slave in [1, 2] {
        assert_holds(&cluster.nodes[slave], &[1, 2, 3]).await;
    }
    cluster.end();
}

async fn write(cluster: &Cluster, number: u64) -> JoinHandle<bool> {
    let mut app = cluster.nodes[0].app().await.unwrap();
    tokio::spawn(async move {
        let sql = format!("INSERT INTO t.r (n) VALUES ({number})");
        raw_sql(AssertSqlSafe(sql)).execute(&mut app).await.is_ok()
    })
}

async fn still_waits(cluster: &Cluster, writes: &[&JoinHandle<bool>]) {
    sleep(Duration::from_millis(1500)).await;
    let ended = writes.iter().position(|write| write.is_finished());
    assert_eq!(ended, None, "one slave was counted twice, or the write broke off");
    let report = cluster.operators[0].report();
    assert!(
        up(&report).is_some_and(|state| matches!(state.role, Role::Master { waiting: 1.., .. })),
        "{report:?}"
    );
}

/// Node `at` gets the data of c, which lacks some of what it had, and is whole again only with all that the master has.
async fn gets_new_data(cluster: &mut Cluster, at: usize, master: usize, term: u64) {
    cluster.operators[at].done("fence", term, fence(false)).await;
    let lost = cluster.extra(at, 2);
    assert!(!lost.is_empty());
    let copy = Command::Clone {
        donor: "c".into(),
        address: cluster.nodes[2].address(),
        extra: lost.clone(),
    };
    cluster.operators[at].done("clone of c", term, copy).await;
    let command = Command::Follow {
        source: cluster.nodes[master].name.as_str().into(),
        address: cluster.nodes[master].address(),
        until: GtidSet::new(),
        whole: false,
    };
    cluster.operators[at]
        .done("follow with new data", term, command)
        .await;
    let until = cluster.nodes[at].remembered_until();
    assert!(until.contains(&lost), "{until} lacks some of {lost}");
    cluster.operators[at].until("caught up", is_caught_up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_master_gets_back_what_it_wrote_itself() {
    let Some(mut cluster) = Cluster::led("own").await else {
        return;
    };
    cluster.caught_up(2).await;
    cluster.operators[2].done("fence c", 1, fence(false)).await;
    for number in 1..=3 {
        assert!(write(&cluster, number).await.await.unwrap());
    }
    for node in [0, 1] {
        cluster.operators[node].done("fence", 2, fence(true)).await;
    }
    let promote = Command::Promote {
        acks: 1,
        requires: cluster.operators[1].state().holds(),
    };
    cluster.operators[1].done("promote b", 2, promote).await;
    gets_new_data(&mut cluster, 0, 1, 2).await;
    assert_holds(&cluster.nodes[0], &[1, 2, 3]).await;
    cluster.end();
}
