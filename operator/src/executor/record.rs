//! The resource's status and in it the record: written by compare-and-swap only.
//!
//! A write that conflicts is repeated only when the record in the API server is still the one it was made from,
//! that is, when only spec or metadata changed. From any other the caller begins anew, also from one that equals ours
//! but whose writing was never confirmed to us.

use std::sync::Arc;

use api::{DistributedDatabase, DistributedDatabaseStatus, names};
use failover::Record;
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::{Effect, Failure, Outcome, has_code, written};
use crate::handoff::Leadership;

const ATTEMPTS: u32 = 4;

/// The record of a resource.
pub fn record_of(object: &DistributedDatabase) -> Record {
    object
        .status
        .as_ref()
        .map(|status| status.record.clone())
        .unwrap_or_default()
}

/// Replaces the status of `base` by `status`.
pub async fn carry_out(
    leadership: &dyn Leadership,
    api: &Api<DistributedDatabase>,
    base: Arc<DistributedDatabase>,
    status: DistributedDatabaseStatus,
) -> Outcome {
    let name = base.name_any();
    let from = record_of(&base);
    let mut object = DistributedDatabase::clone(&base);
    for _ in 0..ATTEMPTS {
        object.status = Some(status.clone());
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let failure = match written(leadership, api.replace_status(&name, &params, &object)).await {
            Ok(object) => return Ok(Effect::Wrote(Arc::new(object))),
            Err(failure) => failure,
        };
        let unclear = matches!(failure, Failure::ApiSilent | Failure::Api(_)) && !has_code(&failure, 422);
        if !unclear {
            return Err(failure);
        }
        // Either a conflict or unclear whether it was written: what is there now tells.
        let Some(current) = written(leadership, api.get_opt(&name)).await? else {
            return Err(failure);
        };
        let conflicts = has_code(&failure, 409);
        if record_of(&current) != from || current.metadata.uid != base.metadata.uid {
            let current = Arc::new(current);
            return Ok(if conflicts {
                Effect::Lost(current)
            } else {
                Effect::Unclear(current)
            });
        }
        if !conflicts {
            return Err(failure);
        }
        object = current;
    }
    Err(Failure::Changed)
}
