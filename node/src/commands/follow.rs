//! Follow: the node replicates from a master, and is opened for readers once it has caught up.
//!
//! Another source is never named before everything received is executed, because naming it throws the relay logs
//! away. The fence ends, durably, before the receiver starts.

use std::time::Duration;

use api::wire::Refusal;
use failover::{GtidSet, NodeId};
use tokio::time::sleep;

use super::{Job, OrRefuse, drain, fence, precondition};
use crate::{
    clock,
    mysql::status::{Service, Status},
    store::Followed,
};

/// How long executing what was received before may take in one go; the command is repeated.
const DRAIN: Duration = Duration::from_mins(10);
/// How long the receiver is helped to connect; afterwards it retries by itself once a second.
const HELP: Duration = Duration::from_millis(1500);

/// Follows `source` at `address`.
pub async fn follow(job: &Job, source: NodeId, address: String, until: GtidSet) -> Result<(), Refusal> {
    let mut status = job.status().await?;
    if status.source_on && job.agent.store.get().await.fenced.is_none() {
        // A former master whose fence was broken off.
        fence::fence(job, false, fence::DOUBTFUL).await?;
        status = job.status().await?;
    }
    fence::retire_source(job, &status).await?;
    let (host, port) = job.agent.endpoint(&address);
    let same = status
        .channel
        .as_ref()
        .is_some_and(|channel| channel.host == host && channel.port == port);
    if !same {
        change_source(job, &status, &host, port).await?;
    }
    let followed = Followed {
        term: job.term,
        source,
        address,
        until,
        server_id: status.server_id,
    };
    start(job, followed).await?;
    help_to_connect(job).await
}

async fn change_source(job: &Job, status: &Status, host: &str, port: u16) -> Result<(), Refusal> {
    if status.channel.is_some() {
        job.agent
            .mysql
            .command()
            .await
            .set_replica_enabled(false)
            .await
            .or_refuse()?;
        stop_receiver(job).await?;
        drain::drain(job, DRAIN).await?;
        drain::stop_applier(job).await?;
        let now = job.status().await?;
        let left = now
            .channel
            .as_ref()
            .map(|channel| channel.received.subtract(&now.executed))
            .unwrap_or_default();
        if !left.is_empty() {
            return Err(precondition(format!("received but not executed: {left}")));
        }
    }
    job.check()?;
    let tls = job.agent.settings.mysql_tls_dir.clone();
    job.agent
        .mysql
        .command()
        .await
        .change_source(host, port, &tls)
        .await
        .or_refuse()
}

async fn stop_receiver(job: &Job) -> Result<(), Refusal> {
    job.check()?;
    if job.agent.mysql.command().await.stop_receiver().await.is_ok() {
        return Ok(());
    }
    let mut side = job.agent.mysql.side().await;
    for thread in side.receiver_threads().await.or_refuse()? {
        side.kill(thread).await.or_refuse()?;
    }
    drop(side);
    job.agent.mysql.command().await.stop_receiver().await.or_refuse()
}

async fn start(job: &Job, followed: Followed) -> Result<(), Refusal> {
    let status = job.status().await?;
    let Some(channel) = status.channel else {
        return Err(precondition("the source was not taken over"));
    };
    if !status.replica_on && channel.receiver != Service::Off {
        // A receiver takes its role as acknowledger over when it starts.
        stop_receiver(job).await?;
    }
    job.check()?;
    let mut lane = job.agent.mysql.command().await;
    if !status.replica_on {
        lane.set_replica_enabled(true).await.or_refuse()?;
    }
    let change = |memory: &mut crate::store::Memory| {
        memory.followed = Some(followed);
        memory.promoted = None;
        memory.fenced = None;
    };
    job.agent.store.change(change).await.or_refuse()?;
    job.check()?;
    if channel.receiver == Service::Off || !status.replica_on {
        lane.start_receiver().await.or_refuse()?;
    }
    if channel.applier == Service::Off {
        lane.start_applier().await.or_refuse()?;
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
            stop_receiver(job).await?;
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

/// Lets readers in, if the node is a slave that has caught up.
pub async fn open(job: &Job) -> Result<(), Refusal> {
    let status = job.status().await?;
    if status.offline && status.super_read_only && caught_up(job) {
        job.agent.mysql.command().await.offline_off().await.or_refuse()?;
        job.agent.probe.refresh(super::LOOK).await;
    }
    Ok(())
}

fn caught_up(job: &Job) -> bool {
    match &job.agent.board.report().server {
        failover::Server::Up(state) => matches!(state.role, failover::Role::Slave { caught_up: true, .. }),
        _ => false,
    }
}
