//! One client inside each node's own pod that writes to that node and no other, whatever its role: an old master that
//! still acknowledges is caught here, also on a machine that nobody else can reach.
//!
//! Each client is a thread of its own, because a network belongs to a thread. A write with unknown outcome is never
//! repeated under its id.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    clock::Clock,
    database::Database,
    inside,
    ledger::{Entry, Ledger, Outcome},
    sql::{self, Address},
    writer,
};

const EVERY: Duration = Duration::from_millis(25);
const CONNECT: Duration = Duration::from_millis(500);
const STATEMENT: Duration = Duration::from_secs(1);
const REFRESH: Duration = Duration::from_millis(500);
/// Without a login for so long the pod may have got another network, as after a restart of its machine.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Ids of different nodes never meet below this many writes each; all lie above those of the other writers.
const FIRST_ID: i64 = 1 << 48;

/// UIDs of the nodes' pods, by name. What cannot be read now stays as it was.
type Lives = Arc<Mutex<BTreeMap<String, String>>>;

/// Clients at work.
pub struct Pinned {
    clock: Clock,
    stop: Arc<AtomicBool>,
    refresh: JoinHandle<()>,
    clients: Vec<(String, thread::JoinHandle<Vec<Entry>>)>,
}

/// What they were told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The nodes, in the order of the ledger's writers.
    pub nodes: Vec<String>,
    /// Their writes.
    pub ledger: Ledger,
}

impl Pinned {
    /// Makes the table through the master and begins, one client a node of now.
    pub async fn start(database: &Database, clock: Clock, table: &str) -> Result<Self> {
        sql::create_writes(&mut database.master_connection().await?, table).await?;
        let account = database.at("127.0.0.1").await?;
        let lives = Lives::default();
        let nodes = look(database, &lives).await?;
        let refresh = tokio::spawn(keep_looking(database.clone(), lives.clone()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for (index, node) in nodes.into_iter().enumerate() {
            let client = Client {
                node: node.clone(),
                account: account.clone(),
                table: table.to_owned(),
                clock,
                stop: stop.clone(),
                lives: lives.clone(),
                next_id: FIRST_ID + (i64::try_from(index)? << 40),
                entries: Vec::new(),
            };
            let thread = thread::Builder::new().name(format!("pinned {node}"));
            clients.push((node, thread.spawn(move || client.run())?));
        }
        Ok(Self {
            clock,
            stop,
            refresh,
            clients,
        })
    }

    /// Stops them and tells.
    pub async fn finish(self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.refresh.abort();
        let joined = tokio::task::spawn_blocking(move || {
            let mut told = Told::default();
            for (node, client) in self.clients {
                let entries = client.join().ok();
                told.nodes.push(node);
                told.ledger
                    .writers
                    .push(entries.context("a client in a pod ended badly")?);
            }
            told.ledger.ended = self.clock.at();
            Ok(told)
        });
        joined.await?
    }
}

impl Told {
    /// An error if acknowledgements went from node to node more often than the master changed: then two nodes
    /// acknowledged at the same time, or one after it had been replaced.
    pub fn check(&self, changes: usize) -> Result<()> {
        let turns = self.turns();
        ensure!(
            turns.len() <= changes,
            "the master changed {changes} times, but acknowledgements moved between the nodes {} times: {}",
            turns.len(),
            turns.join(", ")
        );
        Ok(())
    }

    /// What this node acknowledged of writes that were begun after `from`.
    pub fn acknowledged_since(&self, node: &str, from: Duration) -> usize {
        let own = self
            .nodes
            .iter()
            .zip(&self.ledger.writers)
            .filter(|(name, _)| *name == node);
        own.flat_map(|(_, entries)| entries)
            .filter(|entry| entry.outcome == Outcome::Acknowledged && entry.begun > from)
            .count()
    }

    /// When this node last took a statement of its client before `until`; refusals count too, answers do not matter.
    pub fn last_taken(&self, node: &str, until: Duration) -> Option<Duration> {
        let own = self
            .nodes
            .iter()
            .zip(&self.ledger.writers)
            .filter(|(name, _)| *name == node);
        own.flat_map(|(_, entries)| entries)
            .map(|entry| entry.begun)
            .filter(|begun| *begun < until)
            .max()
    }

    /// Each time that a write was begun at one node after another node's was acknowledged. Writes under way at the
    /// same time have no order, so only what surely came later counts.
    fn turns(&self) -> Vec<String> {
        let mut acknowledged: Vec<(&str, &Entry)> = Vec::new();
        for (node, entries) in self.nodes.iter().zip(&self.ledger.writers) {
            let good = entries
                .iter()
                .filter(|entry| entry.outcome == Outcome::Acknowledged);
            acknowledged.extend(good.map(|entry| (node.as_str(), entry)));
        }
        acknowledged.sort_by_key(|(_, entry)| entry.ended);
        let mut turns = Vec::new();
        let mut last: Option<(&str, Duration)> = None;
        for (node, entry) in acknowledged {
            match last {
                Some((before, ended)) if before != node && entry.begun > ended => {
                    turns.push(format!("{before} to {node} at {} ms", entry.ended.as_millis()));
                    last = Some((node, entry.ended));
                }
                Some((before, _)) if before == node => last = Some((node, entry.ended)),
                Some(_) => {}
                None => last = Some((node, entry.ended)),
            }
        }
        turns
    }
}

async fn look(database: &Database, lives: &Lives) -> Result<Vec<String>> {
    let pods = database.pods().await?;
    let names = pods.iter().map(|pod| pod.name.clone()).collect();
    if let Ok(mut lives) = lives.lock() {
        lives.extend(pods.into_iter().map(|pod| (pod.name, pod.uid)));
    }
    Ok(names)
}

async fn keep_looking(database: Database, lives: Lives) {
    loop {
        sleep(REFRESH).await;
        // The API server may be what is broken: the pods of before are then still the right ones.
        let _ = timeout(REFRESH * 4, look(&database, &lives)).await;
    }
}

struct Client {
    node: String,
    account: Address,
    table: String,
    clock: Clock,
    stop: Arc<AtomicBool>,
    lives: Lives,
    next_id: i64,
    entries: Vec<Entry>,
}

impl Client {
    fn run(mut self) -> Vec<Entry> {
        while !self.stopped() {
            let uid = self.life();
            let network = uid.as_deref().and_then(inside::network);
            let (Some(uid), Some(network)) = (uid, network) else {
                thread::sleep(EVERY * 4);
                continue;
            };
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                break;
            };
            if inside::enter(&network).is_ok() {
                runtime.block_on(self.write_in(&uid));
            }
        }
        self.entries
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn life(&self) -> Option<String> {
        self.lives.lock().ok()?.get(&self.node).cloned()
    }

    /// Writes until the pod is another one or its server does not answer for a while.
    async fn write_in(&mut self, uid: &str) {
        let mut reached = self.clock.at();
        let mut open = None;
        while !self.stopped() && self.life().as_deref() == Some(uid) {
            if open.is_none() {
                open = sql::connect(&self.account, CONNECT).await.ok();
            }
            let Some(mut connection) = open.take() else {
                if self.clock.at().saturating_sub(reached) > LOOK_AGAIN {
                    return;
                }
                sleep(EVERY).await;
                continue;
            };
            reached = self.clock.at();
            let (id, begun) = (self.next_id, reached);
            self.next_id += 1;
            let answer = timeout(STATEMENT, sql::insert_write(&mut connection, &self.table, id)).await;
            let outcome = writer::outcome(&answer);
            self.entries.push(Entry {
                id,
                begun,
                ended: self.clock.at(),
                outcome,
            });
            if outcome != Outcome::Unknown {
                open = Some(connection);
                sleep(EVERY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(writes: &[(&str, u64, u64, Outcome)]) -> Told {
        let mut by_node: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
        for (id, (node, begun, ended, outcome)) in (0..).zip(writes) {
            by_node.entry(node).or_default().push(Entry {
                id,
                begun: Duration::from_millis(*begun),
                ended: Duration::from_millis(*ended),
                outcome: *outcome,
            });
        }
        Told {
            nodes: by_node.keys().map(|node| (*node).to_owned()).collect(),
            ledger: Ledger {
                writers: by_node.into_values().collect(),
                ended: Duration::from_secs(10),
            },
        }
    }

    use Outcome::{Acknowledged, Refused, Unknown};

    #[test]
    fn one_change_of_master_explains_one_turn_and_no_more() {
        let good = told(&[
            ("a", 0, 5, Acknowledged),
            ("b", 1, 2, Refused),
            ("a", 10, 900, Unknown),
            ("b", 100, 105, Acknowledged),
        ]);
        assert!(good.check(1).is_ok());
        assert!(good.check(0).is_err());
    }

    #[test]
    fn an_old_master_that_acknowledges_again_is_a_turn_too_many() {
        let bad = told(&[
            ("a", 0, 5, Acknowledged),
            ("b", 100, 105, Acknowledged),
            ("a", 110, 115, Acknowledged),
            ("b", 120, 125, Acknowledged),
        ]);
        let error = bad.check(1).unwrap_err().to_string();
        assert!(error.contains("b to a at 115 ms"), "{error}");
    }

    #[test]
    fn an_answer_that_arrives_late_is_no_turn() {
        let late = told(&[
            ("a", 0, 5, Acknowledged),
            ("a", 10, 130, Acknowledged),
            ("b", 100, 105, Acknowledged),
            ("b", 120, 140, Acknowledged),
        ]);
        assert!(late.check(1).is_ok());
    }

    #[test]
    fn what_was_begun_before_the_fault_does_not_count_as_after_it() {
        let told = told(&[("a", 0, 50, Acknowledged), ("a", 60, 70, Acknowledged)]);
        assert_eq!(told.acknowledged_since("a", Duration::from_millis(40)), 1);
        assert_eq!(told.acknowledged_since("b", Duration::ZERO), 0);
    }
}
