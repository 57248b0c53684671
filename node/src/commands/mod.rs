//! What a node can be told to do, one file a command. Each is idempotent, checks between any two statements
//! whether it was overtaken, and must leave the server fenced rather than half-open when it fails.

pub mod clone;
pub mod cut;
pub mod discard;
pub mod drain;
pub mod fence;
pub mod follow;
pub mod promote;
pub mod receiver;
pub mod settle;

use std::{error::Error as StdError, sync::Arc, time::Duration};

use api::wire::{Command, Refusal};
use failover::Term;
use tokio_util::sync::CancellationToken;

use crate::{agent::Agent, mysql::status::Status};

/// The deadline for looking at a server that should answer at once.
const LOOK: Duration = Duration::from_millis(300);

/// One command under way.
#[derive(Debug)]
pub struct Job {
    /// The parts to work with.
    pub agent: Arc<Agent>,
    /// The term that asks, already stored.
    pub term: Term,
    cancel: CancellationToken,
    beside_clone: bool,
}

impl Job {
    /// A command of `term`.
    pub fn new(agent: Arc<Agent>, term: Term, cancel: CancellationToken, beside_clone: bool) -> Self {
        Self {
            agent,
            term,
            cancel,
            beside_clone,
        }
    }

    /// Ends the command here if it was overtaken.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.cancel.is_cancelled() {
            Err(Refusal::Superseded)
        } else {
            Ok(())
        }
    }

    /// Returns when the command is overtaken.
    pub async fn overtaken(&self) {
        self.cancel.cancelled().await;
    }

    /// The server's state as of now; it must be up.
    pub async fn status(&self) -> Result<Box<Status>, Refusal> {
        self.check()?;
        let status = self.agent.look(LOOK).await;
        self.check()?;
        status.ok_or_else(|| precondition("mysqld does not answer now"))
    }
}

/// The command's name in logs.
pub fn name(command: &Command) -> &'static str {
    match command {
        Command::Fence { .. } => "fence",
        Command::Drain { .. } => "drain",
        Command::Promote { .. } => "promote",
        Command::Follow { .. } => "follow",
        Command::Cut { .. } => "cut",
        Command::Clone { .. } => "clone",
        Command::Discard => "discard",
        Command::Leave => "leave",
    }
}

/// Carries out `command`; the board shows the effect when this returns.
pub async fn carry_out(job: &Job, command: Command) -> Result<(), Refusal> {
    if job.beside_clone && !matches!(command, Command::Fence { .. }) {
        return Err(precondition("a clone into this node is under way"));
    }
    let result = match command {
        Command::Fence { orderly, deadline_ms } => {
            fence::fence(job, orderly, Duration::from_millis(deadline_ms)).await
        }
        Command::Drain { deadline_ms } => drain::drain(job, Duration::from_millis(deadline_ms)).await,
        Command::Promote { acks, requires } => promote::promote(job, acks, &requires).await,
        Command::Follow {
            source,
            address,
            until,
            whole,
        } => follow::follow(job, source, address, until, whole).await,
        Command::Cut { keep } => cut::cut(job, keep).await,
        Command::Clone {
            donor,
            address,
            extra,
        } => clone::clone(job, &donor, &address, &extra).await,
        Command::Discard => discard::discard(job).await,
        Command::Leave => {
            job.agent.board.release();
            Ok(())
        }
    };
    job.agent.probe.refresh(LOOK).await;
    result
}

/// A precondition of the command does not hold.
pub fn precondition(message: impl Into<String>) -> Refusal {
    Refusal::Precondition {
        message: message.into(),
    }
}

/// MySQL, the disk or the supervisor refused.
pub fn failed(error: &(dyn StdError + 'static)) -> Refusal {
    Refusal::Failed {
        message: sentence(error),
    }
}

/// An error with all its causes.
pub fn sentence(error: &(dyn StdError + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

/// Turns this crate's errors into a refusal.
pub trait OrRefuse<T> {
    /// The value, or the error as a sentence for the operator.
    fn or_refuse(self) -> Result<T, Refusal>;
}

impl<T, E: StdError + 'static> OrRefuse<T> for Result<T, E> {
    fn or_refuse(self) -> Result<T, Refusal> {
        self.map_err(|error| failed(&error))
    }
}
