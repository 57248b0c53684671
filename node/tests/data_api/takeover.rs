//! A change of master under clients of every node, and what the new master takes care of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::wire::{Command, Picture, PicturedNode};
use failover::{GtidSet, Term};
use serde_json::json;
use sqlx::raw_sql;
use tokio::time::sleep;

use crate::support::{
    Node, Operator,
    cluster::{Cluster, fence, follow, is_down, signal},
    https::{READER, WRITER},
    is_caught_up, now,
};

fn picture(term: u64, master: &Node) -> Picture {
    Picture {
        term: Term(term),
        master: Some(master.name.as_str().into()),
        phase: api::resource::Phase::default(),
        nodes: vec![PicturedNode {
            name: master.name.as_str().into(),
            address: Some(master.address()),
            role: api::resource::NodeRole::Master,
            ready: true,
            behind: Some(0),
            message: String::new(),
        }],
        ..Picture::default()
    }
}

/// The server of `master` was killed: the better of the others leads in `term`, and the other one follows it. Returns
/// the new master.
pub async fn fail_over(nodes: &[Node], operators: &mut [Operator], master: usize, term: u64) -> usize {
    operators[master].until("down", is_down).await;
    let [one, two] = [(master + 1) % 3, (master + 2) % 3];
    for at in [one, two, master] {
        operators[at].tell(term, fence(false)).await;
    }
    let all = [one, two].map(|at| operators[at].state().holds());
    let (best, other) = if all[0].contains(&all[1]) {
        (one, two)
    } else {
        (two, one)
    };
    let deadline_ms = 5000;
    operators[best]
        .done("drain", term, Command::Drain { deadline_ms })
        .await;
    let requires: GtidSet = operators[best].state().holds();
    let promote = Command::Promote { acks: 1, requires };
    operators[best].done("promote", term, promote).await;
    // The former master's node is down; it leads its clients by what the operator says.
    operators[master].show(picture(term, &nodes[best]));
    let until = operators[best].state().executed;
    operators[other]
        .done("follow", term, follow(&nodes[best], &until))
        .await;
    operators[other].until("caught up", is_caught_up).await;
    best
}

/// Clients write through every node while the master is killed: no request fails, every row is there once.
pub async fn change_of_master(cluster: &mut Cluster) -> usize {
    let nodes = &cluster.nodes;
    nodes[0]
        .fetch(
            WRITER,
            "/createtable?dbname=t&table=w&schema=client INT, number INT",
        )
        .await
        .must(200);
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..6).map(|client: usize| {
        let (stop, node) = (Arc::clone(&stop), &nodes[client % 3]);
        async move {
            let mut slowest = Duration::ZERO;
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return (client, number, slowest);
                }
                let key = format!("w-{client}-{number}");
                let body = json!({"dbname":"t","table":"w","data":{"client":client,"number":number}});
                let begun = now();
                let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=10")];
                let answer = node.send_with(WRITER, "/insert", &headers, &body).await.unwrap();
                assert_eq!(answer.status, 200, "client {client}, number {number}: {answer:?}");
                slowest = slowest.max(begun.elapsed());
            }
            unreachable!("the numbers have no end")
        }
    });
    let operators = &mut cluster.operators;
    let failover = async {
        sleep(Duration::from_millis(1500)).await;
        signal(nodes[0].mysqld_pid(), "-KILL");
        let best = fail_over(nodes, operators, 0, 2).await;
        sleep(Duration::from_millis(1500)).await;
        stop.store(true, Ordering::Relaxed);
        best
    };
    let (written, best) = tokio::join!(futures::future::join_all(writers), failover);
    let strong = [
        ("Authorization", &*format!("Bearer {READER}")),
        ("Consistency", "leader"),
    ];
    for (client, count, slowest) in written {
        println!(
            "client {client} wrote {count} rows, the slowest in {} ms",
            slowest.as_millis()
        );
        let path = format!("/search?dbname=t&table=w&column=client&value={client}&limit=10000");
        let found = nodes[(client + 1) % 3]
            .request("GET", &path, &strong, "")
            .await
            .unwrap()
            .must(200);
        let mut numbers: Vec<i64> = found["found"][0]["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["number"].as_i64().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(
            numbers,
            (0..count).collect::<Vec<i64>>(),
            "client {client}: each row once"
        );
    }
    // Reads never stopped on the former master's node either: it is down, and asks the master.
    let answer = nodes[0].fetch(READER, "/select?dbname=t&table=w&limit=1").await;
    assert!(answer.status == 200, "{answer:?}");
    println!("the master is {} now", nodes[best].name);
    best
}

/// More than are forgotten at a time, all of them older than a day.
pub async fn plant_old_keys(master: &Node) {
    raw_sql(
        "SET SESSION cte_max_recursion_depth = 10000; \
         INSERT INTO ddb.api_keys (token, name, fingerprint, status, reply, at) \
         WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 7000) \
         SELECT 'old', n, REPEAT('x', 32), 200, '{}', NOW() - INTERVAL 25 HOUR FROM s",
    )
    .execute(&mut master.root().await)
    .await
    .unwrap();
}

pub async fn old_keys_are_forgotten(master: &Node) {
    let mut root = master.root().await;
    let mut count = async |of: &str| -> i64 {
        let sql = format!("SELECT COUNT(*) FROM ddb.api_keys WHERE token {of} 'old'");
        let row = raw_sql(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut root)
            .await
            .unwrap();
        sqlx::Row::get(&row, 0)
    };
    let kept = count("<>").await;
    let begun = now();
    while count("=").await > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "old keys are still there"
        );
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(count("<>").await, kept, "keys of today were forgotten");
    println!("7000 old keys forgotten, {kept} of today kept");
}

/// Nobody leads any more: a change waits as long as it may, and the refusal says how things stand and when to come again.
pub async fn nobody_leads(cluster: &mut Cluster, master: usize) {
    in_doubt(cluster, master).await;
    let body = json!({"dbname":"t","table":"w","data":{"client":99,"number":0}});
    signal(cluster.nodes[master].mysqld_pid(), "-KILL");
    cluster.operators[master].until("down", is_down).await;
    for agent_ends in [false, true] {
        if agent_ends {
            let agent = &mut cluster.nodes[master].agent;
            signal(agent.id(), "-KILL");
            agent.wait().unwrap();
        }
        for (prefer, at_least) in [("wait=0.5", 500), ("return=minimal", 2000)] {
            let begun = now();
            let slave = &cluster.nodes[(master + 2) % 3];
            let answer = slave
                .send_with(WRITER, "/insert", &[("Prefer", prefer)], &body)
                .await;
            let waited = begun.elapsed().as_millis();
            let answer = answer.unwrap();
            let refusal = answer.must(503);
            let what = format!("agent ends: {agent_ends}, {prefer}: {answer:?} after {waited} ms");
            assert!((at_least..at_least + 5000).contains(&waited), "{what}");
            assert!(
                refusal["phase"].as_str().is_some_and(|phase| !phase.is_empty()),
                "{what}"
            );
            assert!(refusal["term"].as_u64() > Some(1), "{what}");
            assert_eq!(refusal["outcome"], "not-applied", "{what}");
            assert_eq!(answer.header("retry-after"), Some("1"), "{what}");
        }
    }
    not_lost(cluster, master).await;
}

/// The agent of the master dies while its server carries out a change: whoever handed it on does not know what became of
/// it, and says so, though later tries reached nobody.
async fn in_doubt(cluster: &mut Cluster, master: usize) {
    let mut root = cluster.nodes[master].root().await;
    raw_sql("LOCK TABLES t.w WRITE").execute(&mut root).await.unwrap();
    let slave = (master + 2) % 3;
    let body = json!({"dbname":"t","table":"w","data":{"client":98,"number":0}});
    let agent = cluster.nodes[master].agent.id();
    let asked = cluster.nodes[slave].send_with(
        WRITER,
        "/insert",
        &[("Idempotency-Key", "in-doubt"), ("Prefer", "wait=2")],
        &body,
    );
    let killed = async {
        sleep(Duration::from_millis(500)).await;
        signal(agent, "-KILL");
    };
    let (answer, ()) = tokio::join!(asked, killed);
    let answer = answer.unwrap();
    let refusal = answer.must(503);
    assert_eq!(refusal["outcome"], "unknown", "{answer:?}");
    assert_eq!(refusal["retryable"], true, "{answer:?}");
    drop(root);
    cluster.nodes[master].agent.wait().unwrap();
    cluster.nodes[master].restart_agent();
    cluster.operators[master] = Operator::connect(&cluster.nodes[master], &cluster.tls, "operator")
        .await
        .unwrap();
}

/// A node that is taken for the master and is not says that nobody leads, not that a state is lost.
async fn not_lost(cluster: &Cluster, master: usize) {
    let [one, other] = [2, 1].map(|more| (master + more) % 3);
    cluster.operators[one].show(picture(1000, &cluster.nodes[other]));
    sleep(Duration::from_millis(300)).await;
    let bearer = format!("Bearer {READER}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("After", "1.3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"),
    ];
    let asked = cluster.nodes[one]
        .request("GET", "/select?dbname=t&table=w&limit=1", &headers, "")
        .await;
    let answer = asked.unwrap();
    assert_eq!(
        answer.must(503)["type"],
        "urn:ddb:problem:no-master",
        "{answer:?}"
    );
}
