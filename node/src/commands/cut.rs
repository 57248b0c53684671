//! Cut: a killed master gives up what nobody acknowledged, before its server starts again and would commit it.
//!
//! It is safe because `keep` is everything that the new master has, which includes every acknowledged transaction:
//! what is beyond it was told to nobody. What cannot be cut is left as it is; the server starts in any case, fenced,
//! and the operator judges it by its set.

use std::{path::PathBuf, sync::Arc};

use api::wire::Refusal;
use failover::{GtidSet, Tail};
use tracing::{info, warn};

use super::{Job, OrRefuse, fence, precondition};
use crate::{
    clock,
    kept::Shelf,
    tails::{self, Copied, TailError},
};

/// Cuts off what `keep` lacks and starts mysqld.
pub async fn cut(job: &Job, keep: GtidSet) -> Result<(), Refusal> {
    // The files belong to one at a time; a thread that was given up still has them.
    let files = Arc::clone(&job.agent.files).lock_owned().await;
    job.check()?;
    if job.agent.board.held_ms().is_none() {
        return Err(precondition(
            "mysqld is not kept down, so there is nothing to cut",
        ));
    }
    if job.agent.store.get().await.followed.is_some() {
        return start_follower(job).await;
    }
    let begun = clock::now();
    let shelf = Shelf::beside(&job.agent.settings.agent_dir);
    let (term, at) = (job.term, clock::unix_seconds());
    let (datadir, wanted) = (job.agent.settings.mysql_data_dir.clone(), keep.clone());
    let copying = tokio::task::spawn_blocking(move || {
        let copied = tails::copy(&datadir, &shelf, term, at, &wanted);
        (copied, shelf.told(), files)
    });
    let (copied, told, files) = copying.await.or_refuse()?;
    match told {
        Ok(kept) => job.agent.board.keeps(kept),
        Err(error) => warn!(%error, "the files of kept transactions cannot be listed"),
    }
    job.check()?;
    let applied = match copied {
        Ok(Some(copied)) => {
            remember(job, Some(cut_of(job, &copied))).await?;
            let datadir = job.agent.settings.mysql_data_dir.clone();
            let (cut, files) = tokio::task::spawn_blocking(move || (tails::cut(&datadir, &copied), files))
                .await
                .or_refuse()?;
            cut.map(|()| files).map_err(TailError::from)
        }
        Ok(None) => Ok(files),
        Err(error) => Err(error),
    };
    let files = match applied {
        Ok(files) => Some(files),
        Err(error) => {
            refused(job, &sentence(&error)).await?;
            None
        }
    };
    info!(cut_ms = clock::millis_since(begun), "the log's end is judged");
    job.agent.supervision.start().await.or_refuse()?;
    drop(files);
    fence::await_boot(job).await?;
    info!(boot_ms = clock::millis_since(begun), "up again");
    prove(job, &keep).await
}

/// The marker can keep a slave down: that of a former master comes back when its machine loses power, and a promotion
/// that was overtaken before it was stored sets one. What the slave holds beyond `keep` is what the master has committed
/// since it was asked; it may have been acknowledged because this node has it.
async fn start_follower(job: &Job) -> Result<(), Refusal> {
    refused(job, "it was a slave, so what it has may be acknowledged").await?;
    job.agent.supervision.start().await.or_refuse()?;
    fence::await_boot(job).await
}

fn cut_of(job: &Job, copied: &Copied) -> Tail {
    let path: &PathBuf = &copied.file;
    Tail::Cut {
        term: job.term,
        transactions: copied.tail.transactions.clone(),
        file: path.display().to_string(),
    }
}

/// The server's own words decide, not what was meant to be cut.
async fn prove(job: &Job, keep: &GtidSet) -> Result<(), Refusal> {
    let status = job.status().await?;
    let extra = status.holds().subtract(keep);
    if extra.is_empty() {
        return Ok(());
    }
    let why = format!("the server still holds {extra}");
    if !matches!(job.agent.store.get().await.tail, Some(Tail::Refused { .. })) {
        refused(job, &why).await?;
    }
    Err(precondition(why))
}

async fn refused(job: &Job, why: &str) -> Result<(), Refusal> {
    warn!(why, "the end of the binary log is not cut");
    remember(job, Some(Tail::Refused { why: why.to_owned() })).await
}

async fn remember(job: &Job, tail: Option<Tail>) -> Result<(), Refusal> {
    let change = |memory: &mut crate::store::Memory| memory.tail = tail;
    job.agent.store.change(change).await.or_refuse().map(|_| ())
}

fn sentence(error: &TailError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Nobody said what to keep: the server starts as it is.
pub async fn start_uncut(job: &Job) -> Result<(), Refusal> {
    let _files = Arc::clone(&job.agent.files).lock_owned().await;
    job.check()?;
    if job.agent.board.held_ms().is_some() {
        refused(job, "nobody said in time what the new master has").await?;
        job.agent.supervision.start().await.or_refuse()?;
    }
    Ok(())
}
