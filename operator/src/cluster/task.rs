//! The loop of one database: takes events in, looks, asks `failover::step`, and starts what it planned.
//!
//! It never waits for anything but the next event. Only the leader asks and acts; a standby keeps the sessions and
//! caches warm and does nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::wire::Picture;
use api::{DistributedDatabase, names, wire};
use failover::{Action, Decision, Kind, Millis, NodeId, Observed, Policy, Report, Session, State};
use kube::{Resource, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::observe::{Line, is_doubtful, observe};
use super::pace::Pace;
use super::routes::{Routes, hurries};
use super::unheard::Unheard;
use crate::clock;
use crate::executor::record::record_of;
use crate::executor::{ActionKey, InFlight, Outcome};
use crate::handoff::{Applied, Desired, Leadership};
use crate::sessions::{self, Happened, Target};
use crate::snapshot::{Key, Snapshot, is_older};

const HEARTBEAT: Millis = 100;
const IDLE_LIMIT: Millis = 2500;
const TICK_FAST: Duration = Duration::from_millis(50);
const TICK_SLOW: Duration = Duration::from_millis(300);
/// Events taken in before one look, so that a burst costs one look.
const BURST: usize = 64;

/// What reaches a database's task.
#[expect(
    clippy::large_enum_variant,
    reason = "few are under way at a time; an allocation for each costs more"
)]
pub enum Event {
    /// The reconcile side's newest word.
    Put(Desired),
    /// Something happened to the session with a node.
    Session {
        /// The node.
        node: NodeId,
        /// Which session of that node.
        number: u64,
        /// What.
        happened: Happened,
    },
    /// An action ended.
    Ended {
        /// Which.
        key: ActionKey,
        /// The action, where it is one of a plan.
        action: Option<Action>,
        /// How.
        outcome: Outcome,
        /// How long it took.
        took: Millis,
    },
}

/// Whether this operator leads this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Another operator leads, or none.
    Standby,
    /// The lease is ours; the resource is read anew before the first look.
    Refreshing,
    /// Ours to decide.
    Leading,
    /// The resource is gone. A reconcile that was under way when it went may have handed it over once more.
    Gone,
}

/// One database.
pub struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) key: Key,
    pub(super) inbox: mpsc::UnboundedSender<Event>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) object: Option<Arc<DistributedDatabase>>,
    /// The newest resource, held back while a write of the record is under way.
    pub(super) held_back: Option<Arc<DistributedDatabase>>,
    pub(super) applied: Applied,
    pub(super) identity: Option<Arc<rustls::ClientConfig>>,
    /// The policy of the last spec that was accepted.
    pub(super) policy: Option<Policy>,
    pub(super) lines: BTreeMap<NodeId, Line>,
    pub(super) sessions_made: u64,
    pub(super) standing: Standing,
    pub(super) state: State,
    pub(super) in_flight: InFlight,
    pub(super) running: JoinSet<()>,
    pub(super) verdict: Option<Decision>,
    pub(super) answer: Option<(bool, String)>,
    /// Since when a node that carries the slave label does not serve.
    pub(super) unfit: BTreeMap<NodeId, Millis>,
    pub(super) status_at: Millis,
    /// When the master last reported that it leads.
    pub(super) led_at: Option<Millis>,
    /// When the masters were last told that they are, or are not.
    pub(super) words_at: Millis,
    /// Masters that have closed themselves, and why.
    pub(super) closed: BTreeMap<NodeId, String>,
    /// What the nodes were told of the database last.
    pub(super) pictures: watch::Sender<Arc<Picture>>,
    pub(super) pictured_at: Millis,
    /// Which slaves keep pace with the master.
    pub(super) pace: Pace,
    /// When the Services last changed.
    routes: Routes,
    /// Nodes that serve and that Kubernetes does not hear of.
    unheard: Unheard,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.shared.metrics.show(&self.key, None);
    }
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, key: Key, inbox: mpsc::UnboundedSender<Event>) -> Self {
        let snapshot = shared.snapshots.subscribe(&key);
        Self {
            shared,
            key,
            inbox,
            snapshot,
            object: None,
            held_back: None,
            applied: Applied::Done,
            identity: None,
            policy: None,
            lines: BTreeMap::new(),
            sessions_made: 0,
            standing: Standing::Standby,
            state: State::default(),
            in_flight: InFlight::default(),
            running: JoinSet::new(),
            verdict: None,
            answer: None,
            unfit: BTreeMap::new(),
            status_at: 0,
            led_at: None,
            words_at: 0,
            closed: BTreeMap::new(),
            pictures: watch::Sender::new(Arc::default()),
            pictured_at: 0,
            pace: Pace::default(),
            routes: Routes::default(),
            unheard: Unheard::default(),
        }
    }

    /// Runs until the register forgets the database, or until it turns out to be gone.
    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        let mut leadership = self.shared.lease.subscribe();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    let mut news = self.take(event);
                    for _ in 0..BURST {
                        let Ok(event) = events.try_recv() else { break };
                        news |= self.take(event);
                    }
                    // Thousands of nodes say ten times a second that nothing changed.
                    if !news && Instant::now() < due {
                        continue;
                    }
                }
                // The senders live as long as the program; an error could only mean its end.
                _ = self.snapshot.changed() => {}
                _ = leadership.changed() => {}
                () = tokio::time::sleep_until(due) => {}
            }
            due = Instant::now() + self.look(clock::now());
            if self.standing == Standing::Gone {
                tracing::info!("the resource is gone; its task ends");
                return;
            }
        }
    }

    /// Takes an event in; true when it asks for a look at once.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Put(desired) => self.put(desired),
            Event::Session {
                node,
                number,
                happened,
            } => {
                if let Some(line) = self.lines.get_mut(&node).filter(|line| line.number == number) {
                    match &happened {
                        Happened::Broke { why, .. } => tracing::info!(%node, why, "a session broke"),
                        Happened::Unreachable { why } => tracing::info!(%node, why, "no session can be made"),
                        Happened::Opened { .. } => tracing::info!(%node, "a session opened"),
                        Happened::Reported { .. } | Happened::Asked { .. } => {}
                    }
                    if let Happened::Asked { id, question } = happened {
                        self.asked(&node, id, question);
                        return false;
                    }
                    return line.take(happened);
                }
                return false;
            }
            Event::Ended {
                key,
                action,
                outcome,
                took,
            } => self.ended(&key, action, outcome, took),
        }
        true
    }

    fn put(&mut self, desired: Desired) {
        let Desired {
            object,
            applied,
            identity,
        } = desired;
        if !matches!(applied, Applied::Invalid { .. }) {
            self.policy = Some(object.policy());
        }
        self.applied = applied;
        self.identity = identity.or(self.identity.take());
        self.take_object(object);
    }

    /// Takes in the resource as somebody read it. While our own write of the record is under way it is held back:
    /// a record in it might be the very one that we write.
    pub(super) fn take_object(&mut self, object: Arc<DistributedDatabase>) {
        if self.in_flight.is_running(&ActionKey::work("record", None)) {
            let newer = self
                .held_back
                .as_ref()
                .is_none_or(|held| !is_older_object(&object, held));
            if newer {
                self.held_back = Some(object);
            }
            return;
        }
        let Some(known) = &self.object else {
            self.object = Some(object);
            return;
        };
        if is_older_object(&object, known) {
            return;
        }
        let record = record_of(&object);
        if record != record_of(known) && self.standing == Standing::Leading {
            tracing::warn!(
                term = record.term.0,
                "the record is another one; beginning anew from it"
            );
            // A write whose reply was lost may have been carried out after all.
            self.state = if self.state.asked_for(record.term) {
                State::default()
            } else {
                State::beside_another(clock::now())
            };
        }
        self.object = Some(object);
    }

    /// The policy in force: that of the last accepted spec, else of the object with as many nodes as the record has.
    pub(super) fn policy(&self, object: &DistributedDatabase) -> Policy {
        self.policy.clone().unwrap_or_else(|| {
            let size = record_of(object).size;
            let policy = object.policy();
            Policy {
                nodes: if size == 0 { policy.nodes } else { size },
                ..policy
            }
        })
    }

    /// One look: mends sessions and, as the leader, decides and starts what is to be done. Returns when to look
    /// again if nothing happens.
    fn look(&mut self, now: Millis) -> Duration {
        while self.running.try_join_next().is_some() {}
        self.in_flight.tidy(now);
        let Some(object) = self.object.clone() else {
            return TICK_SLOW;
        };
        let snapshot = self.snapshot.borrow_and_update().clone();
        self.mend_sessions(&object, &snapshot, now);
        if !self.stand(&object, now) || object.meta().deletion_timestamp.is_some() {
            return TICK_SLOW;
        }
        let policy = self.policy(&object);
        let mut observed = observe(&object, policy.nodes, &snapshot, &self.lines);
        observed.service.settles = self.routes.settles(&snapshot, now);
        observed.asked.hurries = hurries(&snapshot, observed.record.master.as_ref());
        self.pace.note(&observed);
        let (state, plan, mut report) =
            failover::step(std::mem::take(&mut self.state), &observed, &policy, now);
        self.state = state;
        self.unheard.note(&observed, &snapshot, &mut report, now);
        self.note(&observed, &report);
        self.note_detection(&observed, &plan, now);
        for action in plan {
            self.perform(action, &object, &snapshot, &observed, &report, &policy, now);
        }
        self.tell_closed(&observed);
        self.give_words(&observed, now);
        self.keep_labels(&observed, &snapshot, &report, now);
        self.keep_services(&object, &observed, &snapshot, &report, now);
        self.publish(&object, &observed, &report, &policy, now);
        self.tell(&object, &observed, &report, &policy, now);
        if report.decision != Decision::Steady
            || observed.service.settles.is_some()
            || is_doubtful(&observed, now)
        {
            TICK_FAST
        } else {
            TICK_SLOW
        }
    }

    /// Follows the lease; true when this operator leads and has read the resource since it does.
    fn stand(&mut self, object: &Arc<DistributedDatabase>, now: Millis) -> bool {
        if !self.shared.lease.is_leader() {
            if self.standing != Standing::Standby {
                self.standing = Standing::Standby;
                self.running.abort_all();
                self.in_flight.clear();
                self.state = State::default();
                self.verdict = None;
                self.led_at = None;
                self.shared.metrics.show(&self.key, None);
            }
            return false;
        }
        if self.standing == Standing::Standby {
            self.standing = Standing::Refreshing;
            self.state = State::default();
        }
        if self.standing == Standing::Refreshing {
            self.refresh(object, now);
        }
        self.standing == Standing::Leading
    }

    /// Says what the engine decided, when it changed.
    fn note(&mut self, observed: &Observed, report: &Report) {
        if self.verdict == Some(report.decision) {
            return;
        }
        self.verdict = Some(report.decision);
        tracing::Span::current().record("term", observed.record.term.0);
        tracing::info!(
            decision = ?report.decision,
            term = observed.record.term.0,
            master = observed.record.master.as_ref().map(NodeId::as_str),
            waiting_for = ?report.waiting_for,
            notes = ?report.notes,
            "decided"
        );
    }

    /// Measures how long a lost master was not seen to lead before it was decided to replace it.
    fn note_detection(&mut self, observed: &Observed, plan: &[Action], now: Millis) {
        let record = &observed.record;
        let lost = plan.iter().find_map(|action| match action {
            Action::Record {
                record,
                completes: None,
            } => record.intent.as_ref().filter(|it| it.kind == Kind::Failover),
            _ => None,
        });
        if let Some(intent) = lost {
            // The plan says it again until it is written; it was decided once.
            if let Some(led_at) = self.led_at.take() {
                let silent = now.saturating_sub(led_at);
                self.shared.metrics.detected(intent.cause, silent);
            }
            return;
        }
        let master = record.master.as_ref().and_then(|node| observed.nodes.get(node));
        if let Some(view) = master.filter(|view| view.leads_in(record.term))
            && let Session::Open { heard } = view.session
        {
            self.led_at = Some(heard);
        }
    }

    /// Gives every node with an address its session, and a new one where pod, address or identity changed.
    fn mend_sessions(&mut self, object: &DistributedDatabase, snapshot: &Snapshot, now: Millis) {
        let Some(identity) = self.identity.clone() else {
            return;
        };
        let name = object.name_any();
        let token = Arc::as_ptr(&identity).cast::<()>() as usize;
        for (node, pod) in &snapshot.pods {
            let Some(address) = &pod.address else { continue };
            let right = self.lines.get(node).is_some_and(|line| {
                line.running.is_some()
                    && line.pod == pod.uid
                    && line.address == *address
                    // A new identity is for new links; one that is open goes on.
                    && (line.identity == token || line.orders.is_some())
            });
            if right {
                continue;
            }
            self.sessions_made += 1;
            let number = self.sessions_made;
            let target = Target {
                node: node.clone(),
                cluster: object.metadata.uid.clone().unwrap_or_default(),
                address: wire::host_and_port(address, wire::SESSION_PORT),
                host: names::node_host(&name, &self.key.0, node.as_str()),
                identity: Arc::clone(&identity),
                heartbeat: HEARTBEAT,
                idle_limit: IDLE_LIMIT,
                pictures: self.pictures.subscribe(),
            };
            let (inbox, told) = (self.inbox.clone(), node.clone());
            let running = sessions::start(target, Arc::clone(&self.shared.metrics), move |happened| {
                // A closed inbox is the end of this database's task, and with it of the session.
                let _ = inbox.send(Event::Session {
                    node: told.clone(),
                    number,
                    happened,
                });
            });
            let before = self.lines.remove(node);
            let state = match before.as_ref().map(|line| line.state) {
                Some(Session::Open { .. }) => Session::Broken { since: now },
                Some(other) => other,
                None => Session::Never,
            };
            let (report, kept) = before.map_or((None, None), |line| (line.report, line.kept));
            let line = Line {
                pod: pod.uid.clone(),
                address: address.clone(),
                number,
                identity: token,
                running: Some(running),
                orders: None,
                state,
                report,
                kept,
                trouble: None,
            };
            self.lines.insert(node.clone(), line);
        }
        for (node, line) in &mut self.lines {
            // A pod that is gone is heard to its end, but not sought again: its address may be another's.
            if !snapshot.pods.contains_key(node) && line.orders.is_none() {
                line.running = None;
            }
        }
    }
}

fn is_older_object(object: &DistributedDatabase, than: &DistributedDatabase) -> bool {
    object.metadata.uid == than.metadata.uid
        && is_older(
            object.metadata.resource_version.as_deref().unwrap_or_default(),
            than.metadata.resource_version.as_deref().unwrap_or_default(),
        )
}
