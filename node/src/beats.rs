//! Heartbeat rows that somebody waits for: proof that this node, which leads, still has the slaves that must
//! acknowledge.
//!
//! One is written at a time, whoever asks; those who ask while one is under way share the next.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use failover::Term;
use tokio::sync::Mutex;

use crate::{
    clock,
    mysql::{Error, Lane},
};

/// A row that is not acknowledged by then waits in vain for now, and keeps a thread of the server meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long none is tried after such a row, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why there was no heartbeat.
#[derive(Debug, thiserror::Error)]
pub enum BeatError {
    /// The last row was not acknowledged, and it is too early for another one.
    #[error("the last heartbeat row was not acknowledged by enough slaves; it is tried again in a while")]
    Resting,
    /// The server did not take the row.
    #[error(transparent)]
    Mysql(#[from] Error),
}

/// The writer of heartbeat rows.
#[derive(Debug)]
pub struct Beats(Mutex<Writer>);

#[derive(Debug)]
struct Writer {
    lane: Lane,
    /// When the newest acknowledged row was begun.
    begun: Option<Instant>,
    /// Until when none is tried, and for how long after the next that fails.
    rests: Option<Instant>,
    pause: Duration,
}

impl Beats {
    /// Writes nothing yet.
    pub fn new(socket: &Path) -> Self {
        Self(Mutex::new(Writer {
            lane: Lane::root(socket),
            begun: None,
            rests: None,
            pause: PAUSE,
        }))
    }

    /// Returns once a row was acknowledged that was begun after the call.
    pub async fn beat(&self, term: Term) -> Result<(), BeatError> {
        let asked = clock::now();
        let mut writer = self.0.lock().await;
        if writer.begun.is_some_and(|begun| begun >= asked) {
            return Ok(());
        }
        let begun = clock::now();
        if writer.rests.is_some_and(|until| begun < until) {
            return Err(BeatError::Resting);
        }
        // A row that waited in vain keeps its lock, so that the next one is another.
        let row = u8::try_from(clock::unix_seconds() % 256).unwrap_or_default();
        let was_open = writer.lane.connection().is_some();
        let mut written = writer.lane.beat(row, term, PATIENCE).await;
        if was_open && matches!(written, Err(Error::Broken { .. })) {
            // The connection led to an earlier life of the server, which says nothing of this one.
            written = writer.lane.beat(row, term, PATIENCE).await;
        }
        match written {
            Ok(()) => {
                (writer.begun, writer.rests, writer.pause) = (Some(begun), None, PAUSE);
                Ok(())
            }
            Err(error) => {
                writer.rests = Some(clock::now() + writer.pause);
                writer.pause = (writer.pause * 2).min(LONGEST_PAUSE);
                Err(error.into())
            }
        }
    }
}
