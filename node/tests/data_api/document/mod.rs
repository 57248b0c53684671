//! The document that the nodes serve against what they answer: schemathesis makes requests of it, good ones and bad
//! ones, and judges every answer. Left out unless it is asked for, because it takes minutes; `cargo xtask test` asks:
//!
//! `DDB_TEST_SCHEMATHESIS=/path/to/schemathesis DDB_TEST_MYSQLD=/path/to/mysqld cargo test -p node --test data_api
//! the_document -- --ignored --nocapture`; `DDB_TEST_SECONDS` for a longer hunt, `DDB_TEST_SEED` for another one.

pub mod roles;

use std::{path::PathBuf, process::Stdio, time::Duration};

use sqlx::raw_sql;
use tokio::{process::Command, time::sleep};

use crate::{
    support::{Node, cluster::Cluster, https::ADMIN},
    wait_for_roles,
};

/// One run: the node that is asked, the phases, and the seconds that it takes where nothing else is said. A slave forwards
/// changes and reads by itself; only the master carries changes out where they came.
const RUNS: [(usize, &str, u64); 2] = [(1, "examples,coverage,fuzzing", 100), (0, "fuzzing", 40)];

/// What the requests find. Some of them drop it, so it is put back again and again.
const THERE: &str = include_str!("there.sql");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and needs schemathesis; cargo xtask test runs it"]
async fn the_document_is_what_the_nodes_answer() {
    let _alone = crate::ONE_AT_A_TIME.lock().await;
    let program = named("DDB_TEST_SCHEMATHESIS").map(PathBuf::from);
    let program = program.expect("name the program of schemathesis in DDB_TEST_SCHEMATHESIS");
    let cluster = Cluster::led("document").await.expect("a mysqld");
    wait_for_roles(&cluster.nodes[0]).await;
    let mut master = cluster.nodes[0].app().await.unwrap();
    raw_sql(THERE).execute(&mut master).await.unwrap();
    let kept = tokio::spawn(keep_there(master));
    for (node, phases, seconds) in RUNS {
        let seconds = named("DDB_TEST_SECONDS").map_or(seconds, |text| text.parse().unwrap());
        hunt(&program, &cluster, &cluster.nodes[node], phases, seconds).await;
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

async fn hunt(program: &PathBuf, cluster: &Cluster, node: &Node, phases: &str, seconds: u64) {
    let url = format!("https://localhost:{}", node.api_port());
    let config = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data_api/document/schemathesis.toml"
    );
    let seed = named("DDB_TEST_SEED").unwrap_or_else(|| "1".to_owned());
    let status = Command::new(program)
        .current_dir(&cluster.root)
        .args(["--config-file", config, "run", "--no-color", "--phases", phases])
        .args(["--seed", &seed, "--max-time", &seconds.to_string()])
        .arg(format!("{url}/v1/openapi.json"))
        // Not arguments: everybody on the machine sees those.
        .env("DDB_TOKEN", ADMIN)
        .env("DDB_CA", cluster.tls.join("ca.crt"))
        .stdin(Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(status.success(), "schemathesis on node {}: {status}", node.name);
}
