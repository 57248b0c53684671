//! Clients that are many and idle, slow, or gone before their answer.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _, raw_sql};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{
    Node,
    cluster::{Cluster, signal},
    https::{ADMIN, Answer, READER, WRITER, connect},
    now,
};

/// Connections that never say a word, and those that complete their handshake first.
const SILENT: (usize, usize) = (2000, 200);
/// Connections that one role has at most, and those of them that may be used for changes.
const PLACES: (usize, usize) = (32, 24);
/// A client that says nothing is let go after ten seconds.
const LET_GO: Duration = Duration::from_secs(20);

/// Thousands of connections on which nothing is asked, and one that takes for ever to ask, hold up nobody, and are closed.
pub async fn idle_and_slow(node: &Node) {
    let before = node.agent_rss();
    let (bare, greeted) = SILENT;
    let mut silent = Vec::new();
    for _ in 0..bare {
        silent.push(TcpStream::connect(("127.0.0.1", node.api_port())).await.unwrap());
    }
    let mut idle = Vec::new();
    for _ in 0..greeted {
        idle.push(connect(&node.tls, node.api_port()).await.unwrap());
    }
    let mut slow = connect(&node.tls, node.api_port()).await.unwrap();
    let opened = now();
    let asked = now();
    node.fetch(READER, "/databases").await.must(200);
    println!(
        "{} silent connections: a request takes {} ms; the agent grew by {} KiB",
        bare + greeted,
        asked.elapsed().as_millis(),
        node.agent_rss().saturating_sub(before)
    );
    assert!(asked.elapsed() < Duration::from_secs(5));
    slow.write_all(b"GET /databases HTTP/1.1\r\nX-Slow: ")
        .await
        .unwrap();
    let dribbles = async {
        let mut ended = [0];
        while opened.elapsed() < LET_GO {
            if slow.write_all(b"x").await.is_err() || slow.flush().await.is_err() {
                return true;
            }
            if let Ok(read) = timeout(Duration::from_millis(500), slow.read(&mut ended)).await {
                return read.map_or(true, |count| count == 0);
            }
        }
        false
    };
    assert!(dribbles.await, "a head that never ends is listened to for ever");
    let mut nothing = [0];
    for stream in &mut silent {
        let left = LET_GO.saturating_sub(opened.elapsed());
        let closed = timeout(left, stream.read(&mut nothing)).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "a silent connection stays");
    }
    for stream in &mut idle {
        let left = LET_GO.saturating_sub(opened.elapsed());
        let closed = timeout(left, stream.read(&mut nothing)).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "an idle connection stays");
    }
}

/// Returns when the endless query runs, or when it does not.
async fn reads(root: &mut MySqlConnection, runs: bool) {
    let sql = "SELECT COUNT(*) FROM performance_schema.threads \
               WHERE PROCESSLIST_INFO LIKE '%gone%' AND PROCESSLIST_USER LIKE 'ddb_api%'";
    let mut seen = 0;
    // It is seen for a while, and not between two looks of the server's own.
    while seen < 3 {
        let count: i64 = raw_sql(sql).fetch_one(&mut *root).await.unwrap().get(0);
        seen = if (count > 0) == runs { seen + 1 } else { 0 };
        sleep(Duration::from_millis(10)).await;
    }
}

/// A reading whose client is gone is stopped on the server; a change is seen through.
pub async fn gone(node: &Node, master: &Node) {
    // Without a condition MySQL multiplies the counts.
    let endless = "SELECT COUNT(*) FROM r gone, r b, r c, r d, r e, r f, r g, r h \
                   WHERE gone.n + b.n + c.n + d.n + e.n + f.n + g.n + h.n = -1";
    let body = json!({"database": "t", "statement": endless});
    let mut root = node.root().await;
    tokio::select! {
        answer = node.send(READER, "/v1/sql", &body) => panic!("{answer:?}"),
        () = reads(&mut root, true) => {}
    }
    let left = now();
    // By its own limit it would run for some four seconds more.
    timeout(Duration::from_secs(3), reads(&mut root, false))
        .await
        .expect("nobody waits for it, and it runs");
    println!(
        "a reading without a client is stopped after {} ms",
        left.elapsed().as_millis()
    );

    let mut holder = master.root().await;
    raw_sql("BEGIN; INSERT INTO t.r VALUES (4711)")
        .execute(&mut holder)
        .await
        .unwrap();
    let body = json!({"dbname": "t", "table": "r", "data": {"n": 4711}});
    let named = [("X-Request-Id", "gone-before-the-answer")];
    let asking = node.send_with(WRITER, "/insert", &named, &body);
    let asked = timeout(Duration::from_millis(700), asking).await;
    assert!(asked.is_err(), "{asked:?}");
    raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    let released = now();
    let there = "SELECT COUNT(*) FROM t.r WHERE n = 4711";
    while raw_sql(there)
        .fetch_one(&mut holder)
        .await
        .unwrap()
        .get::<i64, _>(0)
        == 0
    {
        assert!(
            released.elapsed() < Duration::from_secs(4),
            "the change was given up half-way"
        );
        sleep(Duration::from_millis(10)).await;
    }
    // Nobody waits for the answer, and what was done is recorded all the same.
    let record = loop {
        let mut records = master.audit().into_iter();
        if let Some(record) = records.find(|record| record["request"] == named[0].1) {
            break record;
        }
        assert!(released.elapsed() < Duration::from_secs(8), "it is not recorded");
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(record["outcome"], "applied", "{record}");
    assert_eq!(
        (&record["object"], &record["rows"]),
        (&json!("t.r"), &json!(1)),
        "{record}"
    );
    raw_sql("DELETE FROM t.r WHERE n = 4711")
        .execute(&mut holder)
        .await
        .unwrap();
}

/// Commits that wait for slaves longer than a statement may take keep their places: those that come after them are turned
/// away, and do not take one connection of the server after the other.
pub async fn commits_that_wait(cluster: &Cluster) {
    let [master, slaves @ ..] = &cluster.nodes[..] else {
        panic!("there are no nodes");
    };
    let body = json!({"dbname": "t", "table": "k", "data": {"name": "waits"}});
    let (places, of_changes) = PLACES;
    let wave = || {
        let asking = (0..places).map(|_| master.send(WRITER, "/insert", &body));
        futures::future::join_all(asking)
    };
    let outcomes = |answers: &[Answer], outcome: &str| {
        let told = answers.iter().map(|answer| answer.must(503)["outcome"].clone());
        told.filter(|told| told == outcome).count()
    };
    for slave in slaves {
        signal(slave.mysqld_pid(), "-STOP");
    }
    let first = wave().await;
    let second = wave().await;
    let defined = futures::future::join_all((0..places).map(|at| {
        let path = format!("/createdb?name=waits{at}");
        async move { master.fetch(ADMIN, &path).await }
    }))
    .await;
    let read = master.fetch(WRITER, "/select?dbname=t&table=k").await;
    let mut root = master.root().await;
    let held = "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_USER LIKE 'ddb_api_writer%' \
                UNION ALL \
                SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_USER LIKE 'ddb_api_admin%'";
    let held: Vec<i64> = raw_sql(held)
        .fetch_all(&mut root)
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    for slave in slaves {
        signal(slave.mysqld_pid(), "-CONT");
    }
    println!("commits wait for slaves: {held:?} connections of two roles");
    assert_eq!(outcomes(&first, "unknown"), of_changes, "{first:?}");
    assert_eq!(outcomes(&first, "not-applied"), places - of_changes, "{first:?}");
    assert_eq!(outcomes(&second, "not-applied"), places, "{second:?}");
    assert!(defined.iter().all(|answer| answer.status >= 500), "{defined:?}");
    read.must(200);
    // Beside each definition there is a connection that stopped it and looks when it has ended.
    let most = [places, 2 * of_changes].map(|most| i64::try_from(most).unwrap());
    assert!(held[0] <= most[0] && held[1] <= most[1], "{held:?} connections");
    let released = now();
    while master.send(WRITER, "/insert", &body).await.status != 200 {
        assert!(
            released.elapsed() < Duration::from_secs(15),
            "the places are not free again"
        );
    }
    raw_sql("DELETE FROM t.k WHERE name = 'waits'")
        .execute(&mut root)
        .await
        .unwrap();
    for at in 0..places {
        let drop = format!("DROP DATABASE IF EXISTS waits{at}");
        raw_sql(AssertSqlSafe(drop)).execute(&mut root).await.unwrap();
    }
}
