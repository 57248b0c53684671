//! The answer to a wish for a switchover: takes the annotation away, only if it is still the same wish.

use std::sync::Arc;

use api::{DistributedDatabase, names};
use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch as JsonPatch, PatchOperation, RemoveOperation, TestOperation};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::Value;

use super::{Effect, Outcome, has_code, written};
use crate::handoff::Leadership;

/// The wish of a resource.
pub fn wish_of(object: &DistributedDatabase) -> Option<&str> {
    object
        .annotations()
        .get(names::ANNOTATION_PROMOTE)
        .map(String::as_str)
}

/// Takes the wish away. A wish that somebody changed in between stays: it is another one.
pub async fn carry_out(
    leadership: &dyn Leadership,
    api: &Api<DistributedDatabase>,
    object: Arc<DistributedDatabase>,
) -> Outcome {
    let Some(wish) = wish_of(&object) else {
        return Ok(Effect::Done);
    };
    let path = || PointerBuf::from_tokens(["metadata", "annotations", names::ANNOTATION_PROMOTE]);
    let steps = JsonPatch(vec![
        PatchOperation::Test(TestOperation {
            path: path(),
            value: Value::String(wish.to_owned()),
        }),
        PatchOperation::Remove(RemoveOperation { path: path() }),
    ]);
    let (name, how, what) = (
        object.name_any(),
        PatchParams::default(),
        Patch::Json::<()>(steps),
    );
    match written(leadership, api.patch(&name, &how, &what)).await {
        Ok(object) => Ok(Effect::Wrote(Arc::new(object))),
        Err(failure) if has_code(&failure, 404) || has_code(&failure, 422) => Ok(Effect::Done),
        Err(failure) => Err(failure),
    }
}
