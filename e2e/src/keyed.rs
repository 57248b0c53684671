//! Writers through the data API whose every request carries a key: each must be acknowledged, and its row be there
//! once, whatever happens to the master meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::{
    clock::{Clock, millis},
    curl::Curl,
    database::{Database, Node},
    sql,
    wait::{Seen, until},
};

/// Rows that each writer is to have written at least; a busy machine writes few.
const ROWS: usize = 5;
/// They write for so long before the fault and after it.
const AROUND: Duration = Duration::from_secs(1);

/// What was acknowledged.
#[derive(Debug)]
pub struct Written {
    /// The rows, each once.
    pub rows: BTreeMap<i64, u64>,
    /// The longest time that a request took.
    pub slowest: Duration,
}

/// So many `writers` at once write through `client` into a new table of the database `schema` while `fault` happens.
///
/// # Errors
/// Where a request is refused, or `fault` fails.
pub async fn write_through(
    client: &Curl,
    schema: &str,
    writers: usize,
    fault: impl Future<Output = Result<()>>,
) -> Result<Written> {
    client
        .get("/createdb", &[("name", schema)], &[])
        .await?
        .must(200)?;
    let table = json!({"dbname": schema, "table": "writes", "columns": {"id": "int"}});
    client.post("/createtable", &table, &[]).await?.must(200)?;
    let stop = AtomicBool::new(false);
    let fault = async {
        tokio::time::sleep(AROUND).await;
        let ended = fault.await;
        // Writes on the new master, too.
        tokio::time::sleep(AROUND).await;
        stop.store(true, Ordering::Relaxed);
        ended
    };
    let all = (0..writers).map(|writer| write(client, schema, writer, &stop));
    let (ended, written) = tokio::join!(fault, try_join_all(all));
    ended?;
    let written = written?;
    let slowest = written.iter().map(|(_, slowest)| *slowest).max();
    let rows: BTreeMap<i64, u64> = written
        .into_iter()
        .flat_map(|(ids, _)| ids)
        .map(|id| (id, 1))
        .collect();
    ensure!(rows.len() > writers * ROWS, "only {} rows", rows.len());
    Ok(Written {
        rows,
        slowest: slowest.unwrap_or_default(),
    })
}

/// Writes one row after the other; every one must be acknowledged. Gives their ids and the longest wait.
async fn write(
    client: &Curl,
    schema: &str,
    writer: usize,
    stop: &AtomicBool,
) -> Result<(Vec<i64>, Duration)> {
    let clock = Clock::start();
    let (mut ids, mut slowest) = (Vec::new(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let id = i64::try_from(writer * 1_000_000 + ids.len() + 1)?;
        let row = json!({"dbname": schema, "table": "writes", "data": {"id": id}});
        let key = format!("Idempotency-Key: {schema}-{id}");
        let begun = clock.at();
        let answer = client.post("/insert", &row, &["Prefer: wait=5", &key]).await?;
        let reply: Value = answer.must(200).with_context(|| format!("row {id}"))?;
        ensure!(reply["rows"] == 1, "{reply}");
        slowest = slowest.max(clock.at().saturating_sub(begun));
        ids.push(id);
    }
    Ok((ids, slowest))
}

impl Written {
    /// In a sentence.
    pub fn sentence(&self) -> String {
        format!(
            "{} rows acknowledged, none refused, the slowest after {} ms",
            self.rows.len(),
            millis(self.slowest)
        )
    }

    /// Waits until every node has all rows of `schema`; then it must hold these, each once.
    ///
    /// # Errors
    /// Where a node does not within `bound`, or holds others.
    pub async fn are_everywhere(&self, database: &Database, schema: &str, bound: Duration) -> Result<()> {
        for node in database.pods().await? {
            let found = until("all rows on a node", bound, async || {
                let found = ids(database, &node, schema).await?;
                Ok(if found.len() >= self.rows.len() {
                    Seen::Done(found)
                } else {
                    Seen::NotYet(format!(
                        "{} has {} of {}",
                        node.name,
                        found.len(),
                        self.rows.len()
                    ))
                })
            })
            .await?;
            ensure!(
                found == self.rows,
                "{} holds other rows than were acknowledged",
                node.name
            );
        }
        Ok(())
    }
}

async fn ids(database: &Database, node: &Node, schema: &str) -> Result<BTreeMap<i64, u64>> {
    let address = node
        .ip
        .as_deref()
        .with_context(|| format!("{} has no address", node.name))?;
    let mut connection = sql::connect(&database.at(address).await?, Duration::from_secs(2)).await?;
    sql::ids(&mut connection, &format!("{schema}.writes")).await
}
