//! What the operator that leads tells every master again and again, so that its guard knows that it is not alone; and
//! what people are told of a master that closed itself.

use api::wire::{PROBE_PORT, ToNode, host_and_port};
use failover::{Millis, NodeId, NodeView, Observed, Role, Term};

use super::task::Task;
use crate::events::Told;
use crate::metrics::GuardLabels;
use crate::sessions::Outgoing;

/// How often a master is told.
const EVERY: Millis = 400;

impl Task {
    /// Tells every node that leads whether it is the master of the record.
    pub(super) fn give_words(&mut self, observed: &Observed, now: Millis) {
        let Some(age_ms) = self
            .shared
            .lease
            .age(now)
            .filter(|_| now >= self.words_at + EVERY)
        else {
            return;
        };
        self.words_at = now;
        for (node, view) in &observed.nodes {
            let orders = self.lines.get(node).and_then(|line| line.orders.as_ref());
            let (Some(orders), true) = (orders, leads(view)) else {
                continue;
            };
            let word = ToNode::Leads {
                names: named(observed, node),
                age_ms,
                peers: peers(observed, node),
            };
            // A node that takes nothing in hears nothing, which is what its guard is for.
            let _ = orders.try_send(Outgoing::Word(word));
        }
    }

    /// Says that a master has closed itself, or serves again.
    pub(super) fn tell_closed(&mut self, observed: &Observed) {
        for (node, view) in &observed.nodes {
            let Some(report) = view.live_report() else {
                continue;
            };
            let before = self.closed.get(node);
            let told = match (&report.closed, before) {
                (Some(why), None) => Told {
                    warning: true,
                    reason: "MasterClosedItself",
                    action: format!("Guard-{node}"),
                    note: format!("{node} dropped its clients and lets none in, because {why}."),
                },
                (None, Some(_)) => Told {
                    warning: false,
                    reason: "MasterGuardEnded",
                    action: format!("Guard-{node}"),
                    note: format!(
                        "{node} {}.",
                        if leads(view) {
                            "lets clients in again"
                        } else {
                            "is no master any more"
                        }
                    ),
                },
                _ => continue,
            };
            let action = if told.warning { "closed" } else { "ended" };
            self.shared
                .metrics
                .guard_actions
                .get_or_create(&GuardLabels { action })
                .inc();
            tracing::info!(%node, reason = told.reason, note = told.note, "guard");
            if let Some(object) = &self.object {
                self.shared
                    .events
                    .tell(&kube::Resource::object_ref(&**object, &()), told);
            }
            match &report.closed {
                Some(why) => _ = self.closed.insert(node.clone(), why.clone()),
                None => _ = self.closed.remove(node),
            }
        }
    }
}

fn leads(view: &NodeView) -> bool {
    matches!(
        view.server().map(|server| &server.role),
        Some(Role::Master { .. })
    )
}

/// The term in which the node is the master of the record.
fn named(observed: &Observed, node: &NodeId) -> Option<Term> {
    let record = &observed.record;
    (record.master.as_ref() == Some(node) && record.intent.is_none()).then_some(record.term)
}

/// Where the other members' probes answer.
fn peers(observed: &Observed, node: &NodeId) -> Vec<String> {
    let others = observed.record.members.keys().filter(|member| *member != node);
    others
        .filter_map(|member| observed.nodes.get(member)?.address())
        .map(|address| host_and_port(address, PROBE_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use failover::{Cause, Intent, Kind, Pod, Record, Session};

    use super::*;

    fn observed(intent: Option<Intent>) -> Observed {
        let view = |address: &str| NodeView {
            pod: Pod::Present {
                address: Some(address.to_owned()),
                deleting: false,
                labelled_master: false,
                stamp: Term(0),
            },
            session: Session::Never,
            report: None,
        };
        let names = [("db-0", "10.0.0.1"), ("db-1", "fd00::2"), ("db-2", "10.0.0.3")];
        let members = names[..2]
            .iter()
            .map(|(name, _)| ((*name).into(), "v".into()))
            .collect();
        Observed {
            record: Record {
                term: Term(4),
                master: Some("db-0".into()),
                intent,
                members,
                ..Record::default()
            },
            nodes: names
                .iter()
                .map(|(name, address)| ((*name).into(), view(address)))
                .collect::<BTreeMap<_, _>>(),
            switchover: None,
            asked: failover::Asked::default(),
            service: failover::Service::default(),
        }
    }

    #[test]
    fn only_the_master_of_a_settled_record_is_named() {
        let settled = observed(None);
        assert_eq!(named(&settled, &"db-0".into()), Some(Term(4)));
        assert_eq!(named(&settled, &"db-1".into()), None);
        let changing = observed(Some(Intent {
            kind: Kind::Switchover,
            cause: Cause::Requested,
            from: Some("db-0".into()),
            to: None,
        }));
        assert_eq!(named(&changing, &"db-0".into()), None);
    }

    #[test]
    fn a_master_is_told_of_the_other_members_only() {
        assert_eq!(peers(&observed(None), &"db-0".into()), ["[fd00::2]:8081"]);
    }
}
