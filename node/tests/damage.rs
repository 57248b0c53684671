//! Data on which mysqld cannot run: the node says so after some vain starts, begins anew when it is told to, and not
//! before. A server that somebody kills again and again is not taken for one.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use api::wire::{Command, Refusal};
use failover::{NodeReport, VolumeId};
use sqlx::{Row, raw_sql};
use support::{
    Node, Operator,
    cluster::{Cluster, assert_holds, fence, follow, is_down, signal},
    is_caught_up, up,
};
use tokio::time::sleep;

/// The size of InnoDB's pages.
const PAGE: u32 = 16 * 1024;

async fn datadir(node: &Node) -> PathBuf {
    let row = raw_sql("SELECT @@GLOBAL.datadir")
        .fetch_one(&mut node.root().await)
        .await
        .unwrap();
    PathBuf::from(row.get::<String, _>(0))
}

/// Overwrites most of what the server reads of the file when it starts, but for its first page.
fn spoil(file: &Path) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    for page in 1..=60 {
        file.write_all_at(&vec![0xa5; PAGE as usize], u64::from(PAGE * page))
            .unwrap();
    }
}

fn is_damaged(report: &NodeReport) -> bool {
    report.damaged.is_some()
}

async fn discard(operator: &mut Operator, term: u64) -> Option<Refusal> {
    operator.tell(term, Command::Discard).await.1
}

/// Spoils `file` of a slave while no mysqld runs. It ended in order: one that recovers its log on such pages may hang
/// instead of ending, which takes minutes to be found.
async fn damage(cluster: &mut Cluster, slave: usize, file: &str) {
    let node = &mut cluster.nodes[slave];
    let directory = datadir(node).await;
    let process = PathBuf::from(format!("/proc/{}", node.mysqld_pid()));
    let mut root = node.root().await;
    signal(node.supervisor.id(), "-KILL");
    node.supervisor.wait().unwrap();
    // Its connection may break before the answer comes.
    _ = raw_sql("SHUTDOWN").execute(&mut root).await;
    while process.exists() {
        sleep(Duration::from_millis(20)).await;
    }
    spoil(&directory.join(file));
    node.restart_supervisor();
}

/// Sees a slave say that its data is damaged, begin anew and follow.
async fn heals(cluster: &mut Cluster, slave: usize, volume: &VolumeId) {
    cluster.operators[slave].until("damaged", is_damaged).await;
    let report = cluster.operators[slave].report();
    println!("{}", report.damaged.clone().unwrap());
    assert_eq!(report.volume, *volume, "nothing was thrown away yet");

    assert_eq!(discard(&mut cluster.operators[slave], 1).await, None);
    cluster.operators[slave]
        .until("empty", |report| {
            up(report).is_some_and(|state| state.executed.is_empty())
        })
        .await;
    let report = cluster.operators[slave].report();
    assert!(!is_damaged(&report) && report.volume != *volume);
    let refusal = discard(&mut cluster.operators[slave], 1).await;
    assert!(refusal.is_some(), "an empty database is not thrown away");

    let until = cluster.operators[0].state().executed;
    cluster.operators[slave].done("fence", 1, fence(false)).await;
    let command = follow(&cluster.nodes[0], &until);
    cluster.operators[slave].done("follow a again", 1, command).await;
    cluster.operators[slave].until("caught up", is_caught_up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_run_on_its_data_begins_anew_when_it_is_told_to() {
    let Some(mut cluster) = Cluster::led("damage").await else {
        return;
    };
    let mut app = cluster.nodes[0].app().await.unwrap();
    for n in 0..50 {
        sqlx::query("INSERT INTO t.r VALUES (?)")
            .bind(n)
            .execute(&mut app)
            .await
            .unwrap();
    }
    for _ in 0..8 {
        signal(cluster.nodes[1].mysqld_pid(), "-KILL");
        cluster.operators[1].until("killed", is_down).await;
        cluster.operators[1]
            .until("another life", |report| up(report).is_some())
            .await;
    }
    assert!(
        !is_damaged(&cluster.operators[1].report()),
        "it was killed by somebody"
    );
    let refusal = discard(&mut cluster.operators[1], 1).await;
    assert!(
        matches!(refusal, Some(Refusal::Precondition { .. })),
        "{refusal:?}"
    );
    let until = cluster.operators[0].state().executed;
    let command = follow(&cluster.nodes[0], &until);
    cluster.operators[1].done("follow a again", 1, command).await;
    cluster.operators[1].until("caught up", is_caught_up).await;

    let volumes = [1, 2].map(|slave: usize| cluster.operators[slave].report().volume);
    damage(&mut cluster, 1, "mysql.ibd").await;
    damage(&mut cluster, 2, "undo_001").await;
    // It must have gone on for a minute.
    sleep(Duration::from_secs(55)).await;
    for slave in [1, 2] {
        assert!(!is_damaged(&cluster.operators[slave].report()), "too soon");
        assert!(discard(&mut cluster.operators[slave], 1).await.is_some());
    }
    sleep(Duration::from_secs(6)).await;
    for (slave, volume) in [1, 2].into_iter().zip(&volumes) {
        heals(&mut cluster, slave, volume).await;
    }
    let written: Vec<u64> = (0..50).collect();
    for node in [1, 2] {
        assert_holds(&cluster.nodes[node], &written).await;
    }
    cluster.end();
}
