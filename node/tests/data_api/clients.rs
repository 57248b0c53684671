//! Clients that are many and idle, slow, or gone before their answer.

use std::time::Duration;

use serde_json::json;
use sqlx::{MySqlConnection, Row as _, raw_sql};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{
    Node,
    https::{READER, WRITER, connect},
    now,
};

/// Connections that never say a word, and those that complete their handshake first.
const SILENT: (usize, usize) = (2000, 200);
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
    let asked = timeout(Duration::from_millis(700), node.send(WRITER, "/insert", &body)).await;
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
    raw_sql("DELETE FROM t.r WHERE n = 4711")
        .execute(&mut holder)
        .await
        .unwrap();
}
