//! Drain: everything received is executed. Measured by GTID sets only, never by the state of a thread.

use std::time::Duration;

use api::wire::Refusal;

use super::{Job, OrRefuse, precondition};
use crate::{clock, mysql::status::Service};

/// How long one wait may keep a fence from overtaking.
const SLICE: Duration = Duration::from_millis(50);

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
            lane.start_applier().await.or_refuse()?;
        }
        lane.wait_executed(&channel.received, SLICE.min(clock::left(end)))
            .await
            .or_refuse()?;
    }
}

/// Stops the applier. A half-received transaction would hold it up for a minute, so its threads are killed then,
/// which rolls the half back.
pub async fn stop_applier(job: &Job) -> Result<(), Refusal> {
    job.check()?;
    let mysql = &job.agent.mysql;
    if mysql.command().await.stop_applier().await.is_ok() {
        return Ok(());
    }
    let end = clock::now() + Duration::from_secs(2);
    loop {
        job.check()?;
        let mut side = mysql.side().await;
        let threads = side.applier_threads().await.or_refuse()?;
        if threads.is_empty() {
            drop(side);
            return mysql.command().await.stop_applier().await.or_refuse();
        }
        if clock::left(end).is_zero() {
            return Err(precondition("the applier does not stop"));
        }
        for thread in threads {
            side.kill(thread).await.or_refuse()?;
        }
        drop(side);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
