//! The role label on pods: every change is one JSON patch that is conditional on the pod's identity and on the term
//! that stamped it, so that a late or second operator can never put or take a label that is not its own.

use api::names;
use failover::{NodeId, Term};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, RemoveOperation, TestOperation};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::Value;

use super::{Effect, Failure, Outcome, has_code, written};
use crate::handoff::Leadership;
use crate::snapshot::{Key, PodFacts, Snapshots};

/// A change of one pod's role label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Stamp the pod with the term; take `role=master` away.
    Unlabel(Term),
    /// Put `role=master`, while the stamp is the term.
    Master(Term),
    /// Put `role=slave`.
    Slave,
    /// Take `role=slave` away.
    NotSlave,
}

fn at(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

fn test(path: &[&str], value: impl Into<Value>) -> PatchOperation {
    PatchOperation::Test(TestOperation {
        path: at(path),
        value: value.into(),
    })
}

fn add(path: &[&str], value: impl Into<Value>) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: at(path),
        value: value.into(),
    })
}

const UID: [&str; 2] = ["metadata", "uid"];
const VERSION: [&str; 2] = ["metadata", "resourceVersion"];
const ROLE: [&str; 3] = ["metadata", "labels", names::LABEL_ROLE];
const ANNOTATIONS: [&str; 2] = ["metadata", "annotations"];
const STAMP: [&str; 3] = ["metadata", "annotations", names::ANNOTATION_TERM];

/// The patch that makes the change on the pod as it was observed; none where there is nothing to change or where
/// the change must not be made.
pub fn patch(pod: &PodFacts, change: Change) -> Option<JsonPatch> {
    let mut all = vec![test(&UID, pod.uid.as_str())];
    let role = pod.role.as_deref();
    match change {
        Change::Unlabel(term) => {
            if pod.stamp.is_some_and(|stamp| stamp > term) {
                return None;
            }
            match (pod.stamp, role) {
                (Some(stamp), Some(role)) => {
                    all.push(test(&STAMP, stamp.to_string()));
                    all.push(test(&ROLE, role));
                }
                _ => all.push(test(&VERSION, pod.version.as_str())),
            }
            if !pod.has_annotations {
                all.push(add(&ANNOTATIONS, Value::Object(serde_json::Map::new())));
            }
            all.push(add(&STAMP, term.to_string()));
            if role == Some(names::ROLE_MASTER) {
                all.push(PatchOperation::Remove(RemoveOperation { path: at(&ROLE) }));
            }
        }
        Change::Master(term) => {
            all.push(test(&STAMP, term.to_string()));
            all.push(add(&ROLE, names::ROLE_MASTER));
        }
        Change::Slave if role.is_none() => {
            all.push(test(&VERSION, pod.version.as_str()));
            all.push(add(&ROLE, names::ROLE_SLAVE));
        }
        Change::NotSlave if role == Some(names::ROLE_SLAVE) => {
            all.push(test(&ROLE, names::ROLE_SLAVE));
            all.push(PatchOperation::Remove(RemoveOperation { path: at(&ROLE) }));
        }
        Change::Slave | Change::NotSlave => return None,
    }
    Some(JsonPatch(all))
}

/// Makes the change and takes the pod's new state into the snapshot. A pod that is gone has no label: done.
pub async fn carry_out(
    leadership: &dyn Leadership,
    snapshots: &Snapshots,
    api: &Api<Pod>,
    key: &Key,
    node: &NodeId,
    pod: Option<PodFacts>,
    change: Change,
) -> Outcome {
    let Some(pod) = pod else { return Ok(Effect::Done) };
    let Some(patch) = patch(&pod, change) else {
        return Err(Failure::Changed);
    };
    let (params, patch) = (PatchParams::default(), Patch::Json::<()>(patch));
    match written(leadership, api.patch(node.as_str(), &params, &patch)).await {
        Ok(pod) => {
            snapshots.apply_pod(&pod);
            Ok(Effect::Done)
        }
        Err(failure) if has_code(&failure, 404) => {
            snapshots.remove_pod(key, node.as_str(), &pod.uid);
            Ok(Effect::Done)
        }
        Err(failure) if has_code(&failure, 422) || has_code(&failure, 409) => {
            // A test of the patch failed: take in what is there now and let the next plan decide.
            match written(leadership, api.get_opt(node.as_str())).await? {
                Some(now) => {
                    if now.metadata.uid.as_deref() != Some(&pod.uid) {
                        snapshots.remove_pod(key, node.as_str(), &pod.uid);
                    }
                    snapshots.apply_pod(&now);
                }
                None => snapshots.remove_pod(key, node.as_str(), &pod.uid),
            }
            Err(Failure::Changed)
        }
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(role: Option<&str>, stamp: Option<u64>) -> PodFacts {
        PodFacts {
            uid: "u".to_owned(),
            version: "77".to_owned(),
            address: None,
            machine: None,
            deleting: false,
            grace: None,
            role: role.map(str::to_owned),
            stamp: stamp.map(Term),
            has_annotations: stamp.is_some(),
            ready: true,
        }
    }

    fn text(pod: &PodFacts, change: Change) -> String {
        patch(pod, change)
            .map(|patch| serde_json::to_string_pretty(&patch).unwrap())
            .unwrap_or_default()
    }

    #[test]
    fn a_master_loses_its_label_under_the_condition_of_its_stamp() {
        insta::assert_snapshot!(text(&pod(Some("master"), Some(4)), Change::Unlabel(Term(5))));
    }

    #[test]
    fn a_pod_without_annotations_is_stamped_under_the_condition_of_its_version() {
        insta::assert_snapshot!(text(&pod(None, None), Change::Unlabel(Term(5))));
    }

    #[test]
    fn a_slave_keeps_its_label_when_it_is_stamped() {
        assert!(!text(&pod(Some("slave"), Some(4)), Change::Unlabel(Term(5))).contains("remove"));
    }

    #[test]
    fn a_pod_stamped_by_a_newer_term_is_left_alone() {
        assert_eq!(
            patch(&pod(Some("master"), Some(6)), Change::Unlabel(Term(5))),
            None
        );
    }

    #[test]
    fn a_master_is_labelled_only_under_its_own_stamp() {
        insta::assert_snapshot!(text(&pod(Some("slave"), Some(5)), Change::Master(Term(5))));
    }

    #[test]
    fn slave_labels_never_touch_a_pod_labelled_master() {
        assert_eq!(patch(&pod(Some("master"), Some(5)), Change::Slave), None);
        assert_eq!(patch(&pod(Some("master"), Some(5)), Change::NotSlave), None);
    }
}
