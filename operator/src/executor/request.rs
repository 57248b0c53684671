//! What people ask for by annotation, and the answer to it: takes the annotation away, only if it is still the same
//! wish.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{DistributedDatabase, names};
use failover::{Asked, Force, NodeId, Switchover, Wish};
use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch as JsonPatch, PatchOperation, RemoveOperation, TestOperation};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::Value;

use super::{Effect, Outcome, has_code, written};
use crate::handoff::Leadership;

/// The annotation of a wish.
pub fn annotation(wish: Wish) -> &'static str {
    match wish {
        Wish::Promote => names::ANNOTATION_PROMOTE,
        Wish::Force => names::ANNOTATION_FORCE,
        Wish::Resync => names::ANNOTATION_RESYNC,
    }
}

fn value<'a>(object: &'a DistributedDatabase, name: &str) -> Option<&'a str> {
    object.annotations().get(name).map(String::as_str)
}

/// The switchover that a resource asks for.
pub fn switchover_of(object: &DistributedDatabase) -> Option<Switchover> {
    let to = value(object, names::ANNOTATION_PROMOTE)?.trim();
    Some(Switchover {
        to: (to != names::PROMOTE_ANY).then(|| to.into()),
    })
}

/// What else a resource asks for.
pub fn asked_of(object: &DistributedDatabase) -> Asked {
    Asked {
        force: value(object, names::ANNOTATION_FORCE).map(Force::parse),
        resync: value(object, names::ANNOTATION_RESYNC).map(|node| node.trim().into()),
        fence: fenced_of(object),
        // The master's pod tells that.
        hurries: false,
    }
}

/// The nodes that are to be kept closed.
pub fn fenced_of(object: &DistributedDatabase) -> BTreeSet<NodeId> {
    let nodes = value(object, names::ANNOTATION_FENCE).unwrap_or_default();
    let nodes = nodes.split(',').map(str::trim).filter(|node| !node.is_empty());
    nodes.map(NodeId::from).collect()
}

/// Takes the wish away. A wish that somebody changed in between stays: it is another one.
pub async fn carry_out(
    leadership: &dyn Leadership,
    api: &Api<DistributedDatabase>,
    object: Arc<DistributedDatabase>,
    wish: Wish,
) -> Outcome {
    let name = annotation(wish);
    let Some(wish) = value(&object, name) else {
        return Ok(Effect::Done);
    };
    let path = || PointerBuf::from_tokens(["metadata", "annotations", name]);
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

#[cfg(test)]
mod tests {
    use failover::Term;

    use super::*;

    fn annotated(name: &str, value: &str) -> DistributedDatabase {
        let mut object = DistributedDatabase::new("db", api::DistributedDatabaseSpec::default());
        object.annotations_mut().insert(name.to_owned(), value.to_owned());
        object
    }

    #[test]
    fn annotations_are_read_as_people_type_them() {
        let any = switchover_of(&annotated(names::ANNOTATION_PROMOTE, "any"));
        assert_eq!(any, Some(Switchover { to: None }));
        let forced = asked_of(&annotated(names::ANNOTATION_FORCE, " db-1@7")).force;
        assert_eq!(
            forced,
            Some(Force {
                to: "db-1".into(),
                term: Some(Term(7))
            })
        );
        let fenced = fenced_of(&annotated(names::ANNOTATION_FENCE, "db-1, db-2,"));
        assert_eq!(fenced, BTreeSet::from(["db-1".into(), "db-2".into()]));
        let plain = DistributedDatabase::new("db", api::DistributedDatabaseSpec::default());
        assert_eq!(
            (switchover_of(&plain), asked_of(&plain)),
            (None, Asked::default())
        );
    }
}
