//! Discard: data on which mysqld cannot run is thrown away, and an empty database begins in its place, fenced.
//!
//! The node must agree that its data is of no use. As with a clone, the data gets its new identity, durably, before
//! anything is touched.

use std::sync::Arc;

use api::wire::Refusal;
use tracing::warn;

use super::{Job, OrRefuse, fence, precondition};
use crate::{clock, store::Memory};

/// Begins anew, without data.
pub async fn discard(job: &Job) -> Result<(), Refusal> {
    // The files belong to one at a time.
    let files = Arc::clone(&job.agent.files).lock_owned().await;
    job.check()?;
    let Some(why) = job.agent.board.report().damaged.clone() else {
        return Err(precondition("nothing says that the data is damaged"));
    };
    if job.agent.board.status().is_some() {
        return Err(precondition("mysqld answers now, and may yet run on its data"));
    }
    fence::ours(job)?;
    warn!(why, "the data is thrown away");
    job.agent.store.change(Memory::begin_new_life).await.or_refuse()?;
    job.agent.supervision.discard().await.or_refuse()?;
    let now = clock::unix_seconds();
    // The boot is not waited for: the fence that a node which follows nobody is due next would take this command's place,
    // and whoever reads the events would be told that it failed.
    let stamp = |memory: &mut Memory| memory.discarded = Some(now);
    job.agent.store.change(stamp).await.or_refuse()?;
    drop(files);
    Ok(())
}
