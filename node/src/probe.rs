//! Watches mysqld: asks it ten times a second, at once after an event or when a command wants to know,
//! and puts the answer on the board. It must never change anything in the server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tracing::debug;

use crate::{
    board::{Board, Life, Seen},
    clock,
    mysql::{Error, Mysql, status::Status},
};

/// The pause between two questions to a server that answers.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause between two attempts at a server that does not yet answer.
const RETRY: Duration = Duration::from_millis(15);
/// Silence of this length is reported.
const HUNG_AFTER: Duration = Duration::from_millis(300);
/// After so long the question is put anew on another connection.
const GIVE_UP: Duration = Duration::from_secs(2);

/// Asks the probe to look now.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<oneshot::Sender<()>>);

impl Asker {
    /// A handle and the other end for [`run`].
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<()>>) {
        let (sender, receiver) = mpsc::channel(64);
        (Self(sender), receiver)
    }

    /// Returns when an answer to a question put after this call is on the board, the server is down, or the
    /// deadline passed.
    pub async fn refresh(&self, deadline: Duration) {
        let (done, wait) = oneshot::channel();
        let asking = async {
            if self.0.send(done).await.is_ok() {
                let _ = wait.await;
            }
        };
        let _ = timeout(deadline, asking).await;
    }
}

/// Probes for ever.
pub async fn run(
    board: Arc<Board>,
    mysql: Arc<Mysql>,
    mut life: watch::Receiver<Option<Life>>,
    mut asks: mpsc::Receiver<oneshot::Sender<()>>,
) {
    loop {
        let current = *life.borrow_and_update();
        match current {
            None => {
                mysql.probe().await.forget();
                tokio::select! {
                    changed = life.changed() => if changed.is_err() { return },
                    Some(ask) = asks.recv() => { let _ = ask.send(()); }
                }
            }
            Some(this) => {
                if watch_life(&board, &mysql, this, &mut life, &mut asks)
                    .await
                    .is_none()
                {
                    return;
                }
            }
        }
    }
}

/// Probes one life of mysqld until another begins; `None` when the agent ends.
async fn watch_life(
    board: &Board,
    mysql: &Mysql,
    this: Life,
    life: &mut watch::Receiver<Option<Life>>,
    asks: &mut mpsc::Receiver<oneshot::Sender<()>>,
) -> Option<()> {
    // A server that was found running is given the time of an answer; one that boots, as long as it needs.
    let mut last_answer: Option<Instant> = (!board.knows_the_server()).then(clock::now);
    let mut answered = false;
    let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
    mysql.probe().await.forget();
    loop {
        let answer = tokio::select! {
            answer = ask(board, mysql, this, last_answer) => answer,
            changed = life.changed() => {
                changed.ok()?;
                return Some(());
            }
        };
        let pause = match answer {
            Ok(status) => {
                if !answered {
                    mysql.connect_all().await;
                }
                answered = true;
                last_answer = Some(clock::now());
                board.seen(this, Seen::Up(Box::new(status)));
                PAUSE
            }
            Err(error) => {
                debug!(%error, "no answer from mysqld");
                RETRY
            }
        };
        for ask in waiting.drain(..) {
            // A command that went away does not need to know.
            let _ = ask.send(());
        }
        tokio::select! {
            () = sleep(pause) => {}
            Some(ask) = asks.recv() => waiting.push(ask),
            changed = life.changed() => {
                changed.ok()?;
                return Some(());
            }
        }
        while let Ok(ask) = asks.try_recv() {
            waiting.push(ask);
        }
    }
}

/// Puts one question; while the answer is overdue the board says so.
async fn ask(
    board: &Board,
    mysql: &Mysql,
    this: Life,
    last_answer: Option<Instant>,
) -> Result<Status, Error> {
    let question = async {
        let mut lane = mysql.probe().await;
        lane.status(GIVE_UP).await
    };
    tokio::pin!(question);
    loop {
        tokio::select! {
            answer = &mut question => return answer,
            () = sleep(Duration::from_millis(50)) => {
                if let Some(last) = last_answer
                    && clock::now().saturating_duration_since(last) >= HUNG_AFTER
                {
                    board.seen(this, Seen::Hung { silent_ms: clock::millis_since(last) });
                }
            }
        }
    }
}
