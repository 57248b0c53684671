//! Starts what was planned, and takes in how it ended.

use std::sync::Arc;

use api::DistributedDatabase;
use failover::{Action, Decision, Millis, NodeId, Observed, Policy, Record, Report, State};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, ResourceExt};
use tracing::Instrument;

use super::given_up::GivenUp;
use super::roles;
use super::task::{Event, Standing, Task};
use super::told::ended_event;
use crate::clock;
use crate::executor::labels::{self, Change};
use crate::executor::record::record_of;
use crate::executor::{
    ActionKey, Effect, Failure, Outcome, commands, has_code, record, request, service, written,
};
use crate::handoff::Leadership;
use crate::lease;
use crate::metrics::ActionLabels;
use crate::snapshot::{PodFacts, Snapshot};

impl Task {
    /// Starts an action of a plan unless it runs already.
    #[expect(
        clippy::too_many_arguments,
        reason = "one look's view of the world, spelled out"
    )]
    pub(super) fn perform(
        &mut self,
        action: Action,
        object: &Arc<DistributedDatabase>,
        snapshot: &Snapshot,
        observed: &Observed,
        report: &Report,
        policy: &Policy,
        now: Millis,
    ) {
        let key = ActionKey::of(&action);
        let slice = match &action {
            Action::Lead { node, term } | Action::Route { node, term } => snapshot
                .pods
                .get(node)
                .and_then(|pod| service::to_master(object, node, *term, pod)),
            Action::Withdraw { node, term } => snapshot
                .pods
                .get(node)
                .and_then(|pod| service::to_nobody(object, node, *term, pod)),
            _ => None,
        };
        let leads = slice
            .as_ref()
            .is_some_and(|slice| service::leads_so(snapshot, slice));
        match &action {
            Action::Withdraw { .. } | Action::Lead { .. }
                if leads && service::is_of_term(snapshot, slice.as_ref()) =>
            {
                return;
            }
            // The label moves the pod out of the slaves' Service; that change must not reach kube-proxy first, which
            // holds a second one back.
            Action::Route { .. } if !leads => return,
            _ => {}
        }
        if !self.in_flight.admit(&key, now) {
            return;
        }
        match &action {
            Action::Record { record, completes } => {
                let status =
                    self.status_with(object, observed, record, completes.clone(), report, policy, now);
                let (shared, api) = (Arc::clone(&self.shared), self.databases());
                let base = Arc::clone(object);
                self.start(key, Some(action), async move {
                    record::carry_out(&*shared.lease, &api, base, status).await
                });
            }
            Action::Unlabel { node, term } => {
                let work = self.label(node, snapshot.pods.get(node).cloned(), Change::Unlabel(*term));
                self.start(key, Some(action), work);
            }
            Action::Withdraw { .. } | Action::Lead { .. } => {
                let work = self.lead(snapshot, slice);
                self.start(key, Some(action), work);
            }
            Action::Route { node, term } => {
                let work = self.label(node, snapshot.pods.get(node).cloned(), Change::Master(*term));
                self.start(key, Some(action), work);
            }
            Action::Answer { wish, .. } => {
                let wish = *wish;
                let (shared, api) = (Arc::clone(&self.shared), self.databases());
                let object = Arc::clone(object);
                self.start(key, Some(action), async move {
                    request::carry_out(&*shared.lease, &api, object, wish).await
                });
            }
            Action::Fence { node, .. }
            | Action::Drain { node, .. }
            | Action::Promote { node, .. }
            | Action::Follow { node, .. }
            | Action::Cut { node, .. }
            | Action::Clone { node, .. }
            | Action::Discard { node, .. }
            | Action::Release { node, .. } => {
                let orders = self.lines.get(node).and_then(|line| line.orders.clone());
                let Some(command) = commands::command_of(&action, policy.switchover_deadline) else {
                    return;
                };
                let shared = Arc::clone(&self.shared);
                self.start(key, Some(action), async move {
                    commands::carry_out(&*shared.lease, orders, command).await
                });
            }
        }
    }

    /// Reads the resource anew, after the lease was gained.
    pub(super) fn refresh(&mut self, object: &Arc<DistributedDatabase>, now: Millis) {
        let key = ActionKey::work("refresh", None);
        if !self.in_flight.admit(&key, now) {
            return;
        }
        let (shared, api, name) = (Arc::clone(&self.shared), self.databases(), object.name_any());
        self.start(key, None, async move {
            let object = written(&*shared.lease, api.get(&name)).await?;
            Ok(Effect::Wrote(Arc::new(object)))
        });
    }

    /// Keeps `role=slave` right while a master leads.
    pub(super) fn keep_labels(
        &mut self,
        observed: &Observed,
        snapshot: &Snapshot,
        report: &Report,
        now: Millis,
    ) {
        for (node, change) in roles::due(observed, snapshot, report, &mut self.unfit, now) {
            let key = ActionKey::work("slave-label", Some(&node));
            if self.in_flight.admit(&key, now) {
                let work = self.label(&node, snapshot.pods.get(&node).cloned(), change);
                self.start(key, None, work);
            }
        }
    }

    /// Keeps the Services right that the operator leads, whoever changed them, whatever the pods' addresses are: the
    /// master's while a master leads, the one over every node except while the master changes.
    pub(super) fn keep_services(
        &mut self,
        object: &DistributedDatabase,
        observed: &Observed,
        snapshot: &Snapshot,
        report: &Report,
        now: Millis,
    ) {
        if report.decision == Decision::Changing {
            return;
        }
        let record = &observed.record;
        let leads = |master: &NodeId| {
            observed
                .nodes
                .get(master)
                .is_some_and(|view| view.leads_in(record.term))
        };
        let to_master = record
            .master
            .as_ref()
            .filter(|master| record.intent.is_none() && leads(master));
        let to_master = to_master.and_then(|master| {
            let pod = snapshot
                .pods
                .get(master)
                .filter(|pod| pod.stamp == Some(record.term))?;
            service::to_master(object, master, record.term, pod)
        });
        let all = [
            ("service", to_master),
            (
                "service-of-all",
                service::to_every_ready(object, snapshot, &observed.asked.fence),
            ),
        ];
        for (kind, slice) in all {
            let key = ActionKey::work(kind, None);
            let due = slice
                .as_ref()
                .is_some_and(|slice| !service::leads_so(snapshot, slice));
            if due && self.in_flight.admit(&key, now) {
                let work = self.lead(snapshot, slice);
                self.start(key, None, work);
            }
        }
    }

    /// Takes in how an action ended.
    pub(super) fn ended(&mut self, key: &ActionKey, action: Option<Action>, outcome: Outcome, took: Millis) {
        let failures = self.in_flight.ended(key, outcome.is_ok(), clock::now());
        let result = if outcome.is_ok() { "done" } else { "failed" };
        self.shared
            .metrics
            .actions
            .get_or_create(&ActionLabels {
                action: key.kind,
                result,
            })
            .inc();
        Self::log(key, action.as_ref(), &outcome, took, failures);
        self.tell_ended(action.as_ref(), &outcome, failures);
        match outcome {
            Err(failure) if key.kind == "refresh" && has_code(&failure, 404) => {
                self.standing = Standing::Gone;
            }
            Ok(Effect::Done) | Err(_) => {}
            Ok(Effect::Wrote(object)) if key.kind == "record" => self.object = Some(object),
            Ok(Effect::Lost(object)) if key.kind == "record" => {
                self.state = State::beside_another(clock::now());
                self.object = Some(object);
            }
            Ok(Effect::Unclear(object)) if key.kind == "record" => {
                self.state = State::default();
                self.object = Some(object);
            }
            Ok(Effect::Wrote(object) | Effect::Lost(object) | Effect::Unclear(object)) => {
                self.take_object(object);
            }
        }
        match action {
            Some(Action::Record { .. }) => {
                if let Some(object) = self.held_back.take() {
                    self.take_object(object);
                }
            }
            Some(Action::Answer { wish, done, message }) if result == "done" => {
                // The reply may be held back behind a write of the record; the wish is gone now.
                if let Some(object) = &mut self.object {
                    Arc::make_mut(object)
                        .annotations_mut()
                        .remove(request::annotation(wish));
                }
                self.answer = Some((done, message));
            }
            _ => {}
        }
        if key.kind == "refresh" && result == "done" && self.standing == Standing::Refreshing {
            self.standing = Standing::Leading;
        }
    }

    fn log(key: &ActionKey, action: Option<&Action>, outcome: &Outcome, took: Millis, failures: u32) {
        let node = key.node.as_ref().map(NodeId::as_str);
        let term = match action {
            Some(Action::Record { record, .. }) => record.term.0,
            _ => key.term.0,
        };
        match outcome {
            Ok(Effect::Lost(object)) => {
                tracing::warn!(
                    action = key.kind,
                    term,
                    won = record_of(object).term.0,
                    "another operator was faster"
                );
            }
            Ok(Effect::Unclear(object)) => {
                tracing::warn!(
                    action = key.kind,
                    term,
                    won = record_of(object).term.0,
                    "the API server did not say whose record it is"
                );
            }
            Ok(_) if matches!(key.kind, "status") => tracing::debug!(action = key.kind, took, "done"),
            Ok(_) => tracing::info!(action = key.kind, node, term, took, "done"),
            // Said at the first failure and then ever more rarely.
            Err(failure) if failures.is_power_of_two() => {
                tracing::warn!(action = key.kind, node, term, took, failures, error = %lease::chain(failure), "failed");
            }
            Err(_) => {}
        }
    }

    fn tell_ended(&self, action: Option<&Action>, outcome: &Outcome, failures: u32) {
        let (Some(object), Some(action)) = (&self.object, action) else {
            return;
        };
        if let (Action::Record { record, completes }, Ok(Effect::Wrote(_))) = (action, outcome) {
            match completes {
                Some(change) => self.shared.metrics.changed(change),
                None => self.count_abandoned(object, record),
            }
        }
        let line = action.node().and_then(|node| self.lines.get(node));
        let given_up = GivenUp {
            namespace: &self.key.0,
            report: line.and_then(|line| line.report.as_ref()),
            kept: line.and_then(|line| line.kept.as_ref()),
        };
        if let Some(told) = ended_event(action, outcome, failures, &given_up) {
            self.shared
                .events
                .tell(&kube::Resource::object_ref(&**object, &()), told);
        }
    }

    /// A new term for a change of master that is recorded already: the one before came to nothing.
    fn count_abandoned(&self, before: &DistributedDatabase, record: &Record) {
        let before = record_of(before);
        if let (Some(intent), true) = (&before.intent, record.term > before.term) {
            self.shared.metrics.begun_anew(intent);
        }
    }

    fn label(
        &self,
        node: &NodeId,
        pod: Option<PodFacts>,
        change: Change,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let (shared, node, key) = (Arc::clone(&self.shared), node.clone(), self.key.clone());
        let api: Api<Pod> = Api::namespaced(shared.client.clone(), &key.0);
        async move { labels::carry_out(&*shared.lease, &shared.snapshots, &api, &key, &node, pod, change).await }
    }

    fn lead(
        &self,
        snapshot: &Snapshot,
        slice: Option<EndpointSlice>,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        let api: Api<EndpointSlice> = Api::namespaced(shared.client.clone(), &self.key.0);
        let seen = slice
            .as_ref()
            .and_then(|slice| snapshot.slices.get(&slice.name_any()).cloned());
        async move { service::carry_out(&*shared.lease, &shared.snapshots, &api, seen, slice).await }
    }

    pub(super) fn databases(&self) -> Api<DistributedDatabase> {
        Api::namespaced(self.shared.client.clone(), &self.key.0)
    }

    pub(super) fn start(
        &mut self,
        key: ActionKey,
        action: Option<Action>,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let inbox = self.inbox.clone();
        let started = clock::now();
        let lease = Arc::clone(&self.shared.lease);
        let task = async move {
            let outcome = if lease.is_leader() {
                work.await
            } else {
                Err(Failure::NotLeading)
            };
            let took = clock::now().saturating_sub(started);
            // A closed inbox: the database is forgotten, and nobody is interested any more.
            let _ = inbox.send(Event::Ended {
                key,
                action,
                outcome,
                took,
            });
        };
        self.running.spawn(task.in_current_span());
    }
}
