//! Clients of the data API that write a row after the other, each with a key, and repeat what has no good answer, as a
//! careful application does: every row must come to its answer, and be there once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    clock::{Clock, millis},
    database::Database,
    https::{Client, Entrance, Reply},
    ledger::{Entry, Ledger, Outcome},
    sql,
};

/// How many write, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// So many clients, each with one connection.
    pub clients: u32,
    /// From the answer to one row to the next row.
    pub every: Duration,
}

impl Pace {
    /// Few and slow, where the outage is measured by others: this is not to lengthen it.
    pub const ASIDE: Self = Self {
        clients: 2,
        every: Duration::from_millis(50),
    };

    /// Short, because an outage is known no better than that.
    pub fn measuring(clients: u32) -> Self {
        Self {
            clients,
            every: Duration::from_millis(5),
        }
    }
}

/// Longer than the ten seconds that a request is allowed to wait for a master.
const PATIENCE: Duration = Duration::from_secs(12);
/// Before the same request is sent again.
const PAUSE: Duration = Duration::from_millis(50);
/// From the end of all faults to the answer of the last row.
const ANSWERED: Duration = Duration::from_mins(1);
/// Ids of different clients never meet below this many rows each.
const IDS_PER_CLIENT: i64 = 1 << 32;

/// Keys are the token's, which outlives a table.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Clients at work; dropping them ends them.
pub struct ApiWriters {
    clock: Clock,
    stop: Arc<AtomicBool>,
    clients: JoinSet<(u32, Result<Written>)>,
}

/// A try that brought no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it was over.
    pub at: Duration,
    /// The row.
    pub id: i64,
    /// What came instead.
    pub what: String,
}

/// What the clients were told.
#[derive(Debug, Clone, Default)]
pub struct ApiTold {
    /// Their rows: all are acknowledged in the end.
    pub ledger: Ledger,
    /// Tries after which the same was sent again.
    pub failures: Vec<Failure>,
    /// Requests that met a connection at rest which the node had just closed, and went over another.
    pub resent: usize,
}

#[derive(Default)]
struct Written {
    entries: Vec<Entry>,
    failures: Vec<Failure>,
    resent: usize,
}

/// What a try came to.
#[derive(Debug, PartialEq, Eq)]
enum Try {
    Done,
    Again(String),
    Refused(String),
}

impl ApiWriters {
    /// Makes the table through the master and begins to write to it through `entrance`.
    pub async fn start(
        database: &Database,
        entrance: &Entrance,
        clock: Clock,
        table: &str,
        pace: Pace,
    ) -> Result<Self> {
        sql::create_writes(&mut database.master_connection().await?, table).await?;
        let (schema, name) = table.split_once('.').context("a table without its schema")?;
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..pace.clients {
            let writer = Writer {
                client: Client::new(entrance.clone()),
                path: format!("/v1/databases/{schema}/tables/{name}/rows"),
                key: format!("{table}-{run}"),
                clock,
                stop: Arc::clone(&stop),
                every: pace.every,
                next_id: i64::from(number) * IDS_PER_CLIENT + 1,
                written: Written::default(),
            };
            clients.spawn(async move { (number, writer.run().await) });
        }
        Ok(Self { clock, stop, clients })
    }

    /// Now, on the clock of what they note.
    pub fn now(&self) -> Duration {
        self.clock.at()
    }

    /// Waits until each row under way has its answer, and tells.
    ///
    /// # Errors
    /// Where a row was refused or has no answer in time.
    pub async fn finish(mut self) -> Result<ApiTold> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        let ended = timeout(ANSWERED, async {
            while let Some(client) = self.clients.join_next().await {
                let (number, written) = client.context("a client of the data API ended badly")?;
                all.push((number, written?));
            }
            anyhow::Ok(())
        });
        ended.await.with_context(|| {
            let seconds = ANSWERED.as_secs();
            format!("a row written through the data API has no answer {seconds} s after all was well again")
        })??;
        all.sort_by_key(|(number, _)| *number);
        let mut told = ApiTold::default();
        for (_, written) in all {
            told.ledger.writers.push(written.entries);
            told.failures.extend(written.failures);
            told.resent += written.resent;
        }
        told.ledger.ended = self.clock.at();
        ensure!(
            told.ledger.count(Outcome::Acknowledged) > 0,
            "nothing was written through the data API, so nothing is proven"
        );
        Ok(told)
    }
}

impl ApiTold {
    /// An error that names the tries without a good answer, if there are any.
    pub fn no_failure(&self) -> Result<()> {
        let shown: Vec<String> = self.failures.iter().take(5).map(Failure::sentence).collect();
        ensure!(
            self.failures.is_empty(),
            "{} requests to the data API failed: {}",
            self.failures.len(),
            shown.join("; ")
        );
        Ok(())
    }

    /// In a sentence.
    pub fn sentence(&self) -> String {
        let waits = self.ledger.writers.iter().flatten();
        let longest = waits.map(|entry| entry.ended.saturating_sub(entry.begun)).max();
        format!(
            "through the data API {} rows, {} tries failed, the slowest row after {} ms",
            self.ledger.count(Outcome::Acknowledged),
            self.failures.len(),
            millis(longest.unwrap_or_default())
        )
    }
}

impl Failure {
    fn sentence(&self) -> String {
        format!("row {} at {} ms: {}", self.id, millis(self.at), self.what)
    }
}

struct Writer {
    client: Client,
    path: String,
    key: String,
    clock: Clock,
    stop: Arc<AtomicBool>,
    every: Duration,
    next_id: i64,
    written: Written,
}

impl Writer {
    async fn run(mut self) -> Result<Written> {
        while !self.stop.load(Ordering::Relaxed) {
            let id = self.next_id;
            self.next_id += 1;
            let begun = self.clock.at();
            self.write(id).await?;
            self.written.entries.push(Entry {
                id,
                begun,
                ended: self.clock.at(),
                outcome: Outcome::Acknowledged,
            });
            sleep(self.every).await;
        }
        self.written.resent = self.client.resent();
        Ok(self.written)
    }

    /// Tries until the row is acknowledged.
    async fn write(&mut self, id: i64) -> Result<()> {
        let row = json!({"id": id, "note": format!("row {id}")});
        let key = format!("{}-{id}", self.key);
        let headers = [("idempotency-key", key.as_str()), ("prefer", "wait=10")];
        loop {
            let asked = self
                .client
                .ask("POST", &self.path, &headers, Some(&row), PATIENCE)
                .await;
            let came = match asked {
                Ok(reply) => judge(&reply),
                Err(error) => Try::Again(format!("{error:#}")),
            };
            match came {
                Try::Done => return Ok(()),
                Try::Again(what) => {
                    let at = self.clock.at();
                    self.written.failures.push(Failure { at, id, what });
                    sleep(PAUSE).await;
                }
                Try::Refused(what) => bail!("the data API refused row {id} for good: {what}"),
            }
        }
    }
}

/// With a key, everything may be sent again whose answer does not say that it never can succeed.
fn judge(reply: &Reply) -> Try {
    let what = || format!("{} {}", reply.status, reply.body);
    match reply.status {
        200 | 201 if reply.body["rows"] == 1 => Try::Done,
        // A statement that waited for the row's own former try took too long, which is no verdict on the row.
        504 => Try::Again(what()),
        300.. if reply.body["retryable"] == true || reply.body["outcome"] == "unknown" => Try::Again(what()),
        _ => Try::Refused(what()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn came(status: u16, body: Value) -> Try {
        judge(&Reply::of(status, body))
    }

    #[test]
    fn only_an_answer_that_can_change_is_asked_for_again() {
        assert_eq!(came(201, json!({"rows": 1, "id": 7})), Try::Done);
        let again = [
            (503, json!({"retryable": true, "outcome": "not-applied"})),
            (503, json!({"retryable": false, "outcome": "unknown"})),
            (504, json!({"retryable": false, "outcome": "not-applied"})),
        ];
        for (status, body) in again {
            assert!(matches!(came(status, body), Try::Again(_)), "{status}");
        }
        let refused = [
            (201, json!({"rows": 0})),
            (404, json!({"retryable": false, "outcome": "not-applied"})),
            (500, Value::Null),
        ];
        for (status, body) in refused {
            assert!(matches!(came(status, body), Try::Refused(_)), "{status}");
        }
    }

    #[test]
    fn a_try_that_failed_is_told_with_its_row() {
        let mut told = ApiTold::default();
        assert!(told.no_failure().is_ok());
        told.failures.push(Failure {
            at: Duration::from_millis(1200),
            id: 7,
            what: "503".to_owned(),
        });
        let error = told.no_failure().unwrap_err().to_string();
        assert!(error.contains("row 7 at 1200 ms: 503"), "{error}");
    }
}
