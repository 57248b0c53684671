//! What is told is there for ever: it was acknowledged, and by who leads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::raw_sql;
use tokio::time::sleep;

use super::{Client, follow, run, try_follow};
use crate::{
    support::{
        Node,
        cluster::{Cluster, fence, load, rows, signal},
        https::READER,
    },
    takeover::fail_over,
};

async fn root(node: &Node, sql: &'static str) {
    raw_sql(sql).execute(&mut node.root().await).await.unwrap();
}

/// A commit that no slave has acknowledged may be lost with the master, so it is not told; it is in the master's log all
/// the while, and a dump is sent it at once.
pub async fn only_what_is_acknowledged(cluster: &Cluster) {
    let master = &cluster.nodes[0];
    let mut feed = follow(master, READER, "?tables=feed.r", None).await;
    let mut forwarded = follow(&cluster.nodes[1], READER, "?tables=feed.r", None).await;
    run(master, "INSERT INTO feed.r VALUES (300)").await;
    for feed in [&mut feed, &mut forwarded] {
        assert_eq!(feed.transaction().await.0[0]["row"], json!({"n": 300}));
    }
    for slave in [1, 2] {
        root(&cluster.nodes[slave], "STOP REPLICA IO_THREAD").await;
    }
    let mut app = master.app().await.unwrap();
    let writing =
        tokio::spawn(async move { raw_sql("INSERT INTO feed.r VALUES (301)").execute(&mut app).await });
    let held_up =
        "SELECT 1 FROM performance_schema.processlist WHERE STATE LIKE 'Waiting for semi-sync ACK%'";
    master.finds(held_up, Duration::from_secs(20)).await;
    let mut late = follow(master, READER, "?tables=feed.r", Some(&feed.id)).await;
    for feed in [&mut feed, &mut forwarded, &mut late] {
        let early = feed.within(Duration::from_secs(2)).await;
        assert!(early.is_none(), "told before any slave held it: {early:?}");
    }
    assert!(!writing.is_finished(), "the write was acknowledged by nobody");
    root(&cluster.nodes[1], "START REPLICA IO_THREAD").await;
    for feed in [&mut feed, &mut forwarded, &mut late] {
        assert_eq!(feed.transaction().await.0[0]["row"], json!({"n": 301}));
    }
    writing.await.unwrap().unwrap();
    root(&cluster.nodes[2], "START REPLICA IO_THREAD").await;
    let clients = "SELECT 1 FROM performance_schema.global_status \
         WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_clients' AND VARIABLE_VALUE = 2";
    master.finds(clients, Duration::from_secs(20)).await;
    println!("nothing is told before a slave holds it");
}

/// A client as it should be: rows count once their transaction has ended, and it comes back where it was.
struct Follower {
    rows: Vec<u64>,
    id: Option<String>,
    ends: usize,
}

impl Follower {
    async fn run(mut self, node: &Node, stop: &AtomicBool) -> Self {
        loop {
            let opened = try_follow(node, READER, "?tables=t.r", self.id.as_deref()).await;
            let mut client: Client = match opened {
                Ok(client) => client,
                Err((503, _)) => {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(refused) => panic!("{refused:?}"),
            };
            self.id = Some(client.id.clone());
            let mut pending: Vec<u64> = Vec::new();
            loop {
                let Some(told) = client.within(Duration::from_millis(1500)).await else {
                    if stop.load(Ordering::Relaxed) && !client.ended {
                        return self;
                    }
                    break;
                };
                match told.name.as_str() {
                    "row" => {
                        assert_eq!(told.data["change"], "insert");
                        pending.push(number(&told.data));
                    }
                    "commit" => {
                        self.rows.append(&mut pending);
                        self.id = told.id;
                    }
                    _ => {}
                }
            }
            self.ends += 1;
        }
    }
}

fn number(row: &Value) -> u64 {
    row["row"]["n"].as_u64().unwrap()
}

/// The master is killed under load: every row is told once, in the order of the table, on whatever node.
pub async fn through_a_change_of_master(cluster: &mut Cluster) -> usize {
    let nodes = &cluster.nodes;
    let before = rows(&nodes[0]).await;
    let (stop, enough) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let begin = follow(&nodes[0], READER, "?tables=t.r", None).await.id;
    let followers = [1, 2].map(|at| {
        let follower = Follower {
            rows: Vec::new(),
            id: Some(begin.clone()),
            ends: 0,
        };
        follower.run(&nodes[at], &enough)
    });
    let operators = &mut cluster.operators;
    let change = async {
        let first = load(&nodes[0], 1_000_000, Arc::clone(&stop)).await;
        sleep(Duration::from_secs(1)).await;
        signal(nodes[0].mysqld_pid(), "-KILL");
        let master = fail_over(nodes, operators, 0, 2).await;
        let acknowledged = first.await.unwrap();
        let second = load(&nodes[master], 2_000_000, Arc::clone(&stop)).await;
        sleep(Duration::from_secs(1)).await;
        stop.store(true, Ordering::Relaxed);
        let more = second.await.unwrap();
        sleep(Duration::from_secs(3)).await;
        enough.store(true, Ordering::Relaxed);
        (master, acknowledged.len(), more.len())
    };
    let ((master, acknowledged, more), told) = tokio::join!(change, futures::future::join_all(followers));
    let mut there = rows(&nodes[master]).await;
    there.retain(|number| !before.contains(number));
    assert!(there.len() >= acknowledged + more);
    for follower in told {
        assert!(follower.ends > 0, "the master was lost and the feed did not end");
        assert_eq!(follower.rows, there, "each row once, and in order");
    }
    println!(
        "{acknowledged} and {more} rows before and after a change of master, each told once on two nodes"
    );
    master
}

/// A master that is fenced, and one whose agent ends, end their feeds in order.
pub async fn no_longer_than_it_leads(cluster: &mut Cluster, master: usize) {
    let slave = (1..3).find(|at| *at != master).unwrap();
    let mut feed = follow(&cluster.nodes[master], READER, "?tables=t.r", None).await;
    let mut forwarded = follow(&cluster.nodes[slave], READER, "?tables=t.r", None).await;
    signal(cluster.nodes[slave].agent.id(), "-TERM");
    assert!(forwarded.rest().await.iter().all(|told| told.name == "position"));
    assert!(forwarded.ended, "it was broken off");
    assert!(feed.within(Duration::from_millis(300)).await.is_none() && !feed.ended);
    cluster.operators[master].done("fence", 3, fence(true)).await;
    assert!(feed.rest().await.iter().all(|told| told.name == "position"));
    assert!(feed.ended, "it was broken off");
    let refused = try_follow(&cluster.nodes[master], READER, "?tables=t.r", Some(&feed.id)).await;
    assert!(matches!(refused, Err((503, _))), "there is no master");
    println!("feeds end with the term and with the agent");
}
