//! A client of the change feed that comes back with its last id whenever a feed ends, each time to the next node.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::curl::{Curl, Lines};

/// The pause before the client comes back, as the feed itself says.
const RETRY: Duration = Duration::from_millis(500);
/// The client has been told everything when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(1);

/// What a client was told.
#[derive(Debug, Default)]
pub struct Told {
    /// The ids of the inserted rows, and how often each was told.
    pub rows: BTreeMap<i64, u64>,
    /// How many feeds it took.
    pub feeds: u32,
    last: String,
}

/// Where the feed is now.
///
/// # Errors
/// Where it does not begin.
pub async fn position(client: &Curl, table: &str) -> Result<String> {
    let mut feed = client.stream("/v1/changes", &[("tables", table)], &[]).await?;
    loop {
        let event = Event::next(&mut feed).await?;
        let event = event.context("the feed ended before it told its position")?;
        if event.name == "position" {
            return Ok(event.id);
        }
    }
}

/// Follows one table, whose key is `id`, from there on, until as many rows were told as are `wanted`.
///
/// # Errors
/// Where the feed tells what it must not.
pub async fn follow(clients: &[Curl], table: &str, from: String, wanted: &AtomicUsize) -> Result<Told> {
    let mut told = Told {
        last: from,
        ..Told::default()
    };
    for client in clients.iter().cycle() {
        told.feeds += 1;
        if told.listen(client, table, wanted).await? {
            break;
        }
        sleep(RETRY).await;
    }
    Ok(told)
}

impl Told {
    /// Listens until the feed ends; true where all that is wanted was told. Rows count with the commit behind them.
    async fn listen(&mut self, client: &Curl, table: &str, wanted: &AtomicUsize) -> Result<bool> {
        let last = format!("Last-Event-ID: {}", self.last);
        let mut feed = client
            .stream("/v1/changes", &[("tables", table)], &[&last])
            .await?;
        let mut open = Vec::new();
        loop {
            let Ok(event) = timeout(QUIET, Event::next(&mut feed)).await else {
                // What is told once too often would have come by now.
                if self.rows.len() >= wanted.load(Ordering::Relaxed) {
                    return Ok(true);
                }
                continue;
            };
            let Some(event) = event? else {
                return Ok(false);
            };
            match event.name.as_str() {
                "row" => open.push(inserted(&event.data)?),
                "commit" | "position" => {
                    for id in open.drain(..) {
                        *self.rows.entry(id).or_default() += 1;
                    }
                    self.last = event.id;
                }
                "schema" => {}
                other => bail!("the feed tells {other}: {}", event.data),
            }
        }
    }
}

fn inserted(data: &str) -> Result<i64> {
    let told: Value = serde_json::from_str(data)?;
    let id = told["row"]["id"].as_i64().filter(|_| told["change"] == "insert");
    id.with_context(|| format!("no insert: {data}"))
}

/// One server-sent event.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    data: String,
}

impl Event {
    /// The next one; `None` where the feed has ended. It may be cancelled.
    async fn next(feed: &mut Lines) -> Result<Option<Self>> {
        loop {
            let Some(block) = feed.next_block().await? else {
                return Ok(None);
            };
            let mut event = Self::default();
            for line in block.lines() {
                let (field, value) = line.split_once(": ").unwrap_or((line, ""));
                match field {
                    "event" => value.clone_into(&mut event.name),
                    "id" => value.clone_into(&mut event.id),
                    "data" => value.clone_into(&mut event.data),
                    _ => {}
                }
            }
            // Comments keep the line alive.
            if !event.name.is_empty() {
                return Ok(Some(event));
            }
        }
    }
}
