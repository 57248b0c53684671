//! Clone: the node's data is thrown away and a donor's copied, then the server waits fenced.
//!
//! Nothing is given up that the donor lacks, whatever the operator believed of it: the donor itself is asked, first
//! before anything is stopped, and again when nothing can be added here any more. It may have lost its volume since.
//!
//! What is given up by name is kept as a file first; where that fails, nothing is given up.
//!
//! The data gets a new identity, durably, before the first byte is touched, so that nobody takes the half for the
//! whole or the new for the old.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api::{mycnf::COPY_MIB_PER_SECOND, wire::Refusal};
use failover::{GtidSet, NodeId};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Job, LOOK, OrRefuse, drain, fence, precondition, sentence};
use crate::{
    board::Life,
    clock, extra,
    kept::Shelf,
    mysql::{Error, Lane, clone::RESTART_BY_SUPERVISOR, status::Status},
    server_uuid,
    store::Memory,
};

/// The longest time that copying may take.
const COPY: Duration = Duration::from_hours(24);
/// A copy to which the donor adds nothing for so long is given up.
const STANDSTILL: Duration = Duration::from_secs(15);
/// How long the donor may take to execute what this node holds.
const BEHIND: Duration = Duration::from_secs(5);
/// The longest time that the cloned server may take to come up.
const BOOT: Duration = Duration::from_mins(10);

/// Copies `donor` over this node, of whose data `extra` alone is given up.
pub async fn clone(job: &Job, donor: &NodeId, address: &str, extra: &GtidSet) -> Result<(), Refusal> {
    let status = job.status().await?;
    fence::retire_source(job, &status).await?;
    let Some(life) = job.agent.board.life() else {
        return Err(precondition("mysqld is down"));
    };
    job.agent.board.cloning(Some(0));
    let donor_is_closed = match give_up_data(job, life, donor, address, extra).await {
        Ok(closed) => closed,
        Err(refusal) => {
            job.agent.board.clone_refused();
            return Err(refusal);
        }
    };
    let from = Source {
        donor,
        address,
        serves: !donor_is_closed,
    };
    let result = copy(job, status.channel.is_some(), life, &from).await;
    job.agent.board.cloning(None);
    result
}

/// What is copied.
struct Source<'a> {
    donor: &'a NodeId,
    address: &'a str,
    /// It has clients that a copy can starve.
    serves: bool,
}

/// Makes sure that the data is not needed, and gives it its new identity. True where the donor serves nobody.
async fn give_up_data(
    job: &Job,
    life: Life,
    donor: &NodeId,
    address: &str,
    extra: &GtidSet,
) -> Result<bool, Refusal> {
    let mut there = Lane::donor(&job.agent.endpoint(address), &job.agent.settings.tls_dir);
    let status = has_all(job, &mut there, donor, extra).await?;
    // It may take long or fail, so the node goes on acknowledging meanwhile. What it receives now the donor must have.
    keep(job, &status.holds().subtract(&status.holds().subtract(extra))).await?;
    job.agent.mysql.side().await.offline_on().await.or_refuse()?;
    if status.channel.is_some() {
        stop_replication(job).await?;
    }
    has_all(job, &mut there, donor, extra).await?;
    let closed = there.is_closed().await.or_refuse()?;
    there.close().await;
    if job.agent.board.life() != Some(life) {
        return Err(precondition("mysqld was started again meanwhile"));
    }
    // Copied or lost half-way, its log ends before what it had.
    let datadir = job.agent.settings.mysql_data_dir.clone();
    let forgetting = tokio::task::spawn_blocking(move || server_uuid::forget(&datadir));
    forgetting.await.or_refuse()?.or_refuse()?;
    // Whoever asks in a newer term counts on the data that is here, so it stays then.
    let renew = |memory: &mut Memory| {
        if memory.term <= job.term {
            memory.begin_new_life();
        }
    };
    let memory = job.agent.store.change(renew).await.or_refuse()?;
    if memory.term > job.term {
        return Err(Refusal::Superseded);
    }
    Ok(closed)
}

/// Refuses where the donor does not answer, or lacks what this node holds. A donor that is only behind is waited for.
async fn has_all(job: &Job, there: &mut Lane, donor: &NodeId, extra: &GtidSet) -> Result<Status, Refusal> {
    job.check()?;
    // What the board shows may be from before the receiver stood.
    let status = job.agent.mysql.command().await.status(LOOK).await.or_refuse()?;
    let needed = status.holds().subtract(extra);
    let answer = tokio::select! {
        answer = there.wait_executed(&needed, BEHIND) => answer,
        () = job.overtaken() => return Err(Refusal::Superseded),
    };
    match answer {
        Ok(true) => Ok(status),
        Ok(false) => Err(precondition(format!(
            "{donor} has not executed all that this node holds: {needed}"
        ))),
        Err(error) => Err(precondition(format!(
            "{donor} cannot be asked what it holds: {}",
            sentence(&error)
        ))),
    }
}

/// Keeps what is given up as a file. A full disk refuses the clone: the node's copy is not needed yet, for others hold
/// what the master has, but what only this node has would be gone for good.
async fn keep(job: &Job, given: &GtidSet) -> Result<(), Refusal> {
    if given.is_empty() {
        return Ok(());
    }
    let files = tokio::select! {
        files = Arc::clone(&job.agent.files).lock_owned() => files,
        () = job.overtaken() => return Err(Refusal::Superseded),
    };
    let shelf = Shelf::beside(&job.agent.settings.agent_dir);
    let (datadir, given) = (job.agent.settings.mysql_data_dir.clone(), given.clone());
    let (term, at) = (job.term, clock::unix_seconds());
    let keeping = tokio::task::spawn_blocking(move || {
        let kept = extra::keep(&datadir, &shelf, term, at, &given).and_then(|()| shelf.told());
        drop(files);
        kept
    });
    // A change of master does not wait for gigabytes; the file is finished all the same.
    let kept = tokio::select! {
        kept = keeping => kept,
        () = job.overtaken() => return Err(Refusal::Superseded),
    };
    match kept.or_refuse()? {
        Ok(kept) => job.agent.board.keeps(kept),
        Err(error) => {
            return Err(Refusal::Failed {
                message: format!(
                    "the transactions that the clone would give up cannot be kept as a file ({error}); make room on the \
                     volume"
                ),
            });
        }
    }
    job.check()
}

async fn stop_replication(job: &Job) -> Result<(), Refusal> {
    let mut lane = job.agent.mysql.command().await;
    lane.set_replica_enabled(false).await.or_refuse()?;
    lane.stop_receiver().await.or_refuse()?;
    drop(lane);
    if let Err(error) = drain::stop_applier(job).await {
        // Half a transaction at the end of the relay logs. The next server begins without its applier.
        job.agent.supervision.kill().await.or_refuse()?;
        return Err(error);
    }
    Ok(())
}

async fn copy(job: &Job, replicates: bool, life: Life, from: &Source<'_>) -> Result<(), Refusal> {
    let mysql = &job.agent.mysql;
    let donor = from.donor;
    let (host, port) = job.agent.endpoint(from.address);
    if replicates {
        mysql.command().await.reset_replica_all().await.or_refuse()?;
    }
    let begun = clock::now();
    let (ended, lifted) = {
        let mut lane = mysql.command().await;
        lane.set_donor(&host, port).await.or_refuse()?;
        let lifted = lift_bound(&mut lane, from.serves).await.or_refuse()?;
        lane.super_read_only_off().await.or_refuse()?;
        let ended = tokio::select! {
            result = lane.clone_from(&host, port, COPY) => Some(result),
            () = show_until_it_stands_still(job) => None,
        };
        (ended, lifted)
    };
    let Some(ended) = ended else {
        // A kill of the statement would wait for the donor too. The data is gone already.
        job.agent.supervision.kill().await.or_refuse()?;
        return Err(Refusal::Failed {
            message: format!(
                "clone of {donor}: nothing came from it for {} s",
                STANDSTILL.as_secs()
            ),
        });
    };
    match ended {
        Ok(()) | Err(Error::Broken { .. }) => {}
        Err(error) if error.code() == Some(RESTART_BY_SUPERVISOR) => {}
        Err(error) => {
            if lifted && job.agent.board.life() == Some(life) {
                // A server that is ending after all begins with it anyway.
                let _ = mysql.command().await.bound_copies(COPY_MIB_PER_SECOND).await;
            }
            return refuse(job, life, donor, error).await;
        }
    }
    info!(%donor, took_ms = clock::millis_since(begun), "copied");
    await_cloned_server(job, life).await
}

/// A copy from a donor that serves is bounded by the node's settings. A donor that is closed starves nobody, and a master
/// that is closed to be copied has all writes wait for it, so the default bound is lifted until the server starts again;
/// one that the user has chosen stays. True where it was lifted.
async fn lift_bound(lane: &mut Lane, serves: bool) -> Result<bool, Error> {
    let lift = !serves && lane.copy_bound().await? == COPY_MIB_PER_SECOND;
    if lift {
        lane.bound_copies(0).await?;
    }
    Ok(lift)
}

/// Puts the copied hundredths on the board, until nothing comes from the donor any more: it is gone, which MySQL bears
/// for five minutes, or its commits wait for acknowledgements, which MySQL bears for ever.
async fn show_until_it_stands_still(job: &Job) {
    let (mut received, mut since) = (0, clock::now());
    loop {
        sleep(Duration::from_millis(200)).await;
        let Ok(mut side) = tokio::time::timeout(LOOK, job.agent.mysql.side()).await else {
            continue;
        };
        if let Ok(progress) = side.clone_progress().await {
            job.agent.board.cloning(Some(progress.hundredths));
            if !progress.is_fed || progress.received != received {
                (received, since) = (progress.received, clock::now());
            }
        }
        if since.elapsed() >= STANDSTILL {
            return;
        }
    }
}

/// The server refused before it touched anything, or failed half-way and ends; it must be fenced again.
async fn refuse(job: &Job, life: Life, donor: &NodeId, error: Error) -> Result<(), Refusal> {
    if job.agent.board.life() == Some(life)
        && let Err(also) = job.agent.mysql.command().await.read_only_on(LOOK).await
    {
        warn!(error = %also, "not read-only after a failed clone: mysqld is killed and boots fenced");
        job.agent.supervision.kill().await.or_refuse()?;
    }
    Err(Refusal::Failed {
        message: format!("clone of {donor}: {error}"),
    })
}

async fn await_cloned_server(job: &Job, life: Life) -> Result<(), Refusal> {
    let give_up = clock::now() + BOOT;
    while job.agent.board.life() == Some(life) {
        pause(give_up).await?;
    }
    loop {
        match job.agent.look(LOOK).await {
            Some(status) if status.super_read_only => {
                // The donor's own replication settings came along.
                if status.channel.is_some() {
                    job.agent
                        .mysql
                        .command()
                        .await
                        .reset_replica_all()
                        .await
                        .or_refuse()?;
                }
                return Ok(());
            }
            Some(_) => return Err(precondition("the cloned server did not boot fenced")),
            None => pause(give_up).await?,
        }
    }
}

async fn pause(give_up: Instant) -> Result<(), Refusal> {
    if clock::left(give_up).is_zero() {
        return Err(precondition("the cloned server does not come up"));
    }
    sleep(Duration::from_millis(15)).await;
    Ok(())
}
