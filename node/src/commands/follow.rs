//! Follow: the node replicates from a master, and is opened for readers once it has caught up.
//!
//! Naming another source throws the relay logs away unless the applier runs; where it stands, everything received is
//! executed before. The fence ends, durably, before the receiver starts.

use std::time::Duration;

use api::wire::Refusal;
use failover::{GtidSet, NodeId};
use tokio::time::sleep;
use tracing::warn;

use super::{Job, OrRefuse, drain, fence, precondition, receiver, sentence};
use crate::{
    clock,
    mysql::{
        Lane,
        status::{Channel, Service, Status},
    },
    store::{Followed, new_volume},
};

/// How long executing what was received before may take in one go; the command is repeated.
const DRAIN: Duration = Duration::from_mins(10);
/// How long clients may still be led to a former master. While it stops waiting for acknowledgements, which takes up
/// to a second, its server lets nobody in; before, it refuses at once, and they try again and find the new one.
const ROUTED: Duration = Duration::from_millis(400);
/// How long the receiver is helped to connect; afterwards it retries by itself once a second.
const HELP: Duration = Duration::from_millis(1500);

/// How long the source may take to say what is in its log.
const ASK: Duration = Duration::from_secs(2);

/// Follows `source` at `address`. Data that is not `whole` has to have what is in the source's log by now, too.
pub async fn follow(
    job: &Job,
    source: NodeId,
    address: String,
    mut until: GtidSet,
    whole: bool,
) -> Result<(), Refusal> {
    let mut status = job.status().await?;
    if fence::needs_fence(job, &status).await {
        // A former master whose fence was broken off, or never was.
        fence::fence(job, false, fence::DOUBTFUL).await?;
        status = job.status().await?;
    }
    fence::nothing_waits(job, &status).await?;
    let (host, port) = job.agent.endpoint(&address);
    if !whole {
        until = until.union(&logged(job, &source, &(host.clone(), port)).await?);
    }
    let followed = Followed {
        term: job.term,
        source,
        address,
        until,
        start: status.start,
    };
    match &status.channel {
        Some(channel) if channel.host == host && channel.port == port => {
            if !status.replica_on && channel.receiver != Service::Off {
                // A receiver takes its role as acknowledger over when it starts.
                receiver::stop(job).await?;
            }
            end_fence(job, followed).await?;
        }
        Some(_) => {
            stop_acknowledging(job, &status).await?;
            // That may have taken a second, in which the applier may have stopped on an error.
            let now = job.status().await?;
            if now.channel.as_ref().is_some_and(applies) {
                let (changed, stored) =
                    tokio::join!(change_source(job, &host, port, true), end_fence(job, followed));
                changed.and(stored)?;
                if !job.status().await?.holds().contains(&now.holds()) {
                    // It stopped in between.
                    return begin_anew(job).await;
                }
            } else {
                let applies = execute_all(job).await?;
                change_source(job, &host, port, applies).await?;
                end_fence(job, followed).await?;
            }
        }
        None => {
            change_source(job, &host, port, false).await?;
            end_fence(job, followed).await?;
        }
    }
    start(job).await?;
    help_to_connect(job).await
}

/// What the source has in its log. A commit that waits there may count what this node acknowledged with the data that it
/// lost.
async fn logged(job: &Job, source: &NodeId, endpoint: &(String, u16)) -> Result<GtidSet, Refusal> {
    let mut there = Lane::donor(endpoint, &job.agent.settings.tls_dir);
    let answer = tokio::select! {
        answer = there.logged(ASK) => answer,
        () = job.overtaken() => return Err(Refusal::Superseded),
    };
    there.close().await;
    answer.map_err(|error| {
        precondition(format!(
            "{source} cannot be asked what it has: {}",
            sentence(&error)
        ))
    })
}

async fn stop_acknowledging(job: &Job, status: &Status) -> Result<(), Refusal> {
    if status.replica_on {
        let mut lane = job.agent.mysql.command().await;
        lane.set_replica_enabled(false).await.or_refuse()?;
    }
    match &status.channel {
        Some(channel) if channel.receiver != Service::Off => receiver::stop(job).await,
        _ => Ok(()),
    }
}

/// Executes everything received; returns whether the applier runs now, which it goes on to do. To stop it could take a
/// minute, if the relay logs end with half a transaction, as after a kill: where that is but the name of one, MySQL heeds no
/// kill of its threads either.
async fn execute_all(job: &Job) -> Result<bool, Refusal> {
    drain::drain(job, DRAIN).await?;
    let now = job.status().await?;
    let Some(channel) = &now.channel else {
        return Ok(false);
    };
    let left = channel.received.subtract(&now.executed);
    if left.is_empty() {
        Ok(applies(channel))
    } else {
        Err(precondition(format!("received but not executed: {left}")))
    }
}

fn applies(channel: &Channel) -> bool {
    channel.applier == Service::On && channel.applier_error.is_empty()
}

async fn change_source(job: &Job, host: &str, port: u16, beside_applier: bool) -> Result<(), Refusal> {
    job.check()?;
    let tls = &job.agent.settings.mysql_tls_dir;
    let mut lane = job.agent.mysql.command().await;
    let changed = if beside_applier {
        lane.change_source_beside_applier(host, port, tls).await
    } else {
        lane.change_source(host, port, tls).await
    };
    drop(lane);
    match changed {
        Err(error) if error.is_broken_replica() => begin_anew(job).await,
        changed => changed.or_refuse(),
    }
}

/// Forgets a source whose relay logs are lost. All of them should have been executed; but since that cannot be seen any
/// more, or was not so, the data counts as new: what it acknowledged it has to fetch again. It follows at the next try, for
/// which the operator knows it as new.
async fn begin_anew(job: &Job) -> Result<(), Refusal> {
    warn!("the relay logs are lost; what was in them is fetched again");
    let change = |memory: &mut crate::store::Memory| {
        (memory.volume, memory.followed) = (new_volume(), None);
    };
    job.agent.store.change(change).await.or_refuse()?;
    job.check()?;
    let mut lane = job.agent.mysql.command().await;
    lane.reset_replica_all().await.or_refuse()?;
    Err(precondition("its relay logs are lost, so its data counts as new"))
}

/// The fence ends, durably, before the receiver starts.
async fn end_fence(job: &Job, followed: Followed) -> Result<(), Refusal> {
    job.check()?;
    let change = |memory: &mut crate::store::Memory| {
        memory.followed = Some(followed);
        memory.promoted = None;
        memory.fenced = None;
    };
    job.agent.store.change(change).await.or_refuse().map(|_| ())
}

/// The receiver first: the new master may wait for this node's acknowledgements, and a former master takes up to a
/// second to stop waiting for its own, before which its applier must not run.
async fn start(job: &Job) -> Result<(), Refusal> {
    let status = job.status().await?;
    let Some(channel) = &status.channel else {
        return Err(precondition("the source was not taken over"));
    };
    let mut lane = job.agent.mysql.command().await;
    if !status.replica_on {
        lane.set_replica_enabled(true).await.or_refuse()?;
    }
    job.check()?;
    if channel.receiver == Service::Off {
        match lane.start_receiver().await {
            Err(error) if error.is_broken_replica() => {
                drop(lane);
                return begin_anew(job).await;
            }
            started => started.or_refuse()?,
        }
    }
    drop(lane);
    if status.source_on {
        sleep(ROUTED).await;
    }
    fence::retire_source(job, &status).await?;
    job.check()?;
    if channel.applier == Service::Off {
        job.agent
            .mysql
            .command()
            .await
            .start_applier()
            .await
            .or_refuse()?;
    }
    Ok(())
}

/// A source that is just being promoted refuses at first; waiting for MySQL's own retry would cost a second.
async fn help_to_connect(job: &Job) -> Result<(), Refusal> {
    let end = clock::now() + HELP;
    loop {
        let status = job.status().await?;
        let Some(channel) = &status.channel else {
            return Ok(());
        };
        let again = match channel.receiver {
            Service::On => return Ok(()),
            Service::Connecting => !channel.receiver_error.is_empty(),
            Service::Off => true,
        };
        if clock::left(end).is_zero() {
            return Ok(());
        }
        if again {
            receiver::stop(job).await?;
            job.check()?;
            job.agent
                .mysql
                .command()
                .await
                .start_receiver()
                .await
                .or_refuse()?;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
