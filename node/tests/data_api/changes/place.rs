//! From where a feed runs, how far, and what it costs the node.

use std::time::Duration;

use serde_json::json;
use sqlx::raw_sql;
use tokio::time::sleep;

use super::{dumps, follow, run, try_follow};
use crate::support::{
    Node,
    cluster::Cluster,
    https::{ADMIN, LIMITED, READER, WRITER},
    now,
};

pub async fn from_where_it_was(cluster: &Cluster) {
    let (master, slave) = (&cluster.nodes[0], &cluster.nodes[1]);
    run(master, "CREATE TABLE feed.r (n INT PRIMARY KEY)").await;
    let mut feed = follow(slave, READER, "?tables=feed.r", None).await;
    assert!(feed.head.contains("served-by: a"), "{}", feed.head);
    let mut ids = vec![feed.id.clone()];
    for number in 1..=5 {
        run(master, &format!("INSERT INTO feed.r VALUES ({number})")).await;
    }
    for number in 1..=5 {
        let (rows, commit) = feed.transaction().await;
        assert_eq!(rows[0]["row"], json!({"n": number}));
        ids.push(commit.id.unwrap());
    }
    drop(feed);
    for (from, id) in ids.iter().enumerate().take(5) {
        for node in [master, slave] {
            let query = format!("?tables=feed.r&after={id}");
            let mut by_parameter = follow(node, READER, &query, None).await;
            let mut by_header = follow(node, READER, "?tables=feed.r&after=1.x", Some(id)).await;
            assert_eq!(&by_header.id, id);
            for number in from + 1..=5 {
                for feed in [&mut by_parameter, &mut by_header] {
                    let (rows, _) = feed.transaction().await;
                    assert_eq!(rows.len(), 1);
                    assert_eq!(rows[0]["row"], json!({"n": number}));
                }
            }
        }
    }
    // A write's token is a position, and a position is a token.
    let body = json!({"dbname": "feed", "table": "r", "data": {"n": 6}});
    let written = slave.send(WRITER, "/insert", &body).await;
    let token = written.header("write-token").unwrap();
    let mut feed = follow(slave, READER, "?tables=feed.r", Some(token)).await;
    run(master, "INSERT INTO feed.r VALUES (7)").await;
    let (rows, commit) = feed.transaction().await;
    assert_eq!(rows[0]["row"], json!({"n": 7}));
    let bearer = format!("Bearer {READER}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("After", commit.id.as_deref().unwrap()),
    ];
    let read = slave
        .request("GET", "/select?dbname=feed&table=r", &headers, "")
        .await
        .unwrap();
    assert_eq!(read.must(200)["rows"].as_array().unwrap().len(), 7);
    println!("a feed goes on where it was, on any node");
}

/// As many as may be, and no more.
pub async fn many(master: &Node) {
    until_dumps(master, 0).await;
    let mut feeds = Vec::new();
    for token in [READER, WRITER, ADMIN] {
        for _ in 0..8 {
            feeds.push(follow(master, token, "?tables=feed.r", None).await);
        }
        let Err((429, problem)) = try_follow(master, token, "?tables=feed.r", None).await else {
            panic!("one token may have all");
        };
        assert_eq!(problem["type"], "urn:ddb:problem:too-many-requests");
    }
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(follow(master, LIMITED, "?tables=shop", None).await);
    }
    let Err((503, problem)) = try_follow(master, LIMITED, "?tables=shop", None).await else {
        panic!("there is no end of feeds");
    };
    assert_eq!(problem["type"], "urn:ddb:problem:busy");
    let metrics = master.get("/metrics").await;
    assert!(metrics.contains("api_change_feeds 32"), "{metrics}");
    run(master, "INSERT INTO feed.r VALUES (100)").await;
    for feed in &mut feeds {
        assert_eq!(feed.transaction().await.0[0]["row"], json!({"n": 100}));
    }
    drop((feeds, others));
    until_dumps(master, 0).await;
    println!("32 feeds at a time");
}

async fn until_dumps(master: &Node, wanted: usize) {
    let begun = now();
    while dumps(master).await != wanted {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{} dumps",
            dumps(master).await
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// A client that goes away while nothing happens, and no slave acknowledges, frees its connection.
pub async fn left_alone(master: &Node) {
    until_dumps(master, 0).await;
    let feed = follow(master, READER, "?tables=feed.r", None).await;
    assert_eq!(dumps(master).await, 1);
    // It is no slave: the master's guard would ask it who leads.
    let attached = node::mysql::Lane::root(&master.socket())
        .attached()
        .await
        .unwrap();
    assert!(attached.iter().all(|host| host != "localhost"), "{attached:?}");
    drop(feed);
    until_dumps(master, 0).await;
    let attached = "SELECT COUNT(*) FROM performance_schema.global_status \
         WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_clients' AND VARIABLE_VALUE = 2";
    let count = raw_sql(attached)
        .fetch_one(&mut master.root().await)
        .await
        .unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&count, 0), 1, "only slaves acknowledge");
    // Its account reads the log and nothing else.
    let options = sqlx::mysql::MySqlConnectOptions::new()
        .socket(master.socket())
        .username("ddb_changes")
        .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled);
    let mut account = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for sql in [
        "SELECT * FROM feed.r",
        "SELECT * FROM mysql.user",
        "SET GLOBAL read_only = 1",
        "CREATE DATABASE x",
    ] {
        assert!(raw_sql(sql).execute(&mut account).await.is_err(), "{sql}");
    }
    println!("a client that goes away leaves nothing behind");
}

/// A transaction that is much larger than what the agent may have in memory, and compresses well.
pub async fn large(master: &Node) {
    const ROWS: u64 = 200_000;
    run(
        master,
        "CREATE TABLE feed.large (n INT PRIMARY KEY, t VARCHAR(200))",
    )
    .await;
    let mut feed = follow(master, READER, "?tables=feed.large", None).await;
    let insert = format!(
        "SET SESSION cte_max_recursion_depth = {ROWS}; INSERT INTO feed.large WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL \
         SELECT n + 1 FROM s WHERE n < {ROWS}) SELECT n, REPEAT('x', 200) FROM s"
    );
    run(master, &insert).await;
    master.forget_agent_peak();
    let before = master.agent_peak();
    let begun = now();
    // The client is slow at first: what it does not take must not wait in the agent.
    sleep(Duration::from_secs(2)).await;
    let (rows, _) = feed.transaction().await;
    let took = begun.elapsed();
    assert_eq!(rows.len() as u64, ROWS);
    assert!(
        rows.iter()
            .zip(1_u64..)
            .all(|(row, number)| row["row"]["n"] == number)
    );
    let more = master.agent_peak() - before;
    println!(
        "{ROWS} rows of one transaction in {} ms, {} ms of them waiting; the agent took {more} KiB more",
        took.as_millis(),
        2000
    );
    assert!(more < 16 << 10, "{more} KiB");
}

/// What was deleted from the log cannot be told, and what never was in it neither.
pub async fn deleted(master: &Node) {
    let feed = follow(master, READER, "?tables=feed.r", None).await;
    let old = feed.id.clone();
    drop(feed);
    until_dumps(master, 0).await;
    run(master, "INSERT INTO feed.r VALUES (200)").await;
    let mut root = master.root().await;
    raw_sql("FLUSH BINARY LOGS").execute(&mut root).await.unwrap();
    let logs = raw_sql("SHOW BINARY LOGS").fetch_all(&mut root).await.unwrap();
    let last: String = sqlx::Row::get(logs.last().unwrap(), 0);
    // Slaves may still read the one before.
    let begun = now();
    loop {
        let purge = format!("PURGE BINARY LOGS TO '{last}'");
        raw_sql(sqlx::AssertSqlSafe(purge))
            .execute(&mut root)
            .await
            .unwrap();
        let logs = raw_sql("SHOW BINARY LOGS").fetch_all(&mut root).await.unwrap();
        if logs.len() == 1 {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the logs are not deleted"
        );
        sleep(Duration::from_millis(100)).await;
    }
    let refused = async |id: &str| match try_follow(master, READER, "?tables=feed.r", Some(id)).await {
        Ok(feed) => panic!("{id} was taken: {}", feed.head),
        Err(refused) => refused,
    };
    let (status, problem) = refused(&old).await;
    assert_eq!(
        (status, &problem["type"]),
        (410, &json!("urn:ddb:problem:position-purged"))
    );
    let (status, problem) = refused("1.00000000-0000-4000-8000-000000000000:1-5").await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("urn:ddb:problem:token-lost"))
    );
    assert_eq!(refused("1-5").await.0, 400);
    follow(master, READER, "?tables=feed.r", None).await;
    println!("a position whose changes were deleted is 410");
}
