//! One client inside each node's own pod that writes to that node and no other, whatever its role: an old master that
//! still acknowledges is caught here, also on a machine that nobody else can reach.
//!
//! Each client is a thread of its own, because a network belongs to a thread. A write with unknown outcome is never
//! repeated under its id. A client that is told nothing would catch nothing, so each must be answered before the first
//! fault and after the last one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
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
    wait::{self, Seen},
    writer,
};

const EVERY: Duration = Duration::from_millis(25);
const CONNECT: Duration = Duration::from_millis(500);
const STATEMENT: Duration = Duration::from_secs(1);
const REFRESH: Duration = Duration::from_millis(500);
/// While all is well each client has an answer within this.
const ANSWERED: Duration = Duration::from_secs(30);
/// Without a login for so long the pod may have got another network, as after a restart of its machine.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Ids of different nodes never meet below this many writes each; all lie above those of the other writers.
const FIRST_ID: i64 = 1 << 48;

/// UIDs of the nodes' pods, by name. What cannot be read now stays as it was.
type Lives = Arc<Mutex<BTreeMap<String, String>>>;

/// Clients at work; dropping them ends them.
pub struct Pinned {
    clock: Clock,
    leash: Leash,
    clients: Vec<Running>,
}

/// Ends all clients where it is dropped.
struct Leash {
    stop: Arc<AtomicBool>,
    refresh: JoinHandle<()>,
}

/// A client's thread.
struct Running {
    node: String,
    progress: Arc<Mutex<Progress>>,
    thread: thread::JoinHandle<Vec<Entry>>,
}

/// How far a client has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Answers that say what became of a write.
    answers: usize,
    /// What stood between it and the next one, last.
    trouble: String,
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
    /// Makes the table through the master and begins, one client a node of now; each has had an answer when this returns.
    pub async fn start(database: &Database, clock: Clock, table: &str) -> Result<Self> {
        sql::create_writes(&mut database.master_connection().await?, table).await?;
        let account = database.at("127.0.0.1").await?;
        let lives = Lives::default();
        let nodes = look(database, &lives).await?;
        let refresh = tokio::spawn(keep_looking(database.clone(), lives.clone()));
        let stop = Arc::new(AtomicBool::new(false));
        let leash = Leash {
            stop: stop.clone(),
            refresh,
        };
        let mut clients = Vec::new();
        for (index, node) in nodes.into_iter().enumerate() {
            let progress = Arc::default();
            let client = Client {
                node: node.clone(),
                account: account.clone(),
                table: table.to_owned(),
                clock,
                stop: stop.clone(),
                lives: lives.clone(),
                next_id: FIRST_ID + (i64::try_from(index)? << 40),
                progress: Arc::clone(&progress),
                entries: Vec::new(),
            };
            let thread = thread::Builder::new().name(format!("pinned {node}"));
            clients.push(Running {
                node,
                progress,
                thread: thread.spawn(move || client.run())?,
            });
        }
        let pinned = Self {
            clock,
            leash,
            clients,
        };
        pinned.answered().await.context("before the fault")?;
        Ok(pinned)
    }

    /// Waits until every client has had one more answer.
    async fn answered(&self) -> Result<()> {
        let before: Vec<usize> = self.clients.iter().map(|it| it.progress().answers).collect();
        wait::until(
            "answer of every node to the client in its pod",
            ANSWERED,
            async || {
                let now = self.clients.iter().map(|it| (it.node.as_str(), it.progress()));
                let silent = now
                    .zip(&before)
                    .filter(|((_, now), before)| now.answers <= **before);
                let silent: Vec<String> = silent
                    .map(|((node, now), _)| format!("{node}: {}", now.trouble))
                    .collect();
                Ok(Seen::once_empty(&silent))
            },
        )
        .await
    }

    /// Stops them, once each has had an answer since all was well again, and tells.
    ///
    /// # Errors
    /// Where one of them had none: it would have caught nothing.
    pub async fn finish(self) -> Result<Told> {
        self.answered().await.context("after all was well again")?;
        let Self {
            clock,
            leash,
            clients,
        } = self;
        drop(leash);
        let joined = tokio::task::spawn_blocking(move || {
            let mut told = Told::default();
            for Running { node, thread, .. } in clients {
                let entries = thread.join().ok();
                told.nodes.push(node);
                told.ledger
                    .writers
                    .push(entries.context("a client in a pod ended badly")?);
            }
            told.ledger.ended = clock.at();
            anyhow::Ok(told)
        });
        let told = joined.await??;
        told.is_evidence()?;
        Ok(told)
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.refresh.abort();
    }
}

impl Running {
    fn progress(&self) -> Progress {
        self.progress
            .lock()
            .map(|progress| progress.clone())
            .unwrap_or_default()
    }
}

impl Told {
    /// An error if a node never told its client what became of a write, or no write was acknowledged at all: then nothing
    /// else that is asked of this can fail.
    fn is_evidence(&self) -> Result<()> {
        for (node, entries) in self.nodes.iter().zip(&self.ledger.writers) {
            ensure!(
                entries.iter().any(|entry| entry.outcome != Outcome::Unknown),
                "the client in the pod of {node} was told nothing, so nothing is proven of that node"
            );
        }
        ensure!(
            self.ledger.count(Outcome::Acknowledged) > 0,
            "no write from within a pod was acknowledged, so nothing is proven"
        );
        Ok(())
    }

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
        self.acknowledged(node).filter(|entry| entry.begun > from).count()
    }

    /// An error if this node acknowledged none of its client's writes before `until`: that it acknowledged none later
    /// would then say nothing.
    pub fn acknowledged_before(&self, node: &str, until: Duration) -> Result<()> {
        ensure!(
            self.acknowledged(node).any(|entry| entry.ended < until),
            "{node} acknowledged nothing to the client in its pod before the fault, so the silence after it proves nothing"
        );
        Ok(())
    }

    /// When this node last took a statement of its client before `until`; refusals count too, answers do not matter.
    pub fn last_taken(&self, node: &str, until: Duration) -> Option<Duration> {
        self.of(node)
            .map(|entry| entry.begun)
            .filter(|begun| *begun < until)
            .max()
    }

    /// The writes of this node's client.
    fn of(&self, node: &str) -> impl Iterator<Item = &Entry> {
        let all = self.nodes.iter().zip(&self.ledger.writers);
        all.filter(move |(name, _)| *name == node)
            .flat_map(|(_, entries)| entries)
    }

    fn acknowledged(&self, node: &str) -> impl Iterator<Item = &Entry> {
        self.of(node)
            .filter(|entry| entry.outcome == Outcome::Acknowledged)
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
    progress: Arc<Mutex<Progress>>,
    entries: Vec<Entry>,
}

impl Client {
    fn run(mut self) -> Vec<Entry> {
        while !self.stopped() {
            if let Err(error) = self.visit() {
                self.note(&error);
                thread::sleep(EVERY * 4);
            }
        }
        self.entries
    }

    /// Enters the pod that there is now, and writes for as long as it is that one.
    fn visit(&mut self) -> Result<()> {
        let uid = self.life().context("there is no such pod")?;
        let network = inside::network(&uid).context("its MySQL container does not run here")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        inside::enter(&network)?;
        runtime.block_on(self.write_in(&uid));
        Ok(())
    }

    /// Keeps what went wrong for whoever waits for an answer.
    fn note(&self, error: &anyhow::Error) {
        if let Ok(mut progress) = self.progress.lock() {
            progress.trouble = format!("{error:#}");
        }
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
                let connected = sql::connect(&self.account, CONNECT).await;
                open = connected.inspect_err(|error| self.note(error)).ok();
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
            if outcome == Outcome::Unknown {
                self.note(&anyhow!("a write had no answer"));
                continue;
            }
            if let Ok(mut progress) = self.progress.lock() {
                progress.answers += 1;
            }
            open = Some(connection);
            sleep(EVERY).await;
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
        assert!(told.acknowledged_before("a", Duration::from_millis(60)).is_ok());
        assert!(told.acknowledged_before("a", Duration::from_millis(50)).is_err());
        assert!(told.acknowledged_before("b", Duration::from_secs(9)).is_err());
    }

    #[test]
    fn clients_that_were_told_nothing_prove_nothing() {
        let master = ("a", 0, 5, Acknowledged);
        assert!(told(&[master, ("b", 1, 2, Refused)]).is_evidence().is_ok());
        let silent = told(&[master, ("b", 1, 900, Unknown)]);
        let error = silent.is_evidence().unwrap_err().to_string();
        assert!(error.contains("the pod of b"), "{error}");
        assert!(told(&[("a", 1, 2, Refused)]).is_evidence().is_err());
        let mut deaf = told(&[master]);
        deaf.nodes.push("b".to_owned());
        deaf.ledger.writers.push(Vec::new());
        assert!(deaf.is_evidence().is_err());
    }
}
