//! The audit record: who changed what, or was refused, when and with what outcome; and what took long.
//!
//! A record is in the file before the reply goes out. It is written by one task, so that a disk that does not answer
//! delays replies by [`PATIENCE`] at most and blocks nothing else; it is then still on standard output.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt as _,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    access::Caller,
    call::Call,
    clock,
    engine::Engine,
    problem::{Outcome, Problem},
};

/// The file that is written.
const NAME: &str = "audit.jsonl";
/// A file of this size is closed and kept; there are [`KEPT`] of them.
const SIZE: u64 = 16 << 20;
/// How many closed files are kept.
const KEPT: usize = 4;
/// Of requests that are not let in, so many a second are recorded: a flood of them would drive out all the others.
const REFUSALS: u32 = 10;
/// How long a reply waits for its record.
const PATIENCE: Duration = Duration::from_millis(200);

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When the reply was ready.
    #[schema(value_type = String)]
    pub time: jiff::Timestamp,
    /// The id of the token, empty where there was none.
    pub who: String,
    /// Its role.
    pub role: String,
    /// The client's address.
    pub from: String,
    /// The node that carried it out.
    pub node: String,
    /// The term.
    pub term: u64,
    /// Method and path.
    pub operation: String,
    /// Database and table.
    pub object: String,
    /// Rows that were reached.
    pub rows: Option<u64>,
    /// `applied`, `not-applied` or `unknown`.
    pub outcome: String,
    /// The HTTP status.
    pub status: u16,
    /// How long it took.
    pub milliseconds: u64,
    /// That was as long as what the resource calls slow, or longer.
    #[serde(default)]
    pub slow: bool,
    /// The request's id.
    pub request: String,
    /// The id of the trace that it belongs to, where the client named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The statements, with `?` for every value unless the resource asks for the values.
    pub statement: String,
    /// It has the values.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub values: bool,
}

type Line = (String, oneshot::Sender<()>);

/// Where records go.
#[derive(Debug)]
pub struct Audit {
    directory: PathBuf,
    lines: mpsc::Sender<Line>,
    refusals: Mutex<Refusals>,
}

/// Refusals of the present second.
#[derive(Debug)]
struct Refusals {
    since: Instant,
    recorded: u32,
    left_out: u64,
}

impl Refusals {
    /// True where one more is to be recorded.
    fn has_room(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            if self.left_out > 0 {
                warn!(
                    self.left_out,
                    "refusals that are not recorded: there were too many in a second"
                );
            }
            (self.since, self.recorded, self.left_out) = (now, 0, 0);
        }
        let room = self.recorded < REFUSALS;
        if room {
            self.recorded += 1;
        } else {
            self.left_out += 1;
        }
        room
    }
}

impl Audit {
    /// Starts to write in a directory, which is made where there is none.
    pub fn open(directory: PathBuf) -> Self {
        let (lines, incoming) = mpsc::channel(1024);
        tokio::spawn(write(directory.clone(), incoming));
        let refusals = Mutex::new(Refusals {
            since: clock::now(),
            recorded: 0,
            left_out: 0,
        });
        Self {
            directory,
            lines,
            refusals,
        }
    }

    /// Keeps a record.
    pub async fn keep(&self, record: &Record) {
        let Ok(mut line) = serde_json::to_string(record) else {
            return;
        };
        info!(target: "audit", record = line, "audit");
        line.push('\n');
        let (done, written) = oneshot::channel();
        if self.lines.try_send((line, done)).is_err()
            || !matches!(timeout(PATIENCE, written).await, Ok(Ok(())))
        {
            warn!(
                request = record.request,
                "an audit record is not in the file yet; it is in this log"
            );
        }
    }

    /// The newest records that are wanted, newest first. It reads the files from the newest on, as far as needed.
    pub async fn newest(&self, limit: usize, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        let mut found = Vec::new();
        for at in 0..=KEPT {
            let path = file(&self.directory, at);
            let Ok(text) = fs::read_to_string(path).await else {
                continue;
            };
            for line in text.lines().rev() {
                let Ok(record) = serde_json::from_str::<Record>(line) else {
                    continue;
                };
                if wanted(&record) {
                    found.push(record);
                    if found.len() == limit {
                        return found;
                    }
                }
            }
        }
        found
    }
}

/// What a request came to.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    status: u16,
    outcome: Outcome,
}

impl Came {
    /// To this response.
    pub fn to(response: &Response) -> Self {
        let problem = response.extensions().get::<Arc<Problem>>();
        Self {
            status: response.status().as_u16(),
            outcome: problem.map_or(Outcome::Applied, |problem| problem.outcome),
        }
    }
}

/// A request that was not let in.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Its id.
    pub id: &'a str,
    /// Who asked, where that was known.
    pub caller: Option<&'a Caller>,
    /// The address that it came from.
    pub from: String,
    /// How long it took to see that.
    pub took: Duration,
}

impl Engine {
    /// Whether what took so long is recorded for it.
    pub fn is_slow(&self, took: Duration) -> bool {
        self.recorded.slow.is_some_and(|slow| took >= slow)
    }

    /// Records what a request came to.
    pub async fn record(&self, call: &Call, operation: &str, came: &Came, took: Duration) {
        let note = call.note().clone();
        let term = self.view.borrow().term;
        let Came { status, outcome } = *came;
        self.audit
            .keep(&Record {
                time: clock::timestamp(),
                who: call.caller().id.clone(),
                role: call.caller().named.to_string(),
                from: call.from().to_owned(),
                node: self.node.clone(),
                term,
                operation: operation.to_owned(),
                object: note.object,
                rows: note.rows,
                outcome: name(outcome),
                status,
                milliseconds: clock::millis(took),
                slow: self.is_slow(took),
                request: call.id().to_owned(),
                trace: call.trace().map(str::to_owned),
                statement: note.statement,
                values: self.recorded.values,
            })
            .await;
    }

    /// Records a request that was not let in, unless there are too many.
    pub async fn record_refusal(&self, refused: Refused<'_>, operation: &str, problem: &Problem) {
        let refusals = &self.audit.refusals;
        if !refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .has_room(clock::now())
        {
            return;
        }
        let term = self.view.borrow().term;
        let Refused {
            id,
            caller,
            from,
            took,
        } = refused;
        self.audit
            .keep(&Record {
                time: clock::timestamp(),
                who: caller.map(|caller| caller.id.clone()).unwrap_or_default(),
                role: caller.map(|caller| caller.named.to_string()).unwrap_or_default(),
                from,
                node: self.node.clone(),
                term,
                operation: operation.to_owned(),
                object: String::new(),
                rows: None,
                outcome: name(problem.outcome),
                status: problem.kind().status().as_u16(),
                milliseconds: clock::millis(took),
                slow: false,
                request: id.to_owned(),
                trace: None,
                statement: String::new(),
                values: false,
            })
            .await;
    }
}

fn name(outcome: Outcome) -> String {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::NotApplied => "not-applied",
        Outcome::Unknown => "unknown",
    }
    .to_owned()
}

fn file(directory: &std::path::Path, at: usize) -> PathBuf {
    match at {
        0 => directory.join(NAME),
        at => directory.join(format!("{NAME}.{at}")),
    }
}

async fn write(directory: PathBuf, mut lines: mpsc::Receiver<Line>) {
    let mut open: Option<(File, u64)> = None;
    while let Some((line, done)) = lines.recv().await {
        match append(&directory, &mut open, line.as_bytes()).await {
            Ok(()) => {
                // Whoever asked may have given up waiting.
                let _ = done.send(());
            }
            Err(error) => {
                warn!(%error, "the audit file cannot be written");
                open = None;
            }
        }
    }
}

async fn append(directory: &PathBuf, open: &mut Option<(File, u64)>, line: &[u8]) -> std::io::Result<()> {
    let (mut file, size) = if let Some(file) = open.take() {
        file
    } else {
        fs::create_dir_all(directory).await?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(self::file(directory, 0))
            .await?;
        let size = file.metadata().await?.len();
        (file, size)
    };
    file.write_all(line).await?;
    file.flush().await?;
    let size = size + line.len() as u64;
    if size < SIZE {
        *open = Some((file, size));
        return Ok(());
    }
    for at in (0..KEPT).rev() {
        // The oldest are not there yet.
        let _ = fs::rename(self::file(directory, at), self::file(directory, at + 1)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_recorded_in_part() {
        let begun = clock::now();
        let mut refusals = Refusals {
            since: begun,
            recorded: 0,
            left_out: 0,
        };
        let recorded = (0..1000).filter(|_| refusals.has_room(begun)).count();
        assert_eq!((recorded, refusals.left_out), (REFUSALS as usize, 990));
        assert!(refusals.has_room(begun + Duration::from_secs(1)));
        assert_eq!(refusals.left_out, 0);
    }
}
