//! The document that the nodes serve against what they answer: schemathesis makes requests of it, good ones and bad
//! ones, and judges every answer. Skipped, with a message, where its program is not named:
//!
//! `DDB_TEST_SCHEMATHESIS=/path/to/schemathesis DDB_TEST_MYSQLD=/path/to/mysqld cargo test -p node --test data_api
//! the_document -- --nocapture`; `DDB_TEST_SECONDS` for a longer hunt, `DDB_TEST_SEED` for another one.

use std::{path::PathBuf, process::Stdio, time::Duration};

use sqlx::raw_sql;
use tokio::{process::Command, time::sleep};

use crate::{
    support::{
        Node,
        cluster::Cluster,
        https::{ADMIN, LIMITED},
    },
    wait_for_roles,
};

/// Seconds for each node that is asked, and the seed, where nothing else is said.
const SECONDS: &str = "50";
const SEED: &str = "1";

/// What the requests find. Some of them drop it, so it is put back again and again.
const THERE: &str = "
    CREATE DATABASE IF NOT EXISTS shop;
    CREATE TABLE IF NOT EXISTS shop.users (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) UNIQUE, age INT,
        paid DECIMAL(10,2), seen DATETIME(3), more JSON, face BLOB, half INT AS (age DIV 2), FULLTEXT KEY words (name));
    CREATE TABLE IF NOT EXISTS shop.parts (a INT, b VARCHAR(20), n DOUBLE, PRIMARY KEY (a, b));
    CREATE TABLE IF NOT EXISTS shop.notes (t TEXT, flag BIT(3), at TIMESTAMP NULL);
    INSERT IGNORE INTO shop.users (id, name, age, paid, more) VALUES (1, 'Ann', 30, 1.5, '{\"a\": [1]}'), (2, 'Bob', 5, 0, NULL);
    INSERT IGNORE INTO shop.parts VALUES (1, 'x', 0.5), (2, 'y', 1e300);
    INSERT INTO shop.notes SELECT 'a,b', b'101', NULL FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM shop.notes);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_what_the_nodes_answer() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let Some(program) = named("DDB_TEST_SCHEMATHESIS").map(PathBuf::from) else {
        println!("SKIPPED: there is no schemathesis: name its program in DDB_TEST_SCHEMATHESIS");
        return;
    };
    let Some(cluster) = Cluster::led("document").await else {
        return;
    };
    wait_for_roles(&cluster.nodes[0]).await;
    let kept = tokio::spawn(keep_there(cluster.nodes[0].app().await.unwrap()));
    // A slave forwards changes and reads by itself; only the master carries changes out where they came.
    for (node, token) in [(1, ADMIN), (0, ADMIN), (1, LIMITED)] {
        hunt(&program, &cluster, &cluster.nodes[node], token).await;
    }
    kept.abort();
    cluster.end();
}

#[expect(clippy::disallowed_methods, reason = "what differs from machine to machine")]
fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

async fn keep_there(mut master: sqlx::mysql::MySqlConnection) {
    loop {
        // Another request may drop the half of it meanwhile.
        let _ = raw_sql(THERE).execute(&mut master).await;
        sleep(Duration::from_secs(1)).await;
    }
}

async fn hunt(program: &PathBuf, cluster: &Cluster, node: &Node, token: &str) {
    let url = format!("https://localhost:{}", node.api_port());
    let status = Command::new(program)
        .current_dir(&cluster.root)
        .arg("--config-file")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data_api/document/schemathesis.toml"))
        .args(["run", "--no-color"])
        .args(["--seed", &named("DDB_TEST_SEED").unwrap_or_else(|| SEED.to_owned())])
        .args(["--max-time", &named("DDB_TEST_SECONDS").unwrap_or_else(|| SECONDS.to_owned())])
        .arg(format!("{url}/v1/openapi.json"))
        // Not an argument: everybody on the machine sees those.
        .env("DDB_TOKEN", token)
        .env("DDB_CA", cluster.tls.join("ca.crt"))
        .stdin(Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(status.success(), "schemathesis on node {}: {status}", node.name);
}
