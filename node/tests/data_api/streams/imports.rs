//! Imports: what is refused, what broke off, what is large, and a master that dies in the middle.

use std::time::Duration;

use serde_json::json;
use sqlx::raw_sql;
use tokio::time::sleep;

use super::{CSV, NDJSON, ask_writer, count, get, headers, post, run, stopped};
use crate::{
    support::{
        Node,
        cluster::{Cluster, signal},
        https::{ADMIN, READER, WRITER},
        now,
    },
    takeover,
};

/// What is refused is listed with its line and stops nothing, up to a limit; what broke off is gone on with.
pub async fn imports(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        "CREATE TABLE store.goods (id INT PRIMARY KEY, name VARCHAR(10) NOT NULL, price DECIMAL(6,2), \
         CHECK (price >= 0))",
    )
    .await;
    let path = "/v1/import/store/goods";
    let body = "id,name,price\n1,one,1.50\n2,much too long a name,1\n3,\"th\nree\",x\n4,four,-1\n5,five\n6,six,6\n\
                1,again,1\n7,\\N,1\n8,\"ei\ng\",8\n\\end rows=9,,\n";
    let answer = post(slave, path, CSV, body, &[("X-Request-Id", "import-of-goods")]).await;
    let import = answer.must(200);
    assert_eq!(
        (&import["state"], &import["rows"]),
        (&json!("complete"), &json!(3)),
        "{import}"
    );
    let lines: Vec<u64> = import["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [3, 4, 6, 7, 9, 10], "{import}");
    assert_eq!(
        (&import["refused"], &import["read"], &import["line"]),
        (&json!(6), &json!(9), &json!(11))
    );
    assert!(answer.header("write-token").is_some());
    assert_eq!(count(master, "goods").await, 3);
    let list = ask_writer(slave, "/v1/import").await.must(200);
    assert_eq!(list["imports"][0], import, "{list}");
    let id = import["id"].as_str().unwrap();
    assert_eq!(
        ask_writer(slave, &format!("/v1/import/{id}")).await.must(200),
        import
    );
    get(slave, &format!("/v1/import/{id}"), &[]).await.must(403);
    slave.fetch(ADMIN, &format!("/v1/import/{id}")).await.must(404);
    ask_writer(slave, "/v1/import/none").await.must(404);
    // The id stands for the request: it is not carried out twice, and for no other.
    let keyed = [("Idempotency-Key", "goods-2")];
    let more = "{\"id\":20,\"name\":\"x\"}\n{\"id\":21,\"name\":\"y\"}\n";
    let first = post(slave, path, NDJSON, more, &keyed).await;
    let again = post(master, path, NDJSON, more, &keyed).await;
    assert_eq!(first.must(200), again.must(200));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    post(slave, "/v1/import/store/many", NDJSON, more, &keyed)
        .await
        .must(422);
    let merged = post(
        slave,
        &format!("{path}?onConflict=merge"),
        NDJSON,
        "{\"id\":20,\"name\":\"z\"}\n",
        &[],
    )
    .await;
    assert_eq!(merged.must(200)["rows"], 1);
    refusals(cluster).await;
    broken_off(cluster).await;
    recorded(master).await;
}

/// Too many refused rows, a wrong end, another type, another role.
async fn refusals(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    let path = "/v1/import/store/goods";
    let bad = (0..3000).fold(String::new(), |text, n| {
        text + &format!("{{\"id\":{n},\"name\":null}}\n")
    });
    let stopped = post(
        slave,
        &format!("{path}?maxRefused=10"),
        NDJSON,
        &bad,
        &[("Idempotency-Key", "bad")],
    )
    .await;
    let problem = stopped.must(422);
    assert!(
        problem["detail"].as_str().unwrap().contains("more than 10 rows"),
        "{problem}"
    );
    let import = ask_writer(master, "/v1/import/bad").await.must(200);
    assert_eq!(
        (&import["state"], &import["rows"]),
        (&json!("stopped"), &json!(0)),
        "{import}"
    );
    assert_eq!(import["list"].as_array().unwrap().len(), 500);
    post(slave, path, NDJSON, "{\"end\":true,\"rows\":5}\n", &[])
        .await
        .must(422);
    post(slave, path, "application/json", "[]", &[]).await.must(400);
    // A client that sends all before it reads sees the answer that was given long before.
    let long = "{\"name\":null}\n".repeat(1 << 20);
    for node in [master, slave] {
        post(node, path, NDJSON, &long, &[]).await.must(422);
        let rows = "/v1/databases/store/tables/goods/rows";
        post(node, rows, NDJSON, &long, &[]).await.must(422);
    }
    let bearer = format!("Bearer {READER}");
    let answer = slave
        .request("POST", path, &headers(&bearer, CSV), "id\n1\n")
        .await
        .unwrap();
    answer.must(403);
}

async fn recorded(master: &Node) {
    let record = master
        .audit()
        .into_iter()
        .find(|record| record["request"] == "import-of-goods")
        .unwrap();
    assert_eq!(record["operation"], "POST /v1/import/store/goods");
    assert_eq!(
        (&record["rows"], &record["outcome"]),
        (&json!(3), &json!("applied"))
    );
    let metrics = master.get("/metrics").await;
    let series = r#"route="/v1/import/{db}/{table}",role="writer",status="200""#;
    assert!(metrics.contains(series), "{metrics}");
}

/// An import that cannot go on for a moment goes on afterwards, and other requests through the same node do not wait.
pub async fn held_up(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        "CREATE TABLE store.held (id INT PRIMARY KEY, filler TEXT); CREATE TABLE store.free LIKE store.held",
    )
    .await;
    let mut holder = master.root().await;
    raw_sql("LOCK TABLES store.held WRITE")
        .execute(&mut holder)
        .await
        .unwrap();
    let bearer = format!("Bearer {WRITER}");
    let all = headers(&bearer, NDJSON);
    let uploading = slave.upload("/v1/import/store/held", &all, large(100));
    let others = async {
        sleep(Duration::from_secs(1)).await;
        let begun = now();
        let line = format!("{{\"id\":1,\"filler\":\"{}\"}}\n", "x".repeat(60_000));
        let path = "/v1/databases/store/tables/free/rows?onConflict=ignore";
        for _ in 0..20 {
            post(slave, path, NDJSON, &line, &[]).await.must(201);
        }
        let took = begun.elapsed();
        // Longer than a statement may wait for the table.
        sleep(Duration::from_secs(6)).await;
        raw_sql("UNLOCK TABLES").execute(&mut holder).await.unwrap();
        took
    };
    let (answer, took) = tokio::join!(uploading, others);
    let import = answer.unwrap().must(200);
    assert_eq!(
        (&import["rows"], &import["refused"]),
        (&json!(10_000), &json!(0)),
        "{import}"
    );
    println!(
        "20 other requests beside an import that was held up: {} ms",
        took.as_millis()
    );
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// A client that goes away in the middle: what was settled stays, is known, and is not taken twice.
async fn broken_off(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    let line = |n: u32| format!("{{\"id\":{},\"name\":\"n{n}\"}}\n", 1000 + n);
    let all = (0..5000).fold(String::new(), |text, n| text + &line(n));
    let half = &all[..all.len() / 2];
    let bearer = format!("Bearer {WRITER}");
    let mut with_key = headers(&bearer, NDJSON);
    with_key.push(("Idempotency-Key", "half"));
    let length = all.len().to_string();
    slave
        .break_off("/v1/import/store/goods", &with_key, &length, half)
        .await
        .unwrap();
    let import = stopped(master, "half").await;
    assert_eq!(import["reason"], "the body broke off");
    let settled = import["rows"].as_u64().unwrap();
    assert_eq!(
        (settled % 1000, &import["line"]),
        (0, &json!(settled)),
        "{import}"
    );
    assert!((1000..2500).contains(&settled), "{import}");
    let of = "goods";
    assert_eq!(count(master, of).await, 5 + settled);
    let key = [("Idempotency-Key", "half")];
    let other = post(
        slave,
        "/v1/import/store/goods",
        NDJSON,
        &all.replace("n7\"", "m7\""),
        &key,
    )
    .await;
    assert_eq!(other.must(422)["type"], "urn:ddb:problem:key-reused");
    let import = post(slave, "/v1/import/store/goods", NDJSON, &all, &key)
        .await
        .must(200);
    assert_eq!(
        (&import["rows"], &import["refused"]),
        (&json!(5000), &json!(0)),
        "{import}"
    );
    assert_eq!(count(master, of).await, 5005);
    println!("an import that broke off after {settled} rows went on to 5000");
}

/// Lines of a table `(id, filler)`, about a hundred kilobytes a part.
fn large(parts: u32) -> impl Iterator<Item = String> + Clone {
    let filler = "lorem ipsum ".repeat(80);
    (0..parts).map(move |part| {
        (0..100).fold(String::new(), |text, row| {
            text + &format!("{{\"id\":{},\"filler\":\"{filler}\"}}\n", part * 100 + row)
        })
    })
}

/// Eighty megabytes through a slave, or as many as the environment says.
pub async fn large_import(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    let megabytes = megabytes();
    run(
        master,
        "CREATE TABLE store.large (id INT PRIMARY KEY, filler TEXT)",
    )
    .await;
    for node in [master, slave] {
        node.forget_agent_peak();
    }
    let before = [master.agent_rss(), slave.agent_rss()];
    let bearer = format!("Bearer {WRITER}");
    let mut with_key = headers(&bearer, NDJSON);
    with_key.push(("Idempotency-Key", "large"));
    let begun = now();
    let watching = async {
        let (mut seen, mut last) = (0, 0);
        loop {
            sleep(Duration::from_millis(200)).await;
            let answer = ask_writer(slave, "/v1/import/large").await;
            if answer.status == 404 {
                continue;
            }
            let import = answer.must(200);
            let rows = import["rows"].as_u64().unwrap();
            assert!(rows >= last, "{import}");
            seen += u64::from(rows > last);
            last = rows;
            if import["state"] != "running" {
                return seen;
            }
        }
    };
    let uploading = slave.upload("/v1/import/store/large", &with_key, large(megabytes * 10));
    let (answer, seen) = tokio::join!(uploading, watching);
    let import = answer.unwrap().must(200);
    assert_eq!(import["rows"], megabytes * 1000);
    assert!(seen > 2, "the progress was seen {seen} times");
    let grown = [master.agent_peak() - before[0], slave.agent_peak() - before[1]];
    println!(
        "{megabytes} MB imported through a slave in {} ms, its progress seen {seen} times; the agents grew by {grown:?} KiB",
        begun.elapsed().as_millis()
    );
    assert!(grown.iter().all(|grown| *grown < 64 << 10), "{grown:?}");
    // A gigabyte is counted for longer than a statement of the API may take.
    let counted = raw_sql("SELECT COUNT(*) FROM store.large")
        .fetch_one(&mut master.root().await)
        .await
        .unwrap();
    let counted: i64 = sqlx::Row::get(&counted, 0);
    assert_eq!(counted, i64::from(megabytes) * 1000);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a gigabyte takes longer than a test should"
)]
fn megabytes() -> u32 {
    std::env::var("DDB_TEST_IMPORT_MEGABYTES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(80)
}

/// The master dies in the middle of an import: the new one says what is in the table, and the same body goes on.
pub async fn import_and_change_of_master(cluster: &mut Cluster) {
    run(&cluster.nodes[0], "TRUNCATE store.large").await;
    let bearer = format!("Bearer {WRITER}");
    let mut with_key = headers(&bearer, NDJSON);
    with_key.push(("Idempotency-Key", "cut"));
    let nodes = &cluster.nodes;
    let (path, parts) = ("/v1/import/store/large", 400);
    let operators = &mut cluster.operators;
    let failing = async {
        let begun = now();
        loop {
            let answer = ask_writer(&nodes[0], "/v1/import/cut").await;
            if answer.status == 200 && answer.json()["rows"].as_u64().unwrap() > 5000 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{answer:?}");
            sleep(Duration::from_millis(20)).await;
        }
        signal(nodes[0].mysqld_pid(), "-KILL");
        takeover::fail_over(nodes, operators, 0, 2).await
    };
    let (answer, best) = tokio::join!(nodes[0].upload(path, &with_key, large(parts)), failing);
    let problem = answer.unwrap().must(503);
    assert_eq!(problem["outcome"], "unknown", "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("Idempotency-Key: cut"),
        "{problem}"
    );
    let import = ask_writer(&nodes[best], "/v1/import/cut").await.must(200);
    assert_eq!(import["state"], "interrupted", "{import}");
    let settled = import["rows"].as_u64().unwrap();
    assert_eq!(
        (count(&nodes[best], "large").await, &import["line"]),
        (settled, &json!(settled))
    );
    let answer = nodes[3 - best]
        .upload(path, &with_key, large(parts))
        .await
        .unwrap();
    let import = answer.must(200);
    assert_eq!(
        (&import["rows"], &import["state"]),
        (&json!(40_000), &json!("complete"))
    );
    assert_eq!(count(&nodes[best], "large").await, 40_000);
    println!("the master died after {settled} rows of an import; the same body went on to 40000, each once");
}
