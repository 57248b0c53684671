//! What follows from a settled role and nobody waits for: readers are let in to a slave that has caught up, and a
//! master forgets the source it had before. Asked for by the caretaker, carried out between commands.

use api::wire::Refusal;
use failover::{Role, Server};

use super::{Job, OrRefuse};

/// Does what the role asks for, if anything.
pub async fn settle(job: &Job) -> Result<(), Refusal> {
    let status = job.status().await?;
    let role = match &job.agent.board.report().server {
        Server::Up(state) => state.role.clone(),
        _ => return Ok(()),
    };
    match role {
        Role::Slave { caught_up: true, .. } if status.offline && status.super_read_only => {
            job.agent.mysql.command().await.offline_off().await.or_refuse()?;
            job.agent.probe.refresh(super::LOOK).await;
        }
        Role::Master { .. } if status.channel.is_some() => {
            // Promotion made sure that everything received is executed and that both threads stand.
            job.agent
                .mysql
                .command()
                .await
                .reset_replica_all()
                .await
                .or_refuse()?;
        }
        _ => {}
    }
    Ok(())
}
