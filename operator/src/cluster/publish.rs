//! What people get to see of a database as it is: when status is written, and what the nodes are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::kept::Kept;
use api::wire::{Picture, PicturedChange, PicturedFailover, PicturedNode, PicturedRequest};
use api::{DistributedDatabase, DistributedDatabaseStatus};
use failover::{Change, Decision, Intent, Millis, NodeId, Observed, Policy, Progress, Record, Report, Term};

use super::task::Task;
use crate::clock;
use crate::events::Told;
use crate::executor::{ActionKey, record};
use crate::status::{Input, differs_materially, status_of};

const MATERIAL_EVERY: Millis = 1000;
const REFRESH_EVERY: Millis = 10_000;
/// What changes all the time is told to the nodes this often.
const PICTURE_EVERY: Millis = 500;

impl Task {
    /// The status with another record, for the write that records it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one look's view of the world, spelled out"
    )]
    pub(super) fn status_with(
        &self,
        object: &DistributedDatabase,
        observed: &Observed,
        record: &Record,
        completes: Option<Change>,
        report: &Report,
        policy: &Policy,
        now: Millis,
    ) -> DistributedDatabaseStatus {
        let observed = Observed {
            record: record.clone(),
            ..observed.clone()
        };
        // The report speaks of the moment before; a record that completes a change is already the moment after.
        let settled = record.intent.is_none() && record.master.is_some();
        let changed = if settled {
            Decision::Steady
        } else {
            Decision::Changing
        };
        let report = if changed == report.decision {
            report.clone()
        } else {
            Report::of(changed)
        };
        self.status_now(object, &observed, completes, &report, policy, now)
    }

    fn status_now(
        &self,
        object: &DistributedDatabase,
        observed: &Observed,
        completes: Option<Change>,
        report: &Report,
        policy: &Policy,
        now: Millis,
    ) -> DistributedDatabaseStatus {
        let troubles: BTreeMap<NodeId, String> = self
            .lines
            .iter()
            .filter_map(|(node, line)| line.trouble.clone().map(|trouble| (node.clone(), trouble)))
            .collect();
        let kept: BTreeMap<NodeId, Kept> = self
            .lines
            .iter()
            .filter_map(|(node, line)| line.kept.clone().map(|kept| (node.clone(), kept)))
            .collect();
        status_of(Input {
            object,
            applied: &self.applied,
            observed,
            report,
            policy,
            troubles: &troubles,
            kept: &kept,
            pace: &self.pace,
            completes,
            answered: self.answer.clone(),
            now,
            wall: clock::wall(),
        })
    }

    /// Tells the nodes what the database looks like: at once when the master changes, otherwise now and then.
    pub(super) fn tell(
        &mut self,
        object: &Arc<DistributedDatabase>,
        observed: &Observed,
        report: &Report,
        policy: &Policy,
        now: Millis,
    ) {
        let Record {
            term, master, intent, ..
        } = &observed.record;
        // While the master changes, the new one is named as soon as it leads and its Service leads to it: who waits for it
        // need not wait for labels and the record, too. Before, nobody may see what it shows.
        let leads = |node: &NodeId| {
            let view = observed.nodes.get(node);
            observed.service.leads_to(node, *term) && view.is_some_and(|view| view.leads_in(*term))
        };
        let master = match intent {
            Some(_) => observed.service.to.clone().filter(leads),
            None => master.clone(),
        };
        let change = intent
            .as_ref()
            .map(|intent| self.pictured_change(*term, intent, report));
        let answered = |status: &DistributedDatabaseStatus| {
            status.last_request.as_ref().map(|request| PicturedRequest {
                at: request.at.0.to_string(),
                done: request.done,
                message: request.message.clone(),
            })
        };
        let last_request = object.status.as_ref().and_then(answered);
        let same = {
            let told = self.pictures.borrow();
            told.term == *term
                && told.master == master
                && told.change == change
                && told.last_request == last_request
        };
        if same && now < self.pictured_at + PICTURE_EVERY {
            return;
        }
        self.pictured_at = now;
        let status = self.status_now(object, observed, None, report, policy, now);
        let picture = Arc::new(Picture {
            term: *term,
            master,
            phase: status.phase,
            nodes: status
                .nodes
                .into_iter()
                .map(|node| PicturedNode {
                    name: node.name,
                    address: node.address,
                    role: node.role,
                    ready: node.ready,
                    behind: node.behind,
                    message: node.message,
                })
                .collect(),
            change,
            changes: status
                .last_failovers
                .into_iter()
                .map(|failover| PicturedFailover {
                    at: failover.at.0.to_string(),
                    change: failover.change,
                })
                .collect(),
            last_request,
        });
        self.pictures.send_if_modified(|told| {
            let changed = *told != picture;
            *told = picture;
            changed
        });
    }

    fn pictured_change(&self, term: Term, intent: &Intent, report: &Report) -> PicturedChange {
        let Progress { steps, candidate } = self.state.progress();
        let (candidate, kept) = candidate.unzip();
        PicturedChange {
            term,
            intent: intent.clone(),
            steps,
            candidate,
            kept: kept.unwrap_or_default(),
            waiting_for: report.waiting_for.clone(),
        }
    }

    /// Writes the status when it is due: soon where something material changed, seldom for the rest.
    pub(super) fn publish(
        &mut self,
        object: &Arc<DistributedDatabase>,
        observed: &Observed,
        report: &Report,
        policy: &Policy,
        now: Millis,
    ) {
        let key = ActionKey::work("status", None);
        let recording = self.in_flight.is_running(&ActionKey::work("record", None));
        if recording || self.in_flight.is_running(&key) || now < self.status_at + MATERIAL_EVERY {
            return;
        }
        let status = self.status_now(object, observed, None, report, policy, now);
        self.shared.metrics.show(&self.key, Some(&status));
        let before = object.status.clone().unwrap_or_default();
        let due = differs_materially(&before, &status)
            || (now >= self.status_at + REFRESH_EVERY && before != status);
        if !due || !self.in_flight.admit(&key, now) {
            return;
        }
        self.status_at = now;
        self.answer = None;
        if let Some(told) = lacking_event(&before, &status) {
            self.shared
                .events
                .tell(&kube::Resource::object_ref(&**object, &()), told);
        }
        self.shared.metrics.status_writes.inc();
        let (shared, api, base) = (Arc::clone(&self.shared), self.databases(), Arc::clone(object));
        self.start(key, None, async move {
            record::carry_out(&*shared.lease, &api, base, status).await
        });
    }
}

/// What people are told when a node is in trouble that was in none before, and when all are whole again: conditions are
/// looked at by those who look, events also tell when it was.
fn lacking_event(before: &DistributedDatabaseStatus, now: &DistributedDatabaseStatus) -> Option<Told> {
    let (named_before, _) = lacking(before);
    let (named, message) = lacking(now);
    if named.is_empty() && !named_before.is_empty() {
        return Some(Told {
            warning: false,
            reason: "Whole",
            action: "Whole".to_owned(),
            note: "Every node serves again.".to_owned(),
        });
    }
    let is_news = named.iter().any(|node| !named_before.contains(node));
    is_news.then(|| Told {
        warning: true,
        reason: "Degraded",
        action: format!("Degraded-{}", named.into_iter().collect::<Vec<_>>().join("-")),
        note: message.to_owned(),
    })
}

/// The nodes that the condition Degraded names where it holds, and what it says.
fn lacking(status: &DistributedDatabaseStatus) -> (BTreeSet<&str>, &str) {
    let mut conditions = status.conditions.iter();
    let message = conditions
        .find(|condition| condition.type_ == "Degraded" && condition.status == "True")
        .map_or("", |condition| condition.message.as_str());
    let nodes = status.nodes.iter().map(|node| node.name.as_str());
    (nodes.filter(|node| message.contains(node)).collect(), message)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;

    fn degraded(message: Option<&str>) -> DistributedDatabaseStatus {
        let node = |name: &str| api::resource::NodeStatus {
            name: NodeId::from(name),
            ..Default::default()
        };
        let condition = message.map(|message| Condition {
            type_: "Degraded".to_owned(),
            status: "True".to_owned(),
            reason: "NodesLacking".to_owned(),
            message: message.to_owned(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        });
        DistributedDatabaseStatus {
            nodes: vec![node("shop-0"), node("shop-1")],
            conditions: condition.into_iter().collect(),
            ..Default::default()
        }
    }

    #[test]
    fn trouble_of_a_node_is_told_when_it_begins_and_when_all_is_whole_and_not_in_between() {
        let (whole, one) = (degraded(None), degraded(Some("shop-1: it is silent for 300 ms")));
        let told = lacking_event(&whole, &one).unwrap();
        assert_eq!((told.reason, told.warning), ("Degraded", true));
        assert!(told.note.contains("shop-1"));
        let later = degraded(Some("shop-1: it is silent for 900 ms"));
        assert!(lacking_event(&one, &later).is_none());
        let both = degraded(Some("shop-0: down; shop-1: it is silent for 900 ms"));
        assert_eq!(
            lacking_event(&later, &both).unwrap().action,
            "Degraded-shop-0-shop-1"
        );
        assert_eq!(lacking_event(&both, &whole).unwrap().reason, "Whole");
        assert!(lacking_event(&whole, &whole).is_none());
    }
}
