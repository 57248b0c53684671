//! Fence: the node acknowledges nothing any more, to anybody.
//!
//! A slave stops acknowledging first and receiving second. A master that may hold waiting commits is never asked to
//! finish them by switching semi-sync off, which would acknowledge them all: it is found clean, or killed. Every
//! server boots fenced, so a kill is a fence; a master that is killed is not started before it is known what to keep. The fence is stored only after the server was seen fenced, or while
//! there is no server.

use std::time::{Duration, Instant};

use api::wire::Refusal;
use supervisor::sabotage;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Job, LOOK, OrRefuse, failed, precondition, receiver};
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
    let led = job.agent.store.get().await.promoted;
    if led.is_some_and(|promoted| promoted.term == job.term) {
        return Err(precondition(format!(
            "the node was told to lead in term {}, which only a newer term ends",
            job.term
        )));
    }
    ours(job)?;
    if job.beside_clone {
        // Where it ends with a boot, that is fenced; where it is refused before, nothing starts the receiver again but
        // another command. Until it stopped its receiver itself, that may still acknowledge.
        stop_receiving_beside_clone(job).await?;
        return store(job).await;
    }
    if !job.agent.board.knows_the_server() {
        return Err(precondition(
            "the agent has just begun and has not seen its server yet",
        ));
    }
    // What the board shows may be a moment old: every way from here looks again before the fence is stored.
    let Some(life) = job.agent.board.life() else {
        store(job).await?;
        await_boot_or_hold(job).await?;
        return Ok(());
    };
    if job.agent.board.status().is_none() && job.agent.board.is_starting() {
        store(job).await?;
        await_boot_or_hold(job).await?;
        return Ok(());
    }
    let clean = match job.agent.board.status() {
        None => Err(precondition("mysqld is hung")),
        Some(status) if !status.super_read_only => master(job, orderly, deadline).await,
        // The variable reads ON while the statement that sets it still waits for a commit, so of a fence that was
        // broken off nothing is known.
        Some(status) if status.source_on && !was_fenced(job, &status).await => {
            Err(precondition("an earlier fence was broken off"))
        }
        Some(status) => slave(job, &status).await,
    };
    if let Err(reason) = &clean {
        job.check()?;
        warn!(?reason, "no clean fence: mysqld is killed and boots fenced");
        job.agent.supervision.kill().await.or_refuse()?;
        await_end(job, life).await?;
        await_boot_or_hold(job).await?;
    }
    store(job).await
}

/// The clone holds the command's lane, so this takes the other.
async fn stop_receiving_beside_clone(job: &Job) -> Result<(), Refusal> {
    let Some(status) = job.agent.look(LOOK).await else {
        return if job.agent.board.life().is_none() || job.agent.board.is_starting() {
            Ok(())
        } else {
            Err(precondition("mysqld does not answer beside its clone"))
        };
    };
    // CLONE itself needs super_read_only off, so only replication tells.
    let receives = |status: &Status| {
        status.replica_on
            || status
                .channel
                .as_ref()
                .is_some_and(|channel| channel.receiver != Service::Off)
    };
    if !receives(&status) {
        return Ok(());
    }
    let mut lane = job.agent.mysql.side().await;
    lane.set_replica_enabled(false).await.or_refuse()?;
    if status.channel.is_some() {
        lane.stop_receiver().await.or_refuse()?;
    }
    drop(lane);
    match job.agent.look(LOOK).await {
        Some(status) if receives(&status) => Err(precondition("the receiver does not stop")),
        _ => Ok(()),
    }
}

/// Nothing may be said of a server that this pod does not command.
pub fn ours(job: &Job) -> Result<(), Refusal> {
    if job.agent.board.commands_the_server() {
        return Ok(());
    }
    Err(precondition(
        "another mysqld has the volume, of a pod that is ending",
    ))
}

/// Semi-sync replica off before the receiver stops: one that just reconnects can no longer acknowledge.
async fn slave(job: &Job, status: &Status) -> Result<(), Refusal> {
    let mysql = &job.agent.mysql;
    mysql
        .command()
        .await
        .set_replica_enabled(false)
        .await
        .or_refuse()?;
    receiver::silence(job).await?;
    if !status.offline && job.agent.store.get().await.led {
        // Clients were led here while it became master. They would take a slave for the master, and stay.
        mysql.side().await.offline_on().await.or_refuse()?;
    }
    // The look that saw it silent saw the rest too.
    match job.agent.board.status() {
        Some(status) if acknowledges_nothing(&status) => Ok(()),
        _ => Err(precondition(
            "the server is not closed to writes and acknowledgements",
        )),
    }
}

async fn master(job: &Job, orderly: bool, deadline: Duration) -> Result<(), Refusal> {
    job.agent.supervision.allow_term(false).await.or_refuse()?;
    let mysql = &job.agent.mysql;
    if sabotage::fence_by_sigterm() {
        return Err(precondition("this build ends every master"));
    }
    if sabotage::source_off_first() {
        mysql.command().await.source_off().await.or_refuse()?;
    }
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
    // The report that shows the fence also shows the last writes: the slaves are measured by them.
    let (last, waiting) = tokio::join!(job.agent.look(LOOK), still_inside(job));
    match waiting? {
        0 if last.is_some_and(|status| status.super_read_only) => {}
        0 => {
            return Err(precondition(
                "mysqld does not answer after it was closed to writes",
            ));
        }
        waiting => {
            return Err(precondition(format!(
                "{waiting} commits wait for an acknowledgement"
            )));
        }
    }
    info!(
        finished,
        read_only_ms,
        calm_ms = clock::millis_since(begun),
        "closed to writes"
    );
    // Nothing waits inside, so neither an orderly nor a hard end can commit what nobody acknowledged.
    let (term, hold) = tokio::join!(
        job.agent.supervision.allow_term(true),
        job.agent.supervision.hold_after_end(false)
    );
    if let Err(error) = hold {
        warn!(%error, "after a crash this server is kept down for a moment");
    }
    term.or_refuse()
}

async fn still_inside(job: &Job) -> Result<u32, Refusal> {
    let mut side = job.agent.mysql.side().await;
    Ok(side.waiting_sessions(LOOK).await.or_refuse()? + side.committing().await.or_refuse()?)
}

/// Makes sure that no commit of a client waits for an acknowledgement and none can begin.
pub async fn nothing_waits(job: &Job, status: &Status) -> Result<(), Refusal> {
    if needs_fence(job, status).await {
        return Err(precondition(
            "the server accepts writes or waits for acknowledgements; fence it first",
        ));
    }
    if !status.source_on {
        return Ok(());
    }
    // Whoever was let in before the fence is out, so what else waits is the applier, which has no client to tell.
    match job.agent.mysql.side().await.committing().await.or_refuse()? {
        0 => Ok(()),
        waiting => Err(precondition(format!(
            "{waiting} commits wait for an acknowledgement; fence it first"
        ))),
    }
}

/// True for a server that accepts writes, or of whose waiting commits nothing is known.
pub async fn needs_fence(job: &Job, status: &Status) -> bool {
    !status.super_read_only || (status.source_on && !was_fenced(job, status).await)
}

/// True when this life of the server was seen fenced: it still is, or it was until it was told to follow.
async fn was_fenced(job: &Job, status: &Status) -> bool {
    let memory = job.agent.store.get().await;
    let followed = memory
        .followed
        .is_some_and(|followed| followed.start == status.start && memory.promoted.is_none());
    memory.fenced.is_some() || followed
}

/// Switches semi-sync off on a former master, whose applier would wait for slaves of its own. It can take a second,
/// so neither the fence nor the receiver waits for it.
pub async fn retire_source(job: &Job, status: &Status) -> Result<(), Refusal> {
    nothing_waits(job, status).await?;
    if !status.source_on {
        return Ok(());
    }
    job.check()?;
    // Nothing waits and nothing can begin, so this acknowledges nobody's lost write.
    job.agent.mysql.command().await.source_off().await.or_refuse()
}

async fn await_no_commits(job: &Job, until: Instant) -> Result<(), Refusal> {
    loop {
        job.check()?;
        match still_inside(job).await? {
            0 => return Ok(()),
            waiting if clock::left(until).is_zero() => {
                return Err(precondition(format!(
                    "{waiting} commits wait for an acknowledgement"
                )));
            }
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

fn acknowledges_nothing(status: &Status) -> bool {
    status.super_read_only && !status.replica_on
}

fn receives_nothing(status: &Status) -> bool {
    acknowledges_nothing(status)
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

/// Like [`await_boot`], or until the server is kept down: what it starts with, and when, depends on the new master.
async fn await_boot_or_hold(job: &Job) -> Result<(), Refusal> {
    let held = async {
        while job.agent.board.held_ms().is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        booted = await_boot(job) => booted,
        () = held => Ok(()),
    }
}

/// Waits until the server answers and sees that it is fenced, as its configuration says it boots.
pub async fn await_boot(job: &Job) -> Result<(), Refusal> {
    let give_up = clock::now() + BOOT;
    loop {
        job.check()?;
        if job.agent.board.report().damaged.is_some() {
            return Err(precondition("mysqld cannot run on its data"));
        }
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
    ours(job)?;
    let term = job.term;
    let change = |memory: &mut crate::store::Memory| {
        memory.term = memory.term.max(term);
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
