//! What happens when the pod is told to stop: a master says so and goes on serving until it has been fenced or time
//! is up, or until the operator says that only the agent is restarted; a slave stops acknowledging and leaves. Either is
//! there until clients are no longer led to it. Then mysqld may be ended cleanly, if nothing can wait in it.

use std::{io, time::Duration};

use failover::{Role, Server};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tracing::{info, warn};

use crate::{agent::Agent, clock};

/// How long a master waits to be relieved.
const HANDOVER: Duration = Duration::from_secs(20);
/// How long a node stays that is no longer wanted: kube-proxy leads new clients to it for up to a second after its
/// address was taken out of a Service.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// Returns when the agent was told to stop and may go.
pub async fn wait(agent: &Agent) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    agent.board.stopping();
    let relieved = match role(agent) {
        Some(Role::Master { .. }) => hand_over(agent).await,
        Some(Role::Slave { .. }) => {
            leave_as_slave(agent).await;
            true
        }
        _ => true,
    };
    let calm = agent
        .board
        .status()
        .is_some_and(|status| status.super_read_only && !status.source_on);
    if let Err(error) = agent.supervision.allow_term(calm).await {
        warn!(%error, "the supervisor was not told whether mysqld may end cleanly");
    }
    if relieved {
        // Clients that still come are led on to the master.
        sleep(FAREWELL).await;
    }
    info!(calm, "the agent ends");
    Ok(())
}

/// Waits until the master is relieved; false where it leaves as one.
async fn hand_over(agent: &Agent) -> bool {
    info!("told to stop: waiting to be relieved");
    let end = clock::now() + HANDOVER;
    while matches!(role(agent), Some(Role::Master { .. })) {
        if agent.board.is_released() {
            info!("only the agent is restarted; mysqld goes on as master");
            return false;
        }
        if clock::left(end).is_zero() {
            warn!("nobody relieved this master in time; its mysqld will be killed, not shut down");
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

async fn leave_as_slave(agent: &Agent) {
    let mut lane = agent.mysql.command().await;
    if let Err(error) = lane.set_replica_enabled(false).await {
        warn!(%error, "semi-sync stays on");
    }
    if let Err(error) = lane.stop_receiver().await {
        warn!(%error, "the receiver runs on");
    }
    drop(lane);
    agent.probe.refresh(Duration::from_millis(300)).await;
}

fn role(agent: &Agent) -> Option<Role> {
    match &agent.board.report().server {
        Server::Up(state) => Some(state.role.clone()),
        _ => None,
    }
}
