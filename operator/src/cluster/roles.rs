//! Which pods carry `role=slave`: those that serve reads. While the master changes, labels stay as they are, so that
//! reads go on; right after it a slave may still be on its way to the new master, and is given a moment.

use std::collections::BTreeMap;

use api::names;
use failover::{Decision, Millis, NodeId, NodeView, Observed, Report, Role};

use crate::executor::labels::Change;
use crate::snapshot::Snapshot;
use crate::status::serves;

/// How long a slave that can be read keeps its label though it does not follow as it should, in milliseconds.
const MOMENT: Millis = 1500;

/// The changes of slave labels that are due; none touches a pod labelled master. `unfit` remembers since when a
/// labelled node does not serve.
pub fn due(
    observed: &Observed,
    snapshot: &Snapshot,
    report: &Report,
    unfit: &mut BTreeMap<NodeId, Millis>,
    now: Millis,
) -> Vec<(NodeId, Change)> {
    let record = &observed.record;
    let Some(master) = &record.master else {
        return Vec::new();
    };
    if report.decision != Decision::Steady || record.intent.is_some() {
        unfit.clear();
        return Vec::new();
    }
    let mut due = Vec::new();
    for (node, pod) in &snapshot.pods {
        let Some(view) = observed.nodes.get(node) else {
            continue;
        };
        let stopping = pod.deleting || view.live_report().is_some_and(|report| report.stopping);
        let fit = !stopping && follows(view, master) && serves(node, view, record);
        if fit {
            unfit.remove(node);
        }
        match pod.role.as_deref() {
            None if fit => due.push((node.clone(), Change::Slave)),
            Some(names::ROLE_SLAVE) if !fit => {
                let since = *unfit.entry(node.clone()).or_insert(now);
                let readable = view.server().is_some_and(|server| server.open) && !stopping && node != master;
                if !readable || now >= since + MOMENT {
                    due.push((node.clone(), Change::NotSlave));
                }
            }
            _ => {}
        }
    }
    due
}

fn follows(view: &NodeView, master: &NodeId) -> bool {
    view.server()
        .is_some_and(|server| matches!(&server.role, Role::Slave { source, .. } if source == master))
}

#[cfg(test)]
mod tests {
    use failover::{Applier, GtidSet, NodeReport, Pod, Receiver, Record, Server, ServerState, Session, Term};

    use super::*;
    use crate::snapshot::PodFacts;

    fn view(source: &str) -> NodeView {
        let role = Role::Slave {
            term: Term(2),
            source: source.into(),
            address: "10.0.0.1".to_owned(),
            receiver: Receiver::Receiving { age_ms: 1 },
            applier: Applier::Running,
            caught_up: true,
        };
        let server = Server::Up(Box::new(ServerState {
            uuid: String::new(),
            version: String::new(),
            role,
            executed: GtidSet::new(),
            received: GtidSet::new(),
            purged: GtidSet::new(),
            open: true,
            stuck: None,
        }));
        NodeView {
            pod: Pod::Present {
                address: Some("10.0.0.2".to_owned()),
                deleting: false,
                labelled_master: false,
                stamp: Term(2),
            },
            session: Session::Open { heard: 0 },
            report: Some(NodeReport {
                term: Term(2),
                ..NodeReport::new("v".into(), server)
            }),
        }
    }

    fn look(
        source: &str,
        role: Option<&str>,
        decision: Decision,
        unfit: &mut BTreeMap<NodeId, Millis>,
        now: Millis,
    ) -> Vec<(NodeId, Change)> {
        let facts = PodFacts {
            uid: "u".to_owned(),
            version: "1".to_owned(),
            address: Some("10.0.0.2".to_owned()),
            machine: None,
            deleting: false,
            grace: None,
            role: role.map(str::to_owned),
            stamp: Some(Term(2)),
            has_annotations: true,
            ready: true,
        };
        let snapshot = Snapshot {
            pods: BTreeMap::from([("db-1".into(), facts)]),
            ..Snapshot::default()
        };
        let record = Record {
            term: Term(2),
            master: Some("db-0".into()),
            ..Record::default()
        };
        let nodes = BTreeMap::from([("db-1".into(), view(source))]);
        let observed = Observed {
            record,
            nodes,
            switchover: None,
            service: failover::Service::default(),
            asked: failover::Asked::default(),
        };
        due(&observed, &snapshot, &Report::of(decision), unfit, now)
    }

    #[test]
    fn a_slave_of_the_master_is_labelled_at_once() {
        let due = look("db-0", None, Decision::Steady, &mut BTreeMap::new(), 0);
        assert_eq!(due, vec![("db-1".into(), Change::Slave)]);
    }

    #[test]
    fn no_label_changes_while_the_master_does() {
        assert!(look("db-9", Some("slave"), Decision::Changing, &mut BTreeMap::new(), 0).is_empty());
    }

    #[test]
    fn a_readable_slave_on_its_way_to_the_new_master_keeps_its_label_for_a_moment() {
        let mut unfit = BTreeMap::new();
        assert!(look("db-9", Some("slave"), Decision::Steady, &mut unfit, 0).is_empty());
        assert!(look("db-9", Some("slave"), Decision::Steady, &mut unfit, MOMENT - 1).is_empty());
        let due = look("db-9", Some("slave"), Decision::Steady, &mut unfit, MOMENT);
        assert_eq!(due, vec![("db-1".into(), Change::NotSlave)]);
    }

    #[test]
    fn a_pod_labelled_master_is_never_touched() {
        let mut unfit = BTreeMap::new();
        assert!(look("db-0", Some("master"), Decision::Steady, &mut unfit, 0).is_empty());
        assert!(look("db-9", Some("master"), Decision::Steady, &mut unfit, 9000).is_empty());
    }
}
