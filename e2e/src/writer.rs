//! Clients that write through the master's Service as an ordinary application would, and remember what was answered.
//!
//! A write whose outcome is unknown is never repeated under its id, so the ledger stays exact.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    clock::Clock,
    ledger::{Entry, Ledger, Outcome},
    sql::{self, Address},
    wait::{self, Seen},
};

/// How the writers behave.
#[derive(Debug, Clone)]
pub struct Habits {
    /// How many write at the same time, each on its own connection.
    pub writers: u32,
    /// From the beginning of one write to that of the next, if the first is done by then.
    pub every: Duration,
    /// For a connection, from the first packet to the login.
    pub connect: Duration,
    /// For one statement.
    pub statement: Duration,
    /// `schema.table`, made when it is missing.
    pub table: String,
    /// The first id of the first writer.
    pub first_id: i64,
}

impl Habits {
    /// The habits that outages are measured with: short spacing, because a gap is known no better than that.
    pub fn of(writers: u32, table: &str) -> Self {
        Self {
            writers,
            every: Duration::from_millis(5),
            connect: Duration::from_millis(250),
            statement: Duration::from_secs(1),
            table: table.to_owned(),
            first_id: 1,
        }
    }
}

/// Ids of different writers never meet below this many writes each.
const IDS_PER_WRITER: i64 = 1 << 32;
/// Between two attempts to connect where the first was refused at once.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);

/// MySQL's ways to say that it did not do it: read-only, and refused before execution while offline.
const READ_ONLY: [u16; 2] = [1290, 1836];

/// Writers at work.
pub struct Writers {
    clock: Clock,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    each: Vec<(Entries, JoinHandle<()>)>,
}

/// One writer's own writes, in its order.
type Entries = Arc<Mutex<Vec<Entry>>>;

fn lock(entries: &Entries) -> MutexGuard<'_, Vec<Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writers {
    /// Makes the table and begins; the first acknowledgements are waited for.
    pub async fn start(address: &Address, clock: Clock, habits: &Habits) -> Result<Self> {
        let table = &habits.table;
        wait::until("table for the writers", Duration::from_secs(30), async || {
            let mut connection = sql::connect(address, Duration::from_secs(2)).await?;
            sql::create_writes(&mut connection, table).await.map(Seen::Done)
        })
        .await?;
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let start_one = |number: u32| {
            let entries = Entries::default();
            let writer = Writer {
                address: address.clone(),
                habits: habits.clone(),
                clock,
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
                next_id: habits.first_id + i64::from(number) * IDS_PER_WRITER,
                entries: Arc::clone(&entries),
            };
            (entries, tokio::spawn(writer.run()))
        };
        let each = (0..habits.writers).map(start_one).collect();
        let writers = Self {
            clock,
            stop,
            acknowledged,
            each,
        };
        writers
            .wait_for_more(u64::from(habits.writers) * 5, Duration::from_secs(30))
            .await?;
        Ok(writers)
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more are acknowledged.
    pub async fn wait_for_more(&self, count: u64, bound: Duration) -> Result<()> {
        let goal = self.acknowledged() + count;
        wait::until("acknowledged write", bound, async || {
            let now = self.acknowledged();
            Ok(if now >= goal {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{now} of {goal}"))
            })
        })
        .await
    }

    /// The ledger of the writes that have an outcome by now.
    pub fn so_far(&self) -> Ledger {
        Ledger {
            writers: self
                .each
                .iter()
                .map(|(entries, _)| lock(entries).clone())
                .collect(),
            ended: self.clock.at(),
        }
    }

    /// Lets the writes under way end, and gives the ledger.
    pub async fn finish(mut self) -> Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        for (_, task) in &mut self.each {
            task.await.context("a writer ended badly")?;
        }
        Ok(self.so_far())
    }
}

struct Writer {
    address: Address,
    habits: Habits,
    clock: Clock,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    next_id: i64,
    entries: Entries,
}

impl Writer {
    async fn run(mut self) {
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(mut open) = self.take_or_connect(&mut connection).await else {
                continue;
            };
            let entry = self.write(&mut open).await;
            let busy = entry.ended.saturating_sub(entry.begun);
            let outcome = entry.outcome;
            lock(&self.entries).push(entry);
            if outcome == Outcome::Acknowledged {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                connection = Some(open);
            }
            // After a failure the connection is dropped, not closed in order: a closing handshake with a dead server
            // would be part of the outage.
            if outcome != Outcome::Unknown {
                sleep(self.habits.every.saturating_sub(busy)).await;
            }
        }
    }

    async fn take_or_connect(&self, connection: &mut Option<MySqlConnection>) -> Option<MySqlConnection> {
        if let Some(open) = connection.take() {
            return Some(open);
        }
        if let Ok(open) = sql::connect(&self.address, self.habits.connect).await {
            return Some(open);
        }
        sleep(RECONNECT_PAUSE).await;
        None
    }

    async fn write(&mut self, connection: &mut MySqlConnection) -> Entry {
        let id = self.next_id;
        self.next_id += 1;
        let begun = self.clock.at();
        let answer = timeout(
            self.habits.statement,
            sql::insert_write(connection, &self.habits.table, id),
        )
        .await;
        Entry {
            id,
            begun,
            ended: self.clock.at(),
            outcome: outcome(&answer),
        }
    }
}

/// What became of a write, from the server's answer or the passing of the deadline.
pub fn outcome<E>(answer: &Result<Result<(), sqlx::Error>, E>) -> Outcome {
    match answer {
        Ok(Ok(())) => Outcome::Acknowledged,
        Ok(Err(error)) if is_refusal(error) => Outcome::Refused,
        Ok(Err(_)) | Err(_) => Outcome::Unknown,
    }
}

/// Whether the server said that it did not do it.
pub fn is_refusal(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    error
        .try_downcast_ref::<MySqlDatabaseError>()
        .is_some_and(|error| READ_ONLY.contains(&error.number()))
}
