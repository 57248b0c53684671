//! Fence: the node acknowledges nothing any more, to anybody.
//!
//! A slave stops acknowledging first and receiving second. A master that may hold waiting commits is never asked to
//! finish them by switching semi-sync off, which would acknowledge them all: it is found clean, or killed. Every
//! server boots fenced, so a kill is a fence. The fence is stored only after the server was seen fenced, or while
//! there is no server.

use std::time::{Duration, Instant};

use api::wire::Refusal;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Job, LOOK, OrRefuse, failed, precondition};
use crate::{
    clock,
    mysql::status::{Service, Status},
};

/// How long waiting commits of a doubtful master may take to finish.
pub const DOUBTFUL: Duration = Duration::from_millis(50);
/// How long a killed server may take to be up again, crash recovery included.
const BOOT: Duration = Duration::from_mins(2);

/// Fences the server, whatever it does now.
pub async fn fence(job: &Job, orderly: bool, deadline: Duration) -> Result<(), Refusal> {
    if job.beside_clone {
        // A clone is offline and receives nothing, and its end is a boot, which is fenced.
        return store(job).await;
    }
    job.agent.probe.refresh(LOOK).await;
    let Some(life) = job.agent.board.life() else {
        store(job).await?;
        await_boot(job).await?;
        return Ok(());
    };
    if job.agent.board.status().is_none() && starting(job) {
        store(job).await?;
        await_boot(job).await?;
        return Ok(());
    }
    let already = job.agent.store.get().await.fenced.is_some();
    let clean = match job.agent.board.status() {
        None => Err(precondition("mysqld is hung")),
        Some(status) if !status.super_read_only => master(job, orderly, deadline).await,
        // The variable reads ON while the statement that sets it still waits for a commit, so of a fence that was
        // broken off nothing is known.
        Some(status) if status.source_on && !already => Err(precondition("an earlier fence was broken off")),
        Some(_) => slave(job).await,
    };
    if let Err(reason) = &clean {
        job.check()?;
        warn!(?reason, "no clean fence: mysqld is killed and boots fenced");
        job.agent.supervision.kill().await.or_refuse()?;
        await_end(job, life).await?;
        await_boot(job).await?;
    }
    store(job).await
}

fn starting(job: &Job) -> bool {
    matches!(job.agent.board.report().server, failover::Server::Starting)
}

/// Semi-sync replica off before the receiver stops: one that just reconnects can no longer acknowledge.
async fn slave(job: &Job) -> Result<(), Refusal> {
    let mysql = &job.agent.mysql;
    let mut lane = mysql.command().await;
    lane.set_replica_enabled(false).await.or_refuse()?;
    if let Err(error) = lane.stop_receiver().await {
        info!(%error, "the receiver does not stop by itself");
        let mut side = mysql.side().await;
        for thread in side.receiver_threads().await.or_refuse()? {
            side.kill(thread).await.or_refuse()?;
        }
    }
    drop(lane);
    let give_up = clock::now() + LOOK;
    loop {
        job.check()?;
        match job.agent.look(LOOK).await {
            Some(status) if receives_nothing(&status) => return Ok(()),
            _ if clock::left(give_up).is_zero() => return Err(precondition("the receiver does not stop")),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn master(job: &Job, orderly: bool, deadline: Duration) -> Result<(), Refusal> {
    job.agent.supervision.allow_term(false).await.or_refuse()?;
    let mysql = &job.agent.mysql;
    let end = clock::now() + deadline;
    // Read-only first lets commits under way be acknowledged and answers later writes with an ordinary error; only
    // a healthy master may be given the time.
    let begun = clock::now();
    let finished = orderly && mysql.command().await.read_only_on(clock::left(end)).await.is_ok();
    let read_only_ms = clock::millis_since(begun);
    job.check()?;
    mysql.side().await.offline_on().await.or_refuse()?;
    if !finished {
        let patience = if orderly {
            clock::left(end).max(DOUBTFUL)
        } else {
            DOUBTFUL
        };
        await_no_commits(job, clock::now() + patience).await?;
        mysql.command().await.read_only_on(LOOK).await.or_refuse()?;
    }
    job.check()?;
    let mut side = mysql.side().await;
    let waiting = side.waiting_sessions(LOOK).await.or_refuse()?;
    if waiting > 0 || side.committing().await.or_refuse()? > 0 {
        return Err(precondition(format!(
            "{waiting} commits wait for an acknowledgement"
        )));
    }
    drop(side);
    info!(
        finished,
        read_only_ms,
        calm_ms = clock::millis_since(begun),
        "closed to writes"
    );
    job.agent.supervision.allow_term(true).await.or_refuse()
}

/// Switches semi-sync off on a fenced master, which its new role as slave needs. It can take a second, so the fence
/// does not wait for it.
pub async fn retire_source(job: &Job, status: &Status) -> Result<(), Refusal> {
    if !status.super_read_only || (status.source_on && job.agent.store.get().await.fenced.is_none()) {
        return Err(precondition(
            "the server accepts writes or waits for acknowledgements; fence it first",
        ));
    }
    if !status.source_on {
        return Ok(());
    }
    let mut lane = job.agent.mysql.command().await;
    let waiting = lane.waiting_sessions(LOOK).await.or_refuse()? + lane.committing().await.or_refuse()?;
    if waiting > 0 {
        return Err(precondition(format!(
            "{waiting} commits wait for an acknowledgement; fence it first"
        )));
    }
    job.check()?;
    // Nothing waits and nothing can begin, so this acknowledges nobody's lost write.
    lane.source_off().await.or_refuse()
}

async fn await_no_commits(job: &Job, until: Instant) -> Result<(), Refusal> {
    loop {
        job.check()?;
        let mut side = job.agent.mysql.side().await;
        let waiting = side.waiting_sessions(LOOK).await.or_refuse()? + side.committing().await.or_refuse()?;
        drop(side);
        match waiting {
            0 => return Ok(()),
            _ if clock::left(until).is_zero() => {
                return Err(precondition(format!(
                    "{waiting} commits wait for an acknowledgement"
                )));
            }
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

fn receives_nothing(status: &Status) -> bool {
    status.super_read_only
        && !status.replica_on
        && status
            .channel
            .as_ref()
            .is_none_or(|channel| channel.receiver == Service::Off)
}

async fn await_end(job: &Job, life: crate::board::Life) -> Result<(), Refusal> {
    let give_up = clock::now() + Duration::from_secs(10);
    while job.agent.board.life() == Some(life) {
        if clock::left(give_up).is_zero() {
            return Err(precondition(
                "mysqld was killed but hangs in the kernel, most likely on its disk",
            ));
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Waits until the server answers and sees that it is fenced, as its configuration says it boots.
async fn await_boot(job: &Job) -> Result<(), Refusal> {
    let give_up = clock::now() + BOOT;
    loop {
        job.check()?;
        match job.agent.look(LOOK).await {
            Some(status) if receives_nothing(&status) && !status.source_on => return Ok(()),
            Some(status) => {
                return Err(precondition(format!(
                    "mysqld did not boot fenced (super_read_only {}, source {}, replica {})",
                    status.super_read_only, status.source_on, status.replica_on
                )));
            }
            None if clock::left(give_up).is_zero() => return Err(precondition("mysqld does not come up")),
            None => sleep(Duration::from_millis(15)).await,
        }
    }
}

async fn store(job: &Job) -> Result<(), Refusal> {
    job.check()?;
    let term = job.term;
    let change = |memory: &mut crate::store::Memory| {
        memory.fenced = Some(term);
        memory.promoted = None;
    };
    job.agent
        .store
        .change(change)
        .await
        .map(|_| ())
        .map_err(|error| failed(&error))
}
