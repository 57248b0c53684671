//! Rows on their way in: what they do not name, what they take of memory, and what is known of them when a commit waits
//! for slaves for longer than an import does.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use crate::{
    ONE_AT_A_TIME,
    streams::{NDJSON, ask_writer, count, get, post, run, stopped},
    support::{
        Node,
        cluster::Cluster,
        https::{WRITER, connect},
        now,
    },
    wait_for_roles,
};

/// Rows of an array that has nearly as many bytes as a body may have.
const ORDINARY: u32 = 180_000;
/// An import gives up a minute after the commit that it waits for began, and tells it within the time of a statement.
const GIVES_UP: Duration = Duration::from_secs(80);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_neither_reset_nor_taken_twice_nor_kept_in_memory() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::led("loading").await else {
        return;
    };
    let master = &cluster.nodes[0];
    wait_for_roles(master).await;
    run(master, "CREATE DATABASE store").await;
    merged(&cluster).await;
    ordinary(master).await;
    taken_once(&cluster).await;
    cluster.end();
}

/// A row of an array that is merged touches only the columns that it names itself, whatever the others name.
async fn merged(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        "CREATE TABLE store.merged (Id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20), age INT);
        INSERT INTO store.merged VALUES (1, 'a', 10), (2, 'b', 20)",
    )
    .await;
    let path = "/v1/databases/store/tables/merged/rows";
    let merge = format!("{path}?onConflict=merge");
    let there = async || get(master, path, &[]).await.must(200)["rows"].clone();
    let rows = json!([{"Id":1,"name":"A"},{"Id":2,"age":5},{"Id":1,"age":11},{"Id":1,"age":12}]);
    let answer = slave.send(WRITER, &merge, &rows).await;
    assert_eq!(answer.must(201)["rows"], 8, "a merged row counts twice");
    let wanted = json!([{"Id":1,"name":"A","age":12},{"Id":2,"name":"b","age":5}]);
    assert_eq!(there().await, wanted);
    // The row that is refused is named, and nothing of the request is there.
    let refused = json!([{"Id":1,"name":"x"},{"Id":2,"age":"old"}]);
    let problem = slave.send(WRITER, &merge, &refused).await.must(422);
    assert_eq!(problem["outcome"], "not-applied", "{problem}");
    assert!(
        problem["detail"].as_str().unwrap().contains("from row 2 on"),
        "{problem}"
    );
    assert_eq!(there().await, wanted);
    // The key that MySQL made is told, not the one that came with a row before.
    let rows = json!([{"Id":2,"name":"B"},{"name":"c","age":30}]);
    let answer = slave.send(WRITER, &merge, &rows).await.must(201);
    let there = there().await;
    assert_eq!(there[1], json!({"Id":2,"name":"B","age":5}));
    assert_eq!(
        (&there[2]["name"], &there[2]["age"]),
        (&json!("c"), &json!(30)),
        "{there}"
    );
    assert_eq!(answer["id"], there[2]["Id"]);
}

/// An array of ordinary rows takes little more memory than its text. The last row is refused, so that it is all about
/// reading.
async fn ordinary(master: &Node) {
    run(
        master,
        "CREATE TABLE store.ordinary (id INT PRIMARY KEY, name VARCHAR(20), age INT)",
    )
    .await;
    let mut body = "[".to_owned();
    for n in 100_000..100_000 + ORDINARY {
        write!(body, "{{\"id\":{n},\"name\":\"name {n}\",\"age\":31}},").unwrap();
    }
    body.push_str("{\"id\":1,\"colour\":\"red\"}]");
    assert!(body.len() < 8 << 20);
    let steps =
        format!(r#"{{"database":"store","steps":[{{"do":"insert","table":"ordinary","data":{body}}}]}}"#);
    let classic = format!(r#"{{"dbname":"store","table":"ordinary","data":{body}}}"#);
    let rows = "/v1/databases/store/tables/ordinary/rows";
    let shown = format!("{rows}?return=representation");
    for (path, body, why) in [
        (rows, &body, "`colour`"),
        ("/insert", &classic, "`colour`"),
        ("/v1/transactions", &steps, "`colour`"),
        (shown.as_str(), &body, "rows at a time"),
    ] {
        master.forget_agent_peak();
        let before = master.agent_rss();
        let answer = post(master, path, "application/json", body, &[]).await;
        let grown = master.agent_peak().saturating_sub(before);
        println!("{path}: {ORDINARY} rows in an array: the agent grew by {grown} KiB");
        let problem = answer.must(400);
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
        assert!(grown < 64 << 10, "{path}: {grown} KiB");
    }
    assert_eq!(count(master, "ordinary").await, 0);
}

/// A commit is acknowledged when the import has given up and is about to say so: what is stored is where it is, and the
/// same body goes on behind it.
async fn taken_once(cluster: &Cluster) {
    let [master, slaves @ ..] = &cluster.nodes[..] else {
        panic!("there are no nodes");
    };
    run(master, "CREATE TABLE store.settled (n INT)").await;
    let path = "/v1/import/store/settled";
    let body = (0..1000).fold(String::new(), |text, n| text + &format!("{{\"n\":{n}}}\n"));
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: node.test\r\nConnection: close\r\nAuthorization: Bearer {WRITER}\r\n\
         Content-Type: {NDJSON}\r\nIdempotency-Key: once\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(&master.tls, master.api_port()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    // It is begun before its rows come.
    let begun = now();
    while ask_writer(master, "/v1/import/once").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not begin");
        sleep(Duration::from_millis(20)).await;
    }
    for slave in slaves {
        run(slave, "STOP REPLICA IO_THREAD").await;
    }
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let begun = now();
    let commits = "SELECT 1 FROM performance_schema.threads WHERE PROCESSLIST_USER LIKE 'ddb_api_writer%' \
        AND PROCESSLIST_STATE LIKE 'Waiting for semi-sync ACK%'";
    master.finds(commits, Duration::from_secs(10)).await;
    // While the commit has the record, it is looked at again and again. Who waits to write it has given up.
    let gives_up = "SELECT 1 FROM performance_schema.threads WHERE PROCESSLIST_USER LIKE 'ddb_api_writer%' \
        AND PROCESSLIST_STATE = 'updating' AND PROCESSLIST_INFO LIKE 'UPDATE ddb.api_keys%'";
    master.finds(gives_up, GIVES_UP).await;
    println!(
        "an import gave up a commit after {} ms",
        begun.elapsed().as_millis()
    );
    for slave in slaves {
        run(slave, "START REPLICA IO_THREAD").await;
    }
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    timeout(Duration::from_secs(30), reading).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let import = stopped(master, "once").await;
    assert_eq!(count(master, "settled").await, 1000);
    let thousand = json!(1000);
    assert_eq!(
        [&import["read"], &import["line"], &import["rows"]],
        [&thousand; 3],
        "{import}"
    );
    assert!(import["reason"].is_string(), "{import}");
    let again = post(master, path, NDJSON, &body, &[("Idempotency-Key", "once")]).await;
    let import: Value = again.must(200);
    assert_eq!(
        [&import["state"], &import["rows"]],
        [&json!("complete"), &thousand],
        "{import}"
    );
    assert_eq!(count(master, "settled").await, 1000, "a chunk was taken twice");
}
