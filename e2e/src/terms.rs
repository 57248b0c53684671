//! Asks every node's agent for the highest term it has stored, again and again, and keeps each answer that is new.
//!
//! A stored term must never fall as long as the node keeps its volume: that memory is what refuses a late operator. A
//! fall is seen only where a node tells its term before and after, so each of the beginning must do both.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, ResourceExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    clock::Clock,
    database::Database,
    wait::{self, Seen},
};

const EVERY: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_millis(300);
/// Addresses and claims are read so seldom, in turns of [`EVERY`].
const LOOK_EVERY: u32 = 5;
/// While all is well each node tells its term within this.
const TOLD: Duration = Duration::from_secs(30);

/// Terms of the nodes as they were told.
#[derive(Debug, Default)]
pub struct Terms {
    /// How often each node told its term.
    answers: BTreeMap<String, usize>,
    known: BTreeMap<(String, String), u64>,
    changes: Vec<String>,
    violations: Vec<String>,
}

impl Terms {
    fn answer(&mut self, at: Duration, node: &str, volume: &str, term: u64) {
        *self.answers.entry(node.to_owned()).or_default() += 1;
        let key = (node.to_owned(), volume.to_owned());
        let before = self.known.insert(key, term);
        if before != Some(term) {
            self.changes
                .push(format!("{:>8} ms  {node} term={term}", at.as_millis()));
        }
        if let Some(before) = before.filter(|before| *before > term) {
            self.violations.push(format!(
                "at {} ms the term that {node} has stored fell from {before} to {term}",
                at.as_millis()
            ));
        }
    }

    /// Those of `nodes` that told no term beyond the answers of `before`.
    fn silent(&self, nodes: &[String], before: &BTreeMap<String, usize>) -> Vec<String> {
        let silent = nodes
            .iter()
            .filter(|node| self.answers.get(*node).unwrap_or(&0) <= before.get(*node).unwrap_or(&0));
        silent.cloned().collect()
    }
}

/// A watch in progress; dropping it ends it.
pub struct TermWatch {
    nodes: Vec<String>,
    terms: Arc<Mutex<Terms>>,
    task: JoinHandle<()>,
}

impl TermWatch {
    /// Begins, with the nodes of now; each has told its term when this returns.
    pub async fn start(database: &Database, clock: Clock) -> Result<Self> {
        let nodes = database.pods().await?.into_iter().map(|node| node.name);
        let nodes: Vec<String> = nodes.collect();
        ensure!(!nodes.is_empty(), "there is no node whose term could be watched");
        let terms = Arc::new(Mutex::new(Terms::default()));
        let task = tokio::spawn(watch(database.clone(), clock, terms.clone()));
        let watch = Self { nodes, terms, task };
        watch.told().await.context("before the fault")?;
        Ok(watch)
    }

    /// Waits until every node of the beginning has told its term once more.
    async fn told(&self) -> Result<()> {
        let known = || self.terms.lock().ok().context("the watch of terms ended badly");
        let before = known()?.answers.clone();
        wait::until("term of every node: these are silent", TOLD, async || {
            let silent = known()?.silent(&self.nodes, &before);
            Ok(Seen::once_empty(&silent))
        })
        .await
    }

    /// Ends it, once each node of the beginning has told its term since all was well again; gives every change of a
    /// node's term.
    ///
    /// # Errors
    /// One that names the falls, or the nodes that told nothing.
    pub async fn finish(self) -> Result<Vec<String>> {
        self.told().await.context("after all was well again")?;
        let terms = self.terms.lock().ok().context("the watch of terms ended badly")?;
        ensure!(terms.violations.is_empty(), "{}", terms.violations.join("\n"));
        Ok(terms.changes.clone())
    }
}

impl Drop for TermWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(database: Database, clock: Clock, terms: Arc<Mutex<Terms>>) {
    let mut nodes = Vec::new();
    for turn in 0_u32.. {
        if turn % LOOK_EVERY == 0
            && let Ok(Ok(found)) = timeout(EVERY * LOOK_EVERY, look(&database)).await
        {
            nodes = found;
        }
        let asked = nodes.iter().map(async |(node, volume, address)| {
            let term = timeout(DEADLINE, ask(address, "ddb_node_term"))
                .await
                .ok()?
                .ok()?;
            Some((node, volume, term))
        });
        for (node, volume, term) in futures::future::join_all(asked).await.into_iter().flatten() {
            if let Ok(mut terms) = terms.lock() {
                terms.answer(clock.at(), node, volume, term);
            }
        }
        sleep(EVERY).await;
    }
}

/// Name, claim's UID and address of every node that has them.
async fn look(database: &Database) -> Result<Vec<(String, String, String)>> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(database.client.clone(), &database.namespace);
    let claims: BTreeMap<String, String> = claims
        .list(&database.selector())
        .await?
        .into_iter()
        .filter_map(|claim| Some((claim.name_any(), claim.uid()?)))
        .collect();
    let pods = database.pods().await?.into_iter();
    Ok(pods
        .filter_map(|pod| Some((pod.name.clone(), claims.get(&pod.name)?.clone(), pod.ip?)))
        .collect())
}

/// The value of a metric that the agent at this address tells now.
pub async fn ask(address: &str, metric: &str) -> Result<u64> {
    let mut stream = TcpStream::connect((address, api::wire::PROBE_PORT)).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nhost: node\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    value_in(&text, metric).with_context(|| format!("there is no metric {metric}"))
}

fn value_in(metrics: &str, name: &str) -> Option<u64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_term_is_read_from_its_own_line() {
        let text = "# HELP ddb_node_term Highest term stored.\nddb_node_term 12\nddb_node_fenced 0\n";
        assert_eq!(value_in(text, "ddb_node_term"), Some(12));
        assert_eq!(value_in("ddb_node_termite 3\n", "ddb_node_term"), None);
    }

    #[test]
    fn a_fall_is_a_violation_unless_the_volume_is_another_one() {
        let mut terms = Terms::default();
        terms.answer(Duration::ZERO, "shop-0", "v1", 5);
        terms.answer(Duration::ZERO, "shop-0", "v2", 0);
        assert!(terms.violations.is_empty());
        terms.answer(Duration::ZERO, "shop-0", "v2", 5);
        terms.answer(Duration::ZERO, "shop-0", "v2", 4);
        assert_eq!(terms.violations.len(), 1);
    }

    #[test]
    fn a_node_that_tells_nothing_is_silent_however_much_the_others_tell() {
        let nodes = ["shop-0", "shop-1"].map(str::to_owned);
        let mut terms = Terms::default();
        terms.answer(Duration::ZERO, "shop-0", "v1", 5);
        terms.answer(Duration::ZERO, "shop-0", "v1", 5);
        assert_eq!(terms.silent(&nodes, &BTreeMap::new()), ["shop-1"]);
        terms.answer(Duration::ZERO, "shop-1", "v1", 5);
        assert!(terms.silent(&nodes, &BTreeMap::new()).is_empty());
        let before = terms.answers.clone();
        terms.answer(Duration::ZERO, "shop-1", "v1", 5);
        assert_eq!(terms.silent(&nodes, &before), ["shop-0"]);
    }
}
