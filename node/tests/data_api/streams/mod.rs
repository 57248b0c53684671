//! Streams of the data API on real servers: exports, rows and imports as NDJSON and CSV, search.

pub mod exports;
pub mod imports;
pub mod rows;
pub mod search;

use std::time::Duration;

use serde_json::Value;
use sqlx::raw_sql;
use tokio::time::sleep;

use crate::support::{
    Node,
    https::{Answer, READER, WRITER},
    now,
};

pub async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Answer {
    node.ask(READER, "GET", path, &Value::Null, headers).await
}

pub async fn run(node: &Node, sql: &'static str) {
    raw_sql(sql).execute(&mut node.root().await).await.unwrap();
}

pub fn lines_of(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// `POST` of a body of another type than JSON.
pub async fn post(node: &Node, path: &str, kind: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {WRITER}");
    let mut all = vec![("Authorization", bearer.as_str()), ("Content-Type", kind)];
    all.extend_from_slice(headers);
    node.request("POST", path, &all, body).await.unwrap()
}

pub async fn count(node: &Node, table: &str) -> u64 {
    let path = format!("/v1/databases/store/tables/{table}/rows?count=exact&limit=1");
    get(node, &path, &[]).await.must(200)["count"].as_u64().unwrap()
}

pub const NDJSON: &str = "application/x-ndjson";
pub const CSV: &str = "text/csv";

pub fn headers<'h>(bearer: &'h str, kind: &'h str) -> Vec<(&'h str, &'h str)> {
    vec![("Authorization", bearer), ("Content-Type", kind)]
}

pub async fn ask_writer(node: &Node, path: &str) -> Answer {
    node.ask(WRITER, "GET", path, &Value::Null, &[]).await
}

/// What the import says of itself once it has stopped.
pub async fn stopped(node: &Node, id: &str) -> Value {
    let begun = now();
    loop {
        let import = ask_writer(node, &format!("/v1/import/{id}")).await.must(200);
        if import["state"] == "stopped" {
            return import;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{import}");
        sleep(Duration::from_millis(50)).await;
    }
}
