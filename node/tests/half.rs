//! A slave that ended while it received: its relay logs end with the name of a transaction whose rest never came, and, after
//! an orderly end, with the event that says so. Left as it is, MySQL's applier stands still there for ever. The slave follows
//! the next master at once and has everything.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::PathBuf, time::Duration};

use api::wire::Command;
use sqlx::{Row, raw_sql};
use support::{
    cluster::{Cluster, assert_holds, fence, follow, is_down, signal},
    is_caught_up, now, up,
};
use tokio::time::sleep;

/// The event that holds all of a compressed transaction but its name.
const PAYLOAD: u8 = 40;

/// What a server writes last when it is shut down in order.
const STOP: u8 = 3;

/// Takes the last payload out of the newest relay log, which a shutdown in order has ended.
fn halve(logs: &str) {
    let basename = PathBuf::from(logs);
    let stem = basename.file_name().unwrap().to_str().unwrap().to_owned();
    let is_log = |path: &PathBuf| {
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        path.file_stem().is_some_and(|it| *it == *stem) && extension.parse::<u32>().is_ok()
    };
    let files = fs::read_dir(basename.parent().unwrap()).unwrap();
    let newest = files.map(|it| it.unwrap().path()).filter(is_log).max().unwrap();
    let bytes = fs::read(&newest).unwrap();
    let (mut at, mut last, mut stop) = (4, None, None);
    while let Some(header) = bytes.get(at..at + 19) {
        match header[4] {
            PAYLOAD => last = Some(at),
            STOP => stop = Some(at),
            _ => {}
        }
        at += u32::from_le_bytes(header[9..13].try_into().unwrap()) as usize;
    }
    let last = last.expect("the log has compressed transactions");
    let stop = stop.expect("the server ended in order");
    fs::write(&newest, [&bytes[..last], &bytes[stop..]].concat()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slave_with_half_a_transaction_follows_another_master_at_once() {
    let Some(mut cluster) = Cluster::led("half").await else {
        return;
    };
    // What the slave has received and not executed makes its applier start when it comes back.
    let mut root = cluster.nodes[2].root().await;
    let logs: String = raw_sql("SELECT @@GLOBAL.relay_log_basename")
        .fetch_one(&mut root)
        .await
        .unwrap()
        .get(0);
    raw_sql("LOCK TABLES t.r READ").execute(&mut root).await.unwrap();
    let mut app = cluster.nodes[0].app().await.unwrap();
    for n in 0..50 {
        sqlx::query("INSERT INTO t.r VALUES (?)")
            .bind(n)
            .execute(&mut app)
            .await
            .unwrap();
    }
    let all = cluster.operators[0].state().executed;
    cluster.operators[2]
        .until("all received", |report| {
            up(report).is_some_and(|state| state.holds().contains(&all))
        })
        .await;
    let pid = cluster.nodes[2].mysqld_pid();
    signal(cluster.nodes[2].supervisor.id(), "-KILL");
    cluster.nodes[2].supervisor.wait().unwrap();
    // Its connection may break before the answer comes.
    _ = raw_sql("SHUTDOWN").execute(&mut root).await;
    let process = PathBuf::from(format!("/proc/{pid}"));
    while process.exists() {
        sleep(Duration::from_millis(20)).await;
    }
    cluster.operators[2].until("down", is_down).await;
    halve(&logs);
    cluster.nodes[2].restart_supervisor();
    cluster.operators[2]
        .until("another life", |report| up(report).is_some())
        .await;
    let lacks = all.subtract(&cluster.operators[2].state().holds());
    // The half may be of a later transaction than these.
    assert!(lacks.count() <= 1, "only the half is gone: {lacks}");

    for node in 0..3 {
        cluster.operators[node].done("fence", 2, fence(false)).await;
    }
    let requires = cluster.operators[1].state().holds();
    cluster.operators[1]
        .done("drain", 2, Command::Drain { deadline_ms: 3000 })
        .await;
    let promote = Command::Promote {
        acks: 1,
        requires: requires.clone(),
    };
    cluster.operators[1].done("promote", 2, promote).await;
    let begun = now();
    let command = follow(&cluster.nodes[1], &requires);
    cluster.operators[2].done("follow", 2, command).await;
    cluster.operators[2].until("caught up", is_caught_up).await;
    println!("follows after {} ms", begun.elapsed().as_millis());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let written: Vec<u64> = (0..50).collect();
    assert_holds(&cluster.nodes[2], &written).await;
    cluster.end();
}
