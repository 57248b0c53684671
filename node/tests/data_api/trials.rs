//! What must hold every time, tried a few times here and often on demand: `DDB_TEST_ROUNDS=200`.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use api::wire::Command;
use failover::{GtidSet, NodeReport, Tail};
use serde_json::json;
use sqlx::{Row as _, raw_sql};

use crate::{
    support::{
        Node,
        cluster::{Cluster, follow, signal},
        https::{READER, WRITER},
        is_caught_up, now,
    },
    takeover::fail_over,
};

/// Reads with a token for each round.
const READS: u64 = 50;
/// Clients that write and read their writes at the same time.
const READERS: u64 = 8;
/// A commit whose slaves stand still hangs at the latest after this time.
const HANGS: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "a longer run is asked for from outside")]
fn rounds() -> u64 {
    let text = std::env::var("DDB_TEST_ROUNDS").unwrap_or_default();
    text.parse().unwrap_or(5)
}

/// mysqld of the master is killed when it has committed and has not answered yet: it waits for slaves that stand
/// still. With a key the row is there exactly once, and the reply is the stored one; without one the outcome is said
/// to be unknown and nothing is done again. Returns the master.
pub async fn killed_between_commit_and_reply(cluster: &mut Cluster, mut master: usize) -> usize {
    let made = "/createtable?dbname=t&table=trials&schema=number INT";
    cluster.nodes[master].fetch(WRITER, made).await.must(200);
    let (mut slowest, mut survived, mut unknown) = (0, 0, 0);
    for round in 0..rounds() {
        let keyed = round % 4 != 3;
        let body = json!({"dbname":"t","table":"trials","data":{"number":round}});
        let key = format!("trial-{round}");
        let mut headers = vec![("Prefer", "wait=10")];
        if keyed {
            headers.push(("Idempotency-Key", &key));
        }
        let (nodes, operators) = (&cluster.nodes, &mut cluster.operators);
        let ask = async |node: usize| {
            let answer = nodes[node % 3].send_with(WRITER, "/insert", &headers, &body);
            answer.await.unwrap()
        };
        let slaves = [1, 2].map(|next| nodes[(master + next) % 3].mysqld_pid());
        for slave in slaves {
            signal(slave, "-STOP");
        }
        let begun = now();
        let through = usize::try_from(round % 3).unwrap();
        let killed = async {
            until_it_hangs(&nodes[master]).await;
            let go_on = || slaves.iter().for_each(|slave| signal(slave, "-CONT"));
            // What was sent to the slaves is theirs once they go on; now and then they even answer in time.
            if round % 2 == 0 {
                signal(nodes[master].mysqld_pid(), "-KILL");
                go_on();
            } else {
                go_on();
                signal(nodes[master].mysqld_pid(), "-KILL");
            }
            fail_over(nodes, operators, master, 3 + round).await
        };
        let (first, next) = tokio::join!(ask(through), killed);
        slowest = slowest.max(begun.elapsed().as_millis());
        let there = count(&cluster.nodes[next], round).await;
        if keyed {
            assert_eq!(there, 1, "round {round}: {first:?}");
            let id = first.must(200)["id"].clone();
            let again = ask(through + 1).await;
            assert_eq!(again.must(200)["id"], id, "round {round}");
            assert_eq!(
                again.header("idempotency-replayed"),
                Some("true"),
                "round {round}"
            );
            assert_eq!(count(&cluster.nodes[next], round).await, 1, "round {round}");
            survived += u32::from(first.header("idempotency-replayed") == Some("true"));
        } else if first.status == 503 {
            assert_eq!(first.json()["outcome"], "unknown", "round {round}: {first:?}");
            assert!(there <= 1, "round {round}: it was done again: {there} rows");
            unknown += 1;
        } else {
            assert_eq!(
                (first.must(200)["rows"].as_u64(), there),
                (Some(1), 1),
                "round {round}"
            );
        }
        rejoin(cluster, master, next, 3 + round).await;
        master = next;
    }
    println!(
        "{} kills between commit and reply: {survived} replies were stored ones, {unknown} outcomes unknown without a \
         key, the slowest reply after {slowest} ms",
        rounds()
    );
    master
}

async fn until_it_hangs(master: &Node) {
    let waits =
        "SELECT 1 FROM performance_schema.threads WHERE PROCESSLIST_STATE LIKE 'Waiting for semi-sync ACK%'";
    master.finds(waits, HANGS).await;
}

async fn count(master: &Node, number: u64) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM t.trials WHERE number = {number}");
    let row = raw_sql(sqlx::AssertSqlSafe(sql))
        .fetch_one(&mut master.root().await)
        .await
        .unwrap();
    row.get(0)
}

/// A node whose server was killed gives up what the new master does not have, and follows it.
pub async fn rejoin(cluster: &mut Cluster, at: usize, master: usize, term: u64) {
    let is_held = |report: &NodeReport| report.tail == Some(Tail::Held);
    cluster.operators[at].until("held", is_held).await;
    let keep: GtidSet = cluster.operators[master].state().holds();
    let cut = Command::Cut { keep: keep.clone() };
    cluster.operators[at].done("cut", term, cut).await;
    let command = follow(&cluster.nodes[master], &keep);
    cluster.operators[at]
        .done("the killed one follows", term, command)
        .await;
    cluster.operators[at].until("caught up", is_caught_up).await;
}

/// Each client reads, on a slave, the row that it just wrote, with the token of that reply, while others write.
pub async fn read_your_writes(cluster: &Cluster, master: usize) {
    let made = "/createtable?dbname=t&table=mine&schema=number BIGINT UNSIGNED PRIMARY KEY";
    cluster.nodes[master].fetch(WRITER, made).await.must(200);
    let reads = rounds() * READS;
    let (next, by_slaves) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let writer = async |client: u64| {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return number;
            }
            let body =
                json!({"dbname":"t","table":"mine","data":{"number":(client + 1) * 1_000_000_000 + number}});
            cluster.nodes[master]
                .send(WRITER, "/insert", &body)
                .await
                .must(200);
        }
        unreachable!("the numbers have no end")
    };
    let reader = async |client: usize| {
        let slave = &cluster.nodes[(master + 1 + client % 2) % 3];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= reads {
                stop.store(true, Ordering::Relaxed);
                return;
            }
            let body = json!({"dbname":"t","table":"mine","data":{"number":number}});
            let written = cluster.nodes[client % 3].send(WRITER, "/insert", &body).await;
            written.must(200);
            let token = written.header("write-token").unwrap();
            let headers = [("Authorization", &*format!("Bearer {READER}")), ("After", token)];
            let path = format!("/v1/databases/t/tables/mine/rows/{number}");
            let found = slave.request("GET", &path, &headers, "").await.unwrap();
            assert_eq!(found.must(200)["number"], number, "stale: {found:?}");
            by_slaves.fetch_add(
                u64::from(found.header("served-role") == Some("slave")),
                Ordering::Relaxed,
            );
        }
    };
    let begun = now();
    let readers = futures::future::join_all((0..usize::try_from(READERS).unwrap()).map(reader));
    let writers = futures::future::join_all((0..4).map(writer));
    let (_, written) = tokio::join!(readers, writers);
    let by_slaves = by_slaves.load(Ordering::Relaxed);
    println!(
        "{reads} reads of one's own write in {} ms, {by_slaves} of them answered by slaves, while {} other rows were \
         written: none stale",
        begun.elapsed().as_millis(),
        written.iter().sum::<u64>()
    );
    assert!(
        by_slaves > reads / 2,
        "slaves answered {by_slaves} of {reads} only"
    );
}
