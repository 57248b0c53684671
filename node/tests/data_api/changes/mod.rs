//! The change feed on real servers.

pub mod certain;
pub mod place;
pub mod told;

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, raw_sql};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::support::{
    Node,
    https::{Tls, connect},
};

/// Longer than anything takes that is to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

/// A client of the feed.
pub struct Client {
    stream: Tls,
    raw: Vec<u8>,
    body: String,
    /// The last chunk came: the server ended the stream by itself.
    pub ended: bool,
    /// The position of the last event that had one.
    pub id: String,
    pub head: String,
}

/// Opens a feed; a refusal is its status and what it says.
pub async fn try_follow(
    node: &Node,
    token: &str,
    query: &str,
    last: Option<&str>,
) -> Result<Client, (u16, Value)> {
    let mut stream = connect(&node.tls, node.api_port()).await.unwrap();
    let last = last
        .map(|id| format!("Last-Event-ID: {id}\r\n"))
        .unwrap_or_default();
    let request = format!(
        "GET /v1/changes{query} HTTP/1.1\r\nHost: node.test\r\nAuthorization: Bearer {token}\r\nAccept-Encoding: gzip\r\n\
         Prefer: wait=10\r\n{last}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut raw = Vec::new();
    let end = loop {
        if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let count = timeout(PATIENCE, stream.read_buf(&mut raw))
            .await
            .expect("a head")
            .unwrap();
        assert!(count > 0, "no head: {raw:?}");
    };
    let rest = raw.split_off(end);
    let head = String::from_utf8(raw).unwrap();
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status != 200 {
        let mut rest = rest;
        while serde_json::from_slice::<Value>(&rest).is_err() {
            let count = timeout(PATIENCE, stream.read_buf(&mut rest))
                .await
                .expect("a body")
                .unwrap();
            assert!(count > 0, "{head}");
        }
        return Err((status, serde_json::from_slice(&rest).unwrap()));
    }
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(!head.contains("content-encoding"), "{head}");
    let mut client = Client {
        stream,
        raw: rest,
        body: String::new(),
        ended: false,
        id: String::new(),
        head,
    };
    let first = client.next().await;
    assert_eq!(first.name, "position", "{first:?}");
    assert_eq!(first.data["position"], json!(client.id));
    Ok(client)
}

pub async fn follow(node: &Node, token: &str, query: &str, last: Option<&str>) -> Client {
    match try_follow(node, token, query, last).await {
        Ok(client) => client,
        Err(refused) => panic!("{refused:?}"),
    }
}

impl Client {
    /// The next event.
    pub async fn next(&mut self) -> Told {
        let found = timeout(PATIENCE, self.find()).await.expect("an event in time");
        found.unwrap_or_else(|| panic!("the feed ended: {}", self.body))
    }

    /// The next event; nothing where the feed ended or none came.
    pub async fn within(&mut self, patience: Duration) -> Option<Told> {
        timeout(patience, self.find()).await.ok().flatten()
    }

    /// Everything until the feed ends.
    pub async fn rest(&mut self) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(told) = timeout(PATIENCE, self.find()).await.expect("the feed's end") {
            all.push(told);
        }
        all
    }

    /// The rows of the next transaction that has some, and its end.
    pub async fn transaction(&mut self) -> (Vec<Value>, Told) {
        let mut rows = Vec::new();
        loop {
            let told = self.next().await;
            match told.name.as_str() {
                "row" => rows.push(told.data),
                "commit" if !rows.is_empty() => return (rows, told),
                "commit" | "position" | "schema" => {}
                _ => panic!("{told:?}"),
            }
        }
    }

    async fn find(&mut self) -> Option<Told> {
        loop {
            if let Some(end) = self.body.find("\n\n") {
                let event: String = self.body.drain(..end + 2).collect();
                if let Some(told) = read(&event) {
                    if let Some(id) = &told.id {
                        self.id.clone_from(id);
                    }
                    return Some(told);
                }
                continue;
            }
            if self.ended {
                return None;
            }
            self.unchunk();
            if self.body.contains("\n\n") || self.ended {
                continue;
            }
            match self.stream.read_buf(&mut self.raw).await {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
    }

    /// Whole chunks of the reply.
    fn unchunk(&mut self) {
        loop {
            let Some(line) = self.raw.windows(2).position(|window| window == b"\r\n") else {
                return;
            };
            let size = usize::from_str_radix(std::str::from_utf8(&self.raw[..line]).unwrap(), 16).unwrap();
            if self.raw.len() < line + 2 + size + 2 {
                return;
            }
            if size == 0 {
                self.ended = true;
                return;
            }
            let chunk: Vec<u8> = self.raw.drain(..line + 2 + size + 2).collect();
            // No character is cut: each part of the feed is of whole events.
            self.body
                .push_str(std::str::from_utf8(&chunk[line + 2..line + 2 + size]).unwrap());
        }
    }
}

/// An event's text; a comment is none.
fn read(event: &str) -> Option<Told> {
    let field = |name: &str| {
        event
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    Some(Told {
        name: field("event")?.to_owned(),
        id: field("id").map(str::to_owned),
        data: serde_json::from_str(field("data")?).unwrap(),
    })
}

/// Carries statements out as the application would.
pub async fn run(node: &Node, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    raw_sql(sql)
        .execute(&mut node.app().await.unwrap())
        .await
        .unwrap();
}

/// How many connections read the log for feeds.
pub async fn dumps(node: &Node) -> usize {
    let sql = "SELECT 1 FROM performance_schema.processlist WHERE USER = 'ddb_changes'";
    raw_sql(sql)
        .fetch_all(&mut node.root().await)
        .await
        .unwrap()
        .len()
}
