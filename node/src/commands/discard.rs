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
        return Err(precondition("mysqld runs on its data, which is not thrown away"));
    };
    warn!(why, "the data is thrown away");
    let renew = |memory: &mut Memory| {
        memory.begin_new_life();
        memory.discarded = Some(clock::unix_seconds());
    };
    job.agent.store.change(renew).await.or_refuse()?;
    job.agent.supervision.discard().await.or_refuse()?;
    drop(files);
    fence::await_boot(job).await
}
