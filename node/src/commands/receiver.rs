//! Ending the receiver. STOP REPLICA waits for the thread, and a thread that is just connecting to a silent source looks
//! up only once a second. Killed, it cannot receive any more though it still runs: it looks whether it was killed before
//! it asks for the log and after each event that it reads, and nothing takes the mark from it.

use std::time::Duration;

use api::wire::Refusal;
use tokio::time::sleep;
use tracing::info;

use super::{Job, LOOK, OrRefuse, precondition};
use crate::{
    clock,
    mysql::status::{Service, Status},
};

/// How long a killed receiver may take to end: its attempt to connect takes a second.
const END: Duration = Duration::from_millis(1500);

/// Makes sure that nothing is received any more: the receiver is off, or killed before it was connected.
///
/// The caller has switched its acknowledgements off before.
pub async fn silence(job: &Job) -> Result<(), Refusal> {
    let connecting = job
        .agent
        .board
        .status()
        .is_some_and(|status| state(&status) == Service::Connecting);
    let stopped = !connecting && job.agent.mysql.command().await.stop_receiver().await.is_ok();
    if !stopped {
        kill(job).await?;
    }
    let give_up = clock::now() + LOOK;
    loop {
        job.check()?;
        match job.agent.look(LOOK).await.map(|status| state(&status)) {
            Some(Service::Off) => return Ok(()),
            Some(Service::Connecting) if !stopped => return Ok(()),
            _ if clock::left(give_up).is_zero() => return Err(precondition("the receiver does not stop")),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Like [`silence`], and waits until the thread has ended, as another source or another start need it.
pub async fn stop(job: &Job) -> Result<(), Refusal> {
    silence(job).await?;
    let give_up = clock::now() + END;
    while state(&*job.status().await?) != Service::Off {
        if clock::left(give_up).is_zero() {
            return Err(precondition("the receiver does not end"));
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn kill(job: &Job) -> Result<(), Refusal> {
    let mut side = job.agent.mysql.side().await;
    for thread in side.receiver_threads().await.or_refuse()? {
        info!(thread, "the receiver is killed");
        side.kill(thread).await.or_refuse()?;
    }
    Ok(())
}

fn state(status: &Status) -> Service {
    status
        .channel
        .as_ref()
        .map_or(Service::Off, |channel| channel.receiver)
}
