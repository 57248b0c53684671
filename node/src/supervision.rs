//! The link to the supervisor of the MySQL container: process events in, signals that mysqld is to get out.
//!
//! It puts each event on the board at once and wakes the probe. It must not judge them.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use supervisor::{Reply, Request, State, claim};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{UnixStream, unix::OwnedReadHalf},
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::board::{Board, Life};

/// Why the supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SupervisionError {
    /// The socket failed.
    #[error("the supervisor of the MySQL container cannot be reached")]
    Unreachable(#[from] std::io::Error),
    /// There was no answer in time.
    #[error("the supervisor of the MySQL container does not answer")]
    Silent,
    /// It refused.
    #[error("the supervisor of the MySQL container refused: {0}")]
    Refused(String),
}

/// The way to the supervisor.
#[derive(Debug, Clone)]
pub struct Supervision {
    socket: PathBuf,
    datadir: PathBuf,
}

impl Supervision {
    /// The supervisor behind `socket`, which runs mysqld on `datadir`.
    pub fn new(socket: PathBuf, datadir: PathBuf) -> Self {
        Self { socket, datadir }
    }

    /// Kills mysqld; it boots fenced at once.
    pub async fn kill(&self) -> Result<(), SupervisionError> {
        self.ask(&Request::Kill).await
    }

    /// Says whether mysqld may be ended by SIGTERM. False before it leads.
    pub async fn allow_term(&self, allowed: bool) -> Result<(), SupervisionError> {
        self.ask(&Request::AllowTerm { allowed }).await
    }

    /// Says whether mysqld stays down after its next unclean end. True, durably, before it leads.
    pub async fn hold_after_end(&self, hold: bool) -> Result<(), SupervisionError> {
        self.ask(&Request::HoldAfterEnd { hold }).await
    }

    /// Starts mysqld after it was kept down.
    pub async fn start(&self) -> Result<(), SupervisionError> {
        self.ask(&Request::Start).await
    }

    /// Ends mysqld, throws its data away and starts it on a new data directory.
    pub async fn discard(&self) -> Result<(), SupervisionError> {
        self.ask(&Request::Discard).await
    }

    async fn ask(&self, request: &Request) -> Result<(), SupervisionError> {
        let exchange = async {
            let mut lines = self.send(request).await?;
            let line = lines.next_line().await?.ok_or(SupervisionError::Silent)?;
            match serde_json::from_str(&line) {
                Ok(Reply::Done) => Ok(()),
                Ok(Reply::Refused { message }) => Err(SupervisionError::Refused(message)),
                _ => Err(SupervisionError::Refused(line)),
            }
        };
        timeout(Duration::from_secs(1), exchange)
            .await
            .unwrap_or(Err(SupervisionError::Silent))
    }

    async fn send(&self, request: &Request) -> Result<Lines<BufReader<OwnedReadHalf>>, SupervisionError> {
        let (read, mut write) = UnixStream::connect(&self.socket).await?.into_split();
        let mut line = serde_json::to_vec(request).map_err(std::io::Error::other)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        // The supervisor reads until its peer closes; the write half must stay open with the read half.
        write.forget();
        Ok(BufReader::new(read).lines())
    }

    /// Follows the supervisor's events for ever; `life` carries the process that runs now.
    pub async fn follow(self, board: Arc<Board>, life: watch::Sender<Option<Life>>) {
        // What ran before this agent was there, it did not see begin.
        let mut begun = false;
        let mut look = None;
        loop {
            match self.send(&Request::Watch).await {
                Ok(lines) => {
                    // What was seen before says nothing of the time after.
                    look = None;
                    let error = self.stream(lines, &mut begun, &board, &life).await;
                    warn!(%error, "the supervisor's events broke off");
                    // Asked again at once: only a supervisor that is gone takes mysqld with it.
                    sleep(Duration::from_millis(5)).await;
                    continue;
                }
                Err(error) if is_gone(&error) => {
                    // Its end is told at once; whether anything else runs there takes a look at the volume.
                    if board.life().is_some() {
                        board.foreign();
                    }
                    life.send_replace(None);
                    match self.is_taken(&mut look).await {
                        Some(false) => board.down(
                            format!("The supervisor of the MySQL container does not run: {error}."),
                            false,
                        ),
                        // A volume that does not answer tells nothing.
                        Some(true) | None => board.foreign(),
                    }
                    begun = true;
                }
                // Nothing is known of mysqld, so nothing new is said.
                Err(error) => warn!(%error, "the supervisor cannot be asked"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stream(
        &self,
        mut lines: Lines<BufReader<OwnedReadHalf>>,
        begun: &mut bool,
        board: &Board,
        life: &watch::Sender<Option<Life>>,
    ) -> SupervisionError {
        loop {
            let text = match lines.next_line().await {
                Ok(Some(text)) => text,
                Ok(None) => return SupervisionError::Silent,
                Err(error) => return error.into(),
            };
            if let Ok(Reply::State { state }) = serde_json::from_str(&text) {
                self.happened(state, !*begun, board, life);
                *begun = true;
            }
        }
    }

    fn happened(&self, state: State, first: bool, board: &Board, life: &watch::Sender<Option<Life>>) {
        let mut held = false;
        let cause = match state {
            State::Running { pid, starts } => {
                info!(pid, starts, "mysqld runs");
                if first {
                    board.found((pid, starts));
                } else if board.life() != Some((pid, starts)) {
                    self.allow_term_of_a_fresh_server();
                    board.started((pid, starts));
                }
                life.send_replace(Some((pid, starts)));
                return;
            }
            State::Waiting { why } => {
                warn!(why, "mysqld is not ours yet");
                board.foreign();
                life.send_replace(None);
                return;
            }
            State::Preparing => "The data directory is being prepared.".to_owned(),
            State::Ending => "mysqld is dying.".to_owned(),
            State::Exited { how, gave_up } => {
                if gave_up {
                    board.gave_up(&how);
                }
                format!("mysqld {how}.")
            }
            State::Held { how } => {
                held = true;
                format!("{how}; it is kept down until it is known what the new master has.")
            }
            State::Failed { why } => why,
        };
        warn!(cause, held, "mysqld is down");
        board.down(cause, held);
        life.send_replace(None);
    }

    /// Whether a mysqld has the volume, this pod's or that of an earlier pod, which may still acknowledge. `None` where
    /// the volume does not answer in time; that look goes on, and no other is begun beside it.
    async fn is_taken(&self, look: &mut Option<JoinHandle<io::Result<bool>>>) -> Option<bool> {
        let claim = claim::of(&self.datadir);
        let looking = look.get_or_insert_with(|| spawn_blocking(move || claim::is_taken(&claim)));
        let ended = timeout(Duration::from_secs(1), looking).await.ok()?;
        *look = None;
        match ended {
            Ok(Ok(taken)) => Some(taken),
            Ok(Err(error)) => {
                warn!(%error, "it cannot be seen whether a mysqld has the volume");
                None
            }
            Err(_) => None,
        }
    }

    /// A server that just booted is fenced: nothing can wait in it, so a clean shutdown is safe until it is
    /// promoted. After a restart of the agent alone this is not known and nothing is said.
    fn allow_term_of_a_fresh_server(&self) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.allow_term(true).await {
                warn!(%error, "a clean shutdown could not be allowed");
            }
        });
    }
}

/// True where nobody listens: the supervisor does not run. As process 1 of its container it takes mysqld with it, though
/// not in the same moment.
fn is_gone(error: &SupervisionError) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error, SupervisionError::Unreachable(error) if matches!(error.kind(), ConnectionRefused | NotFound))
}
