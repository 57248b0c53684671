//! Nodes that serve and that Kubernetes does not hear of: their machine is cut from the API server, or its kubelet is
//! down. Nothing is done about it, because the node serves and is still controlled; people are told.

use std::collections::BTreeMap;

use failover::{Millis, NodeId, Observed, Report};

use crate::snapshot::Snapshot;
use crate::status::serves;

/// A pod is called ready a few seconds after its node serves, also on a busy machine, in milliseconds.
const MOMENT: Millis = 10_000;

/// Since when each of them serves without being called ready.
#[derive(Debug, Default)]
pub struct Unheard(BTreeMap<NodeId, Millis>);

impl Unheard {
    /// Takes in what is there now, and adds a note for each that lasts.
    pub fn note(&mut self, observed: &Observed, snapshot: &Snapshot, report: &mut Report, now: Millis) {
        let is_unready = |node: &NodeId| {
            let pod = snapshot.pods.get(node);
            pod.is_some_and(|pod| !pod.ready && !pod.deleting)
        };
        let is_unheard = |node: &NodeId| {
            let view = observed.nodes.get(node);
            is_unready(node) && view.is_some_and(|view| serves(node, view, &observed.record))
        };
        // A change of master, in which nobody serves for a moment, is no news of the kubelet.
        self.0.retain(|node, _| is_unready(node));
        for node in observed.nodes.keys().filter(|node| is_unheard(node)) {
            let since = *self.0.entry(node.clone()).or_insert(now);
            if now >= since + MOMENT {
                report.notes.push(format!(
                    "{node}: serves, but Kubernetes calls its pod not ready: the API server does not hear of its \
                     machine, or the kubelet there does not reach the pod"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use failover::{
        Decision, GtidSet, NodeReport, NodeView, Pod, Record, Role, Server, ServerState, Session, Term,
    };

    use super::*;
    use crate::snapshot::PodFacts;

    /// What is noted of the master db-0, which serves where it is `open`.
    fn look(unheard: &mut Unheard, open: bool, ready: bool, now: Millis) -> Vec<String> {
        let server = Server::Up(Box::new(ServerState {
            uuid: String::new(),
            version: String::new(),
            role: Role::Master {
                term: Term(2),
                acks: 1,
                waiting: 0,
            },
            executed: GtidSet::new(),
            received: GtidSet::new(),
            purged: GtidSet::new(),
            open,
            stuck: None,
        }));
        let view = NodeView {
            pod: Pod::Present {
                address: Some("10.0.0.1".to_owned()),
                deleting: false,
                labelled_master: true,
                stamp: Term(2),
            },
            session: Session::Open { heard: 0 },
            report: Some(NodeReport::new("v".into(), server)),
        };
        let observed = Observed {
            record: Record {
                term: Term(2),
                master: Some("db-0".into()),
                ..Record::default()
            },
            nodes: BTreeMap::from([("db-0".into(), view)]),
            switchover: None,
            service: failover::Service::default(),
            asked: failover::Asked::default(),
        };
        let facts = PodFacts {
            uid: "u".to_owned(),
            version: "1".to_owned(),
            address: Some("10.0.0.1".to_owned()),
            machine: None,
            deleting: false,
            grace: None,
            role: None,
            stamp: None,
            has_annotations: false,
            ready,
        };
        let snapshot = Snapshot {
            pods: BTreeMap::from([("db-0".into(), facts)]),
            ..Snapshot::default()
        };
        let mut report = Report::of(Decision::Steady);
        unheard.note(&observed, &snapshot, &mut report, now);
        report.notes
    }

    #[test]
    fn a_node_that_serves_and_is_not_called_ready_is_named_once_that_lasts() {
        let mut unheard = Unheard::default();
        assert!(look(&mut unheard, true, false, 100).is_empty());
        assert!(look(&mut unheard, true, false, 100 + MOMENT - 1).is_empty());
        let notes = look(&mut unheard, true, false, 100 + MOMENT);
        assert!(
            notes.len() == 1 && notes[0].starts_with("db-0: serves, but Kubernetes"),
            "{notes:?}"
        );
    }

    #[test]
    fn one_that_is_ready_again_or_does_not_serve_is_not_named() {
        let mut unheard = Unheard::default();
        look(&mut unheard, true, false, 0);
        assert!(look(&mut unheard, true, true, MOMENT).is_empty());
        assert!(
            look(&mut unheard, true, false, MOMENT + 1).is_empty(),
            "it begins anew"
        );
        assert!(look(&mut unheard, false, false, 3 * MOMENT).is_empty());
    }
}
