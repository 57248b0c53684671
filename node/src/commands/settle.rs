//! What follows from a settled role and nobody waits for: readers are let in to a slave that has caught up, and a
//! master forgets the source it had before; a master that closed itself opens again. Asked for by the caretaker and the
//! guard, carried out between commands.

use api::wire::Refusal;
use failover::{Role, Server};
use tracing::info;

use super::{Job, OrRefuse, precondition};

/// Does what the role asks for, if anything.
pub async fn settle(job: &Job) -> Result<(), Refusal> {
    if job.beside_clone {
        return Ok(());
    }
    let status = job.status().await?;
    let role = match &job.agent.board.report().server {
        Server::Up(state) => state.role.clone(),
        _ => return Ok(()),
    };
    match role {
        Role::Slave { caught_up: true, .. } if status.offline && status.super_read_only => {
            job.agent.board.opens();
            job.agent.mysql.command().await.offline_off().await.or_refuse()?;
            if job.agent.store.get().await.led {
                let open = |memory: &mut crate::store::Memory| memory.led = false;
                job.agent.store.change(open).await.or_refuse()?;
            }
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

/// Lets clients in to a master that had closed itself, if it is still the same mastership and no newer term is known.
pub async fn reopen(job: &Job) -> Result<(), Refusal> {
    let status = job.status().await?;
    let report = job.agent.board.report();
    let leads = match &report.server {
        Server::Up(state) => matches!(state.role, Role::Master { term, .. } if term == job.term),
        _ => false,
    };
    let waits = status.source_on
        || job
            .agent
            .store
            .get()
            .await
            .promoted
            .is_some_and(|it| it.acks == 0);
    if !leads || report.term > job.term || !waits {
        return Err(precondition("the node does not lead in this term any more"));
    }
    job.check()?;
    job.agent.mysql.command().await.offline_off().await.or_refuse()?;
    info!(term = %job.term, "this master lets clients in again");
    job.agent.board.closed(None);
    job.agent.probe.refresh(super::LOOK).await;
    Ok(())
}
