//! Promote: the node leads. The order leaves no moment in which a write could be accepted and acknowledged by
//! nobody: semi-sync is on and waits without end before the first write is allowed.
//!
//! What the first write does not need is left to [`super::settle`]: forgetting the former source takes longer than
//! all the rest. Its threads are stopped and nothing but a command starts them.

use api::wire::Refusal;
use failover::{GtidSet, Role, Term};

use tracing::warn;

use super::{Job, OrRefuse, drain, precondition, receiver};
use crate::{
    mysql::status::{Service, Status},
    store::Promoted,
};

/// Makes the fenced server the master of the job's term.
pub async fn promote(job: &Job, acks: u32, requires: &GtidSet) -> Result<(), Refusal> {
    let mut status = job.status().await?;
    let ending = |status: &Status| {
        status
            .channel
            .as_ref()
            .is_some_and(|channel| channel.receiver == Service::Connecting)
    };
    if ending(&status) {
        // It was killed when the node was fenced and may take a second to end; nobody has to wait for that.
        receiver::silence(job).await?;
        status = job.status().await?;
    }
    let memory = job.agent.store.get().await;
    let promoted_now = memory.promoted.as_ref().is_some_and(|promoted| {
        promoted.term == job.term && promoted.start == status.start && memory.fenced.is_none()
    });
    if promoted_now && leads(job, job.term) {
        return set_acks(job, &status, acks).await;
    }
    if memory.fenced != Some(job.term) && !promoted_now {
        return Err(precondition(format!(
            "the node is not fenced in term {}",
            job.term
        )));
    }
    check_sets(&status, requires)?;
    // None of these opens anything, so they need not wait for one another.
    let (guarded, (), recorded, prepared) = tokio::join!(
        job.agent.supervision.allow_term(false),
        hold_after_end(job, acks),
        record(job, &status, acks),
        prepare_source(job, &status, acks),
    );
    guarded.or_refuse()?;
    recorded?;
    let prepared = prepared?;
    let mut lane = job.agent.mysql.command().await;
    job.check()?;
    if lane.connection() != prepared {
        // mysqld may have been started anew meanwhile, and then its semi-sync is off.
        return Err(precondition(
            "the connection to mysqld was lost while it was prepared",
        ));
    }
    lane.read_only_off().await.or_refuse()?;
    job.check()?;
    job.agent.board.opens();
    lane.offline_off().await.or_refuse()
}

/// Started again after a crash, a master commits what nobody acknowledged; kept down, its log can be cut first. It
/// only spares a clone, so a supervisor that cannot do it is no reason not to lead.
async fn hold_after_end(job: &Job, acks: u32) {
    if let Err(error) = job.agent.supervision.hold_after_end(acks > 0).await {
        warn!(%error, "after a crash this master will start again at once");
    }
}

fn leads(job: &Job, wanted: Term) -> bool {
    match &job.agent.board.report().server {
        failover::Server::Up(state) => {
            matches!(state.role, Role::Master { term, .. } if term == wanted) && state.open
        }
        _ => false,
    }
}

fn check_sets(status: &Status, requires: &GtidSet) -> Result<(), Refusal> {
    let missing = requires.subtract(&status.executed);
    if !missing.is_empty() {
        return Err(precondition(format!("the node has not executed {missing}")));
    }
    if let Some(channel) = &status.channel {
        let left = channel.received.subtract(&status.executed);
        if !left.is_empty() {
            return Err(precondition(format!("received but not executed: {left}")));
        }
        if channel.receiver == Service::On {
            return Err(precondition("the receiver runs"));
        }
    }
    Ok(())
}

/// The promotion record. It ends the fence, so it must be durable before anything is opened.
async fn record(job: &Job, status: &Status, acks: u32) -> Result<(), Refusal> {
    job.check()?;
    let promoted = Promoted {
        term: job.term,
        acks,
        set: status.executed.clone(),
        start: status.start,
    };
    let change = |memory: &mut crate::store::Memory| {
        memory.promoted = Some(promoted);
        memory.fenced = None;
        memory.followed = None;
        memory.tail = None;
        memory.led = true;
    };
    job.agent.store.change(change).await.or_refuse().map(|_| ())
}

/// The applier ends before semi-sync begins: its commits would wait for slaves that are not there yet.
/// Returns the connection that did it.
async fn prepare_source(job: &Job, status: &Status, acks: u32) -> Result<Option<u64>, Refusal> {
    if status.channel.is_some() {
        drain::retire_applier(job).await?;
    }
    let mut lane = job.agent.mysql.command().await;
    job.check()?;
    if acks == 0 {
        lane.set_replica_enabled(false).await.or_refuse()?;
        lane.source_off().await.or_refuse()?;
        return Ok(lane.connection());
    }
    lane.prepare_source(acks).await.or_refuse()?;
    job.check()?;
    lane.source_on().await.or_refuse()?;
    Ok(lane.connection())
}

/// The master of this very term is only told another number of acknowledgements.
async fn set_acks(job: &Job, status: &Status, acks: u32) -> Result<(), Refusal> {
    let mut lane = job.agent.mysql.command().await;
    match acks {
        0 if status.source_on => lane.source_off().await.or_refuse()?,
        0 => {}
        _ => {
            lane.prepare_source(acks).await.or_refuse()?;
            if !status.source_on {
                lane.source_on().await.or_refuse()?;
            }
        }
    }
    drop(lane);
    hold_after_end(job, acks).await;
    let change = |memory: &mut crate::store::Memory| {
        if let Some(promoted) = &mut memory.promoted {
            promoted.acks = acks;
        }
    };
    job.agent.store.change(change).await.or_refuse().map(|_| ())
}
