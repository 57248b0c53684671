//! Clone: the node's data is thrown away and a donor's copied, then the server waits fenced.
//!
//! The data gets a new identity, durably, before the first byte is touched, so that nobody takes the half for the
//! whole or the new for the old.

use std::time::{Duration, Instant};

use api::wire::Refusal;
use failover::NodeId;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Job, LOOK, OrRefuse, drain, fence, precondition};
use crate::{
    board::Life,
    clock,
    mysql::{Error, clone::RESTART_BY_SUPERVISOR},
};

/// The longest time that copying may take.
const COPY: Duration = Duration::from_hours(24);
/// A copy to which the donor adds nothing for so long is given up.
const STANDSTILL: Duration = Duration::from_secs(15);
/// The longest time that the cloned server may take to come up.
const BOOT: Duration = Duration::from_mins(10);

/// Copies `donor` over this node.
pub async fn clone(job: &Job, donor: &NodeId, address: &str) -> Result<(), Refusal> {
    let status = job.status().await?;
    fence::retire_source(job, &status).await?;
    let Some(life) = job.agent.board.life() else {
        return Err(precondition("mysqld is down"));
    };
    let renew = crate::store::Memory::begin_new_life;
    job.agent.store.change(renew).await.or_refuse()?;
    job.agent.board.cloning(Some(0));
    let result = copy(job, status.channel.is_some(), life, donor, address).await;
    job.agent.board.cloning(None);
    result
}

async fn copy(job: &Job, replicates: bool, life: Life, donor: &NodeId, address: &str) -> Result<(), Refusal> {
    let mysql = &job.agent.mysql;
    let (host, port) = job.agent.endpoint(address);
    mysql.side().await.offline_on().await.or_refuse()?;
    if replicates {
        let mut lane = mysql.command().await;
        lane.set_replica_enabled(false).await.or_refuse()?;
        lane.stop_receiver().await.or_refuse()?;
        drop(lane);
        if let Err(error) = drain::stop_applier(job).await {
            // Half a transaction at the end of the relay logs. The next server begins without its applier.
            job.agent.supervision.kill().await.or_refuse()?;
            return Err(error);
        }
        mysql.command().await.reset_replica_all().await.or_refuse()?;
    }
    let begun = clock::now();
    let ended = {
        let mut lane = mysql.command().await;
        lane.set_donor(&host, port).await.or_refuse()?;
        lane.super_read_only_off().await.or_refuse()?;
        tokio::select! {
            result = lane.clone_from(&host, port, COPY) => Some(result),
            () = show_until_it_stands_still(job) => None,
        }
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
        Err(error) => return refuse(job, life, donor, error).await,
    }
    info!(%donor, took_ms = clock::millis_since(begun), "copied");
    await_cloned_server(job, life).await
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
        let Ok(progress) = side.clone_progress().await else {
            since = clock::now();
            continue;
        };
        job.agent.board.cloning(Some(progress.hundredths));
        if !progress.is_fed || progress.received != received {
            (received, since) = (progress.received, clock::now());
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
