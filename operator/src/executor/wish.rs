//! A wish that came through a node's data API: it becomes the annotation that a person would set, and nothing else. What
//! comes of it, the engine decides as of any annotation.
//!
//! A wish that stands already is not overwritten: it may be another person's.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::wire::{Answer, Wish};
use api::{DistributedDatabase, names};
use failover::Term;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde::Serialize;

use super::record::record_of;
use super::{Effect, Failure, Outcome, has_code, written};
use crate::handoff::Leadership;

const ATTEMPTS: u32 = 4;

/// The write is made only where the resource is still the one that was judged.
#[derive(Debug, Serialize)]
struct Change {
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: Option<String>,
    annotations: BTreeMap<&'static str, String>,
}

/// The annotation of the same meaning.
fn annotation(wish: &Wish) -> (&'static str, String) {
    match wish {
        Wish::Switchover { to } => (
            names::ANNOTATION_PROMOTE,
            to.as_ref()
                .map_or_else(|| names::PROMOTE_ANY.to_owned(), ToString::to_string),
        ),
        Wish::Resync { node } => (names::ANNOTATION_RESYNC, node.to_string()),
    }
}

/// Why the wish cannot become an annotation of the resource as it is; `None` where it can.
fn contradiction(object: &DistributedDatabase, wish: &Wish, term: Option<Term>) -> Option<String> {
    let now = record_of(object).term;
    if let Some(term) = term.filter(|term| *term != now) {
        return Some(format!(
            "the database is in term {now} and no more in {term}: look at it anew, and ask again"
        ));
    }
    let (name, value) = annotation(wish);
    let standing = object.annotations().get(name).filter(|there| **there != value)?;
    Some(format!(
        "{name}={standing} is asked for already and has no answer yet; wait for it"
    ))
}

/// Sets the annotation; what the node is to be answered, and what it came to.
pub async fn carry_out(
    leadership: &dyn Leadership,
    api: &Api<DistributedDatabase>,
    base: Arc<DistributedDatabase>,
    wish: &Wish,
    term: Option<Term>,
) -> (Answer, Outcome) {
    match attempt(leadership, api, base, wish, term).await {
        Ok(Ok(object)) => (Answer::Accepted, Ok(Effect::Wrote(object))),
        Ok(Err(message)) => (Answer::Refused { message }, Ok(Effect::Done)),
        Err(failure) => {
            let message = "the operator could not write the wish down; try again".to_owned();
            (Answer::NotNow { message }, Err(failure))
        }
    }
}

async fn attempt(
    leadership: &dyn Leadership,
    api: &Api<DistributedDatabase>,
    base: Arc<DistributedDatabase>,
    wish: &Wish,
    term: Option<Term>,
) -> Result<Result<Arc<DistributedDatabase>, String>, Failure> {
    let name = base.name_any();
    let mut object = base;
    for _ in 0..ATTEMPTS {
        if let Some(message) = contradiction(&object, wish, term) {
            return Ok(Err(message));
        }
        let change = Patch::Merge(Change {
            metadata: Metadata {
                resource_version: object.metadata.resource_version.clone(),
                annotations: BTreeMap::from([annotation(wish)]),
            },
        });
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match written(leadership, api.patch(&name, &params, &change)).await {
            Ok(object) => return Ok(Ok(Arc::new(object))),
            Err(failure) if has_code(&failure, 409) => {}
            Err(failure) => return Err(failure),
        }
        object = Arc::new(written(leadership, api.get(&name)).await?);
    }
    Err(Failure::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(annotations: &[(&str, &str)], term: u64) -> DistributedDatabase {
        let mut object = DistributedDatabase::new("db", api::DistributedDatabaseSpec::default());
        for (name, value) in annotations {
            object
                .annotations_mut()
                .insert((*name).to_owned(), (*value).to_owned());
        }
        object.status.get_or_insert_default().record.term = Term(term);
        object
    }

    #[test]
    fn a_wish_is_the_annotation_that_the_engine_reads() {
        use crate::executor::request::{asked_of, switchover_of};
        let any = annotation(&Wish::Switchover { to: None });
        let read = switchover_of(&object(&[(any.0, &any.1)], 1)).unwrap();
        assert_eq!(read.to, None);
        let one = annotation(&Wish::Switchover {
            to: Some("db-1".into()),
        });
        let read = switchover_of(&object(&[(one.0, &one.1)], 1)).unwrap();
        assert_eq!(read.to, Some("db-1".into()));
        let resync = annotation(&Wish::Resync { node: "db-2".into() });
        let read = asked_of(&object(&[(resync.0, &resync.1)], 1));
        assert_eq!(read.resync, Some("db-2".into()));
    }

    #[test]
    fn a_wish_of_another_term_and_one_beside_another_are_refused() {
        let wish = Wish::Switchover {
            to: Some("db-1".into()),
        };
        let free = object(&[], 7);
        assert_eq!(contradiction(&free, &wish, None), None);
        assert_eq!(contradiction(&free, &wish, Some(Term(7))), None);
        assert!(
            contradiction(&free, &wish, Some(Term(6)))
                .unwrap()
                .contains("term 7")
        );
        let same = object(&[(names::ANNOTATION_PROMOTE, "db-1")], 7);
        assert_eq!(contradiction(&same, &wish, None), None, "said twice");
        let other = object(&[(names::ANNOTATION_PROMOTE, "db-2")], 7);
        assert!(contradiction(&other, &wish, None).unwrap().contains("db-2"));
    }
}
