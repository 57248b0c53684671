//! Which pods carry `role=slave`: those that serve reads. While the master changes, labels stay as they are, so that
//! reads go on.

use api::names;
use failover::{Decision, NodeId, Observed, Report, Role};

use crate::executor::labels::Change;
use crate::snapshot::Snapshot;
use crate::status::serves;

/// The changes of slave labels that are due; none touches a pod labelled master.
pub fn due(observed: &Observed, snapshot: &Snapshot, report: &Report) -> Vec<(NodeId, Change)> {
    let record = &observed.record;
    let steady = report.decision == Decision::Steady && record.intent.is_none() && record.master.is_some();
    if !steady {
        return Vec::new();
    }
    let mut due = Vec::new();
    for (node, pod) in &snapshot.pods {
        let Some(view) = observed.nodes.get(node) else { continue };
        let is_slave = view.server().is_some_and(|server| {
            matches!(&server.role, Role::Slave { source, .. } if record.master.as_ref() == Some(source))
        });
        let stopping = pod.deleting || view.live_report().is_some_and(|report| report.stopping);
        let wanted = is_slave && !stopping && serves(node, view, record);
        match (pod.role.as_deref(), wanted) {
            (None, true) => due.push((node.clone(), Change::Slave)),
            (Some(names::ROLE_SLAVE), false) => due.push((node.clone(), Change::NotSlave)),
            _ => {}
        }
    }
    due
}
