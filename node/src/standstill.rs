//! Does the applier stand still? MySQL's coordinator was seen to wait for ever for workers that were idle, without an
//! error: STOP REPLICA and KILL did not end that, and the slave went on acknowledging what it did not execute. Such a
//! server is killed. It boots fenced with everything that it received, and the operator has it follow again. The one cause
//! that is known lies in the relay logs, and the supervisor takes it off them before that boot ([`supervisor::relay`]).
//!
//! It must not take a long transaction for a standstill, nor one that waits for a lock: then a worker is busy, or the
//! coordinator says what it waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use failover::GtidSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::{
    agent::Agent,
    clock,
    mysql::{
        replica::Coordinator,
        status::{Service, Status},
    },
};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Nothing was executed and nothing handed to a worker for so long, though there is something to execute.
const STANDS: Duration = Duration::from_secs(10);
/// How long a server is left alone after it was killed, at first and at most, so that one that stands still again at
/// once is not killed every ten seconds.
const REST: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_mins(10);

/// What was seen of an applier that has something to execute.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    executed: GtidSet,
    coordinator: Coordinator,
}

/// Watches for ever.
pub async fn run(agent: Arc<Agent>) {
    let mut watched: Option<(Sight, Instant)> = None;
    let mut rest = REST;
    loop {
        sleep(PAUSE).await;
        let Some(sight) = look(&agent).await else {
            watched = None;
            continue;
        };
        let since = match watched.take() {
            Some((before, since)) if before == sight => since,
            _ => clock::now(),
        };
        if clock::now().saturating_duration_since(since) < STANDS {
            watched = Some((sight, since));
            continue;
        }
        warn!(
            ?sight,
            "the applier has something to execute and stands still: mysqld is killed and boots fenced"
        );
        agent.board.stood_still();
        if let Err(error) = agent.supervision.kill().await {
            warn!(%error, "mysqld was not killed");
        }
        sleep(rest).await;
        rest = (rest * 2).min(LONGEST_REST);
    }
}

/// `None` where the applier has nothing to execute, does not run, works or says what it waits for.
async fn look(agent: &Agent) -> Option<Sight> {
    let status = agent.board.status().filter(|status| is_behind(status))?;
    match agent.mysql.side().await.coordinator().await {
        Ok(coordinator) => {
            let coordinator = coordinator.filter(Coordinator::seems_idle)?;
            Some(Sight {
                executed: status.executed,
                coordinator,
            })
        }
        Err(error) => {
            debug!(%error, "the applier's coordinator cannot be looked at");
            None
        }
    }
}

fn is_behind(status: &Status) -> bool {
    status
        .channel
        .as_ref()
        .is_some_and(|channel| channel.applier == Service::On && !status.executed.contains(&channel.received))
}
