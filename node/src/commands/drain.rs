//! Drain: everything received is executed. Measured by GTID sets only, never by the state of a thread.

use std::{sync::Arc, time::Duration};

use api::wire::Refusal;

use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Job, OrRefuse, failed, fence, precondition};
use crate::{clock, mysql::status::Service};

/// How long one wait may keep a fence from overtaking.
const SLICE: Duration = Duration::from_millis(50);

/// How long the applier may take to stop by itself when it has nothing left to execute.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often its threads are killed until it has stopped, and for how long.
const AGAIN: Duration = Duration::from_millis(20);
const STOP: Duration = Duration::from_secs(2);

/// Executes everything received, or fails when `deadline` has passed.
pub async fn drain(job: &Job, deadline: Duration) -> Result<(), Refusal> {
    let end = clock::now() + deadline;
    loop {
        let status = job.status().await?;
        let Some(channel) = &status.channel else {
            return Ok(());
        };
        let missing = channel.received.subtract(&status.executed);
        if missing.is_empty() {
            return Ok(());
        }
        if clock::left(end).is_zero() {
            return Err(precondition(format!(
                "{} received transactions are not executed in time",
                missing.count()
            )));
        }
        let mut lane = job.agent.mysql.command().await;
        if channel.applier == Service::Off {
            if !channel.applier_error.is_empty() {
                return Err(precondition(format!(
                    "the applier stopped: {}",
                    channel.applier_error
                )));
            }
            if status.source_on {
                // A former master's applier would wait for slaves of its own, for ever.
                drop(lane);
                fence::retire_source(job, &status).await?;
                continue;
            }
            lane.start_applier().await.or_refuse()?;
        }
        lane.wait_executed(&channel.received, SLICE.min(clock::left(end)))
            .await
            .or_refuse()?;
    }
}

/// Stops the applier of a slave whose data is thrown away. A half-received transaction would hold it up for a minute, so its threads are
/// killed then, which rolls the half back.
pub async fn stop_applier(job: &Job) -> Result<(), Refusal> {
    job.check()?;
    let mut lane = job.agent.mysql.command().await;
    let stopping = lane.stop_applier(STOP);
    tokio::pin!(stopping);
    if let Ok(stopped) = timeout(PATIENCE, &mut stopping).await {
        return stopped.or_refuse();
    }
    loop {
        tokio::select! {
            stopped = &mut stopping => return stopped.or_refuse(),
            killed = kill_applier(job) => killed?,
        }
        tokio::select! {
            stopped = &mut stopping => return stopped.or_refuse(),
            () = sleep(AGAIN) => job.check()?,
        }
    }
}

/// Makes sure that the applier commits nothing more, on a server that has executed everything it received and
/// receives nothing. A half-received transaction takes 0.4 s to be rolled back, which nobody has to wait for: its end
/// is not there, so it can only be rolled back.
pub async fn retire_applier(job: &Job) -> Result<(), Refusal> {
    job.check()?;
    let agent = Arc::clone(&job.agent);
    // On the lane for looking and helping, so that the command's is free.
    let stopping = tokio::spawn(async move { agent.mysql.side().await.stop_applier(STOP).await });
    match timeout(PATIENCE, stopping).await {
        Ok(Ok(stopped)) => return stopped.or_refuse(),
        Ok(Err(broken_off)) => return Err(failed(&broken_off)),
        Err(_) => {}
    }
    let mut lane = job.agent.mysql.command().await;
    for thread in lane.applier_threads().await.or_refuse()? {
        lane.kill(thread).await.or_refuse()?;
    }
    info!("a half-received transaction is rolled back");
    Ok(())
}

async fn kill_applier(job: &Job) -> Result<(), Refusal> {
    let mut side = job.agent.mysql.side().await;
    for thread in side.applier_threads().await.or_refuse()? {
        side.kill(thread).await.or_refuse()?;
    }
    Ok(())
}
