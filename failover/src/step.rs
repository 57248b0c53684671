//! One decision: the entry of the crate. Judges a steady database and takes a new term where the master must
//! change; the change itself is carried through in [`crate::change`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Action, Cause, Decision, GtidSet, Intent, Kind, Millis, NodeId, Observed, Plan, Pod, Policy, Record,
    Report, Role, ServerState, Term, VolumeId, Wish, change, commanded,
    evidence::{self, Health},
    force, quorum,
    record::acks_for,
    rejoin::{self, Leader},
    resize, rest,
};

/// A switchover to a node that lacks more transactions than this is refused: writes would wait for it meanwhile.
const MOST_BEHIND: u64 = 1000;

/// How long a planned change of master waits for Services that changed a moment ago.
const SETTLING: Millis = 1500;
/// How long a planned change of master waits for a node that is to lead to execute what it has received: in the change
/// itself everybody would wait for that.
const CATCHING_UP: Millis = 5000;
/// So many transactions are executed in no time.
const FEW: u64 = 10;

/// How long the API server may take to show the deletion of a pod whose agent was told to stop. The kubelet acts on
/// the deletion that it was shown itself, so this covers a slow watch, not a slow cluster.
const DELETION_SHOWS: Millis = 500;
/// A master whose agent was told to stop though its pod stays is replaced after so long. An agent that is restarted
/// in place leaves as soon as it is released, so this is the end of patience with one that does not: its machine may
/// be shutting down without a word to the API server.
const STOPPING_GRACE: Millis = 2000;

/// What one operator remembers between two steps. It may be lost at any time: a new operator begins with the
/// default and the record.
#[derive(Debug, Clone, Default, Hash)]
pub struct State {
    /// When this operator began to watch.
    pub(crate) watched_since: Option<Millis>,
    /// The term that this operator took itself; it carries through no other's.
    pub(crate) own_term: Option<Term>,
    /// When the first evidence for the change under way was seen.
    pub(crate) begun: Option<Millis>,
    /// When each step of the change under way was first seen complete.
    pub(crate) marks: BTreeMap<&'static str, Millis>,
    /// The one candidate of the term under way, with what it must have executed.
    pub(crate) candidate: Option<(NodeId, GtidSet)>,
    /// Since when the candidate reports neither its fence nor its mastership.
    pub(crate) between_since: Option<Millis>,
    /// Since when the candidate has not executed all that it must.
    pub(crate) draining_since: Option<Millis>,
    /// Candidates of this change and the ones before it, without a master in between, that did not get through what they
    /// received in time.
    pub(crate) stalled: BTreeSet<NodeId>,
    /// Why the candidate was chosen and the others were not.
    pub(crate) election: Option<(String, BTreeMap<NodeId, String>)>,
    /// Since when the master's agent is told to stop while its pod stays.
    pub(crate) stopping_since: Option<Millis>,
    /// The master's set when more acknowledgements were first in force, and since when they are.
    pub(crate) raise_mark: Option<(GtidSet, Millis)>,
    /// The master's set when the nodes that are to go had all been fenced for a while, and since when they are.
    pub(crate) shrink_mark: Option<(GtidSet, Millis)>,
    /// Since when a change of master is planned and waits for a better moment.
    pub(crate) planned_since: Option<Millis>,
    /// When a master that is to be kept closed was last told to hand over.
    pub(crate) aside_tried: Option<Millis>,
    /// Since when fewer slaves serve than must acknowledge.
    pub(crate) lacking_since: Option<Millis>,
    /// Since when commits of the master hold up the copy without which nobody can acknowledge them.
    pub(crate) held_up_since: Option<Millis>,
    /// When the master last led again after a rest.
    pub(crate) rested: Option<Millis>,
    /// The copies that were begun while the candidate waits for one.
    pub(crate) copies: BTreeSet<(VolumeId, u32)>,
    /// When another operator was seen to write the record while this one led.
    pub(crate) another_wrote: Option<Millis>,
}

/// How far a change of master has come, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Milliseconds from the first evidence to the end of each step that is complete.
    pub steps: BTreeMap<String, Millis>,
    /// The node that was chosen to lead, with all that it must have executed before it does.
    pub candidate: Option<(NodeId, GtidSet)>,
}

impl State {
    /// What to go on with once another operator is known to have written the record, `now`: it acts, so this one leaves
    /// to it what it began. (The default is for an operator that begins to lead: whoever led before it has ended.)
    pub fn beside_another(now: Millis) -> Self {
        Self {
            another_wrote: Some(now),
            ..Self::default()
        }
    }

    /// True where this operator asked for `term` to be recorded, so that a record with it may be its own.
    pub fn asked_for(&self, term: Term) -> bool {
        self.own_term == Some(term)
    }

    /// How far the change that the record speaks of has come.
    pub fn progress(&self) -> Progress {
        let begun = self.begun.unwrap_or_default();
        let steps = self.marks.iter();
        Progress {
            steps: steps
                .map(|(step, at)| ((*step).to_owned(), at.saturating_sub(begun)))
                .collect(),
            candidate: self.candidate.clone(),
        }
    }

    /// Forgets all that belonged to the change of another term.
    pub(crate) fn enter(&mut self, term: Term, begun: Millis) {
        *self = Self {
            watched_since: self.watched_since,
            aside_tried: self.aside_tried,
            rested: self.rested,
            stalled: std::mem::take(&mut self.stalled),
            own_term: Some(term),
            begun: Some(begun),
            ..Self::default()
        };
    }
}

/// Decides what is to be done now.
///
/// The plan holds every action that is needed and not yet seen to be effective; the caller must not start one again
/// that is still running. After an [`Action::Record`] lost its compare-and-swap, the caller goes on with the record
/// that won and [`State::beside_another`]; with a default `state` where its own write may have won.
pub fn step(mut state: State, observed: &Observed, policy: &Policy, now: Millis) -> (State, Plan, Report) {
    let watched_since = *state.watched_since.get_or_insert(now);
    let (mut plan, mut report) = match (&observed.record.intent, &observed.record.master) {
        (Some(intent), _) => change::carry_through(&mut state, observed, intent, policy, now),
        (None, Some(master)) => steady(&mut state, observed, master, policy, watched_since, now),
        (None, None) => bootstrap(&mut state, observed, policy, now),
    };
    force::consider(&mut state, observed, policy, &mut plan, &mut report);
    (state, plan, report)
}

/// Takes a new term for a change of master: above the recorded one, and above what any node has seen, because a
/// resource that was made anew over kept volumes has forgotten the terms that its nodes remember.
pub(crate) fn take_term(state: &mut State, observed: &Observed, intent: Intent, begun: Millis) -> Action {
    let seen = observed
        .nodes
        .values()
        .filter_map(|view| Some(view.report.as_ref()?.term))
        .max();
    let term = observed.record.term.max(seen.unwrap_or_default()).next();
    let next = Record {
        term,
        master: None,
        intent: Some(intent),
        ..observed.record.clone()
    };
    state.enter(next.term, begun);
    Action::Record {
        record: next,
        completes: None,
    }
}

/// A new database: waits for all nodes, because a volume that was kept from before may hold data that another lacks.
///
/// Every node that exists is a member, also one that the resource does not ask for: the quorum counts them all, and a
/// later step lets the surplus go.
pub(crate) fn bootstrap(
    state: &mut State,
    observed: &Observed,
    policy: &Policy,
    now: Millis,
) -> (Plan, Report) {
    let mut report = Report::of(Decision::Starting);
    let mut members = BTreeMap::new();
    for (node, view) in &observed.nodes {
        match (view.server(), view.live_report()) {
            (Some(_), Some(live)) => _ = members.insert(node.clone(), live.volume.clone()),
            _ => report
                .waiting_for
                .push(format!("{node} {}", quorum::silence(view))),
        }
    }
    // A member of an earlier attempt may hold what that attempt already acknowledged.
    for node in observed.record.members.keys() {
        if !observed.nodes.contains_key(node) {
            report.waiting_for.push(format!("{node} does not exist"));
        }
    }
    if members.len() < policy.nodes as usize || !report.waiting_for.is_empty() {
        return (Vec::new(), report);
    }
    let intent = Intent {
        kind: Kind::Bootstrap,
        cause: Cause::NewDatabase,
        from: None,
        to: None,
    };
    let Action::Record { record, completes } = take_term(state, observed, intent, now) else {
        return (Vec::new(), report);
    };
    let size = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let record = Record {
        size,
        acks: acks_for(size),
        members,
        ..record
    };
    (vec![Action::Record { record, completes }], report)
}

fn steady(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    policy: &Policy,
    watched_since: Millis,
    now: Millis,
) -> (Plan, Report) {
    let health = evidence::judge(observed, master, policy, watched_since, now);
    state.stalled.clear();
    let only_its_agent = matches!(
        health,
        Health::Lost {
            cause: Cause::PodStopping,
            ..
        }
    ) && !observed.nodes.get(master).is_some_and(|view| view.pod.is_going());
    if !only_its_agent {
        state.stopping_since = None;
    }
    let mut report = Report::of(Decision::Steady);
    match health {
        Health::Lost { .. } if only_its_agent && stopping_ms(state, now) < STOPPING_GRACE => {
            return let_agent_restart(state, observed, master, policy, now);
        }
        Health::Lost {
            cause: Cause::PodStopping,
            ..
        } if !only_its_agent && had_better_wait(state, observed, master, now, &mut report) => {
            let plan = keep(state, observed, master, policy, now, &mut report);
            return (plan, report);
        }
        Health::Lost { kind, cause } => return replace(state, observed, master, (kind, cause), policy, now),
        Health::Doubtful(note) if commanded::replaces_doubtful(observed, master, policy) => {
            let how = (Kind::Failover, Cause::Requested);
            let (plan, mut report) = replace(state, observed, master, how, policy, now);
            report.notes.push(note);
            return (plan, report);
        }
        Health::Doubtful(note) => {
            state.begun.get_or_insert(now);
            report.notes.push(note);
            let plan = keep(state, observed, master, policy, now, &mut report);
            return (plan, report);
        }
        Health::Leads => state.begun = None,
    }
    let mut plan = Vec::new();
    let planned = observed.switchover.is_some() || observed.asked.fence.contains(master);
    if !planned {
        state.planned_since = None;
    } else if !had_better_wait(state, observed, master, now, &mut report) {
        match requested(state, observed, master, policy, now) {
            Some(action @ Action::Record { .. }) => return (vec![action], report),
            answer => plan.extend(answer),
        }
        if let Some(action) = commanded::step_aside(state, observed, master, policy, now, &mut report) {
            return (vec![action], report);
        }
    }
    plan.extend(commanded::answer_resync(observed, master, policy));
    let kept = keep(state, observed, master, policy, now, &mut report);
    if let Some(leader) = Leader::of(observed, master, observed.record.term)
        && let Some(action) = rest::begin(state, observed, leader, policy, &kept, now)
    {
        report.decision = Decision::Changing;
        return (vec![action], report);
    }
    plan.extend(kept);
    (plan, report)
}

/// True while a planned change of master had better wait: clients would be led to the new master late, or all would wait
/// for what it has to execute first. It waits for so long at most, whatever happens.
fn had_better_wait(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    now: Millis,
    report: &mut Report,
) -> bool {
    if observed.asked.hurries {
        return false;
    }
    let since = *state.planned_since.get_or_insert(now);
    let waited = now.saturating_sub(since);
    let settles = observed.service.settles.filter(|settles| now < *settles);
    if let Some(settles) = settles.filter(|_| waited < SETTLING) {
        report.waiting_for.push(format!(
            "the Services, which changed a moment ago, to settle: kube-proxy would lead clients to a new master {} ms late",
            settles - now
        ));
        return true;
    }
    let backlog =
        heirs_backlog(observed, master).filter(|(backlog, _)| *backlog > FEW && waited < CATCHING_UP);
    let Some((backlog, heir)) = backlog else {
        return false;
    };
    report.waiting_for.push(format!(
        "{heir} to execute {backlog} transactions that it has received, for which everybody would wait"
    ));
    true
}

/// How much the node has to execute that would be elected now: the one that was asked for, or the one that lacks least.
fn heirs_backlog<'a>(observed: &'a Observed, master: &NodeId) -> Option<(u64, &'a NodeId)> {
    let wanted = observed.switchover.as_ref().and_then(|wish| wish.to.as_ref());
    let complete = quorum::fenceable(observed).have;
    let heirs = observed.nodes.iter().filter(|(node, view)| {
        *node != master
            && wanted.is_none_or(|wanted| wanted == *node)
            && complete.contains(*node)
            && !observed.asked.fence.contains(*node)
            && !view.pod.is_going()
    });
    let ranked = heirs.filter_map(|(node, view)| {
        let state = view.server()?;
        follows(state, master).ok()?;
        let holds = state.holds();
        let backlog = holds.subtract(&state.executed).count();
        Some((std::cmp::Reverse(holds.count()), backlog, node))
    });
    ranked.min().map(|(_, backlog, node)| (backlog, node))
}

/// How long the master's agent has been told to stop while its pod stays.
fn stopping_ms(state: &mut State, now: Millis) -> Millis {
    now.saturating_sub(*state.stopping_since.get_or_insert(now))
}

/// The agent is told to stop and its pod stays, so it is restarted in place, most likely with a new image. MySQL runs
/// on, and the agent need not wait to be relieved.
fn let_agent_restart(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    policy: &Policy,
    now: Millis,
) -> (Plan, Report) {
    let since = stopping_ms(state, now);
    let mut report = Report::of(Decision::Steady);
    report.notes.push(format!(
        "{master}: its agent was told to stop {since} ms ago but its pod is not being deleted; it stays the master \
         unless that lasts {STOPPING_GRACE} ms"
    ));
    let mut plan = keep(state, observed, master, policy, now, &mut report);
    if since >= DELETION_SHOWS {
        plan.push(Action::Release {
            node: master.clone(),
            term: observed.record.term,
        });
    }
    (plan, report)
}

/// The master has to be replaced: takes the term if that can be done safely, says why not otherwise.
fn replace(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    (kind, cause): (Kind, Cause),
    policy: &Policy,
    now: Millis,
) -> (Plan, Report) {
    let begun = *state.begun.get_or_insert(now);
    let mut report = Report::of(Decision::Blocked);
    report.running_ms = Some(now.saturating_sub(begun));
    report
        .notes
        .push(format!("{master} has to be replaced: {}", cause.sentence()));
    let wish = commanded::switchover(observed, policy);
    if !policy.fails_over() && wish.is_none() {
        return commanded::hold(state, observed, master, (kind, cause), policy, report);
    }
    let reachable = quorum::fenceable(observed);
    if let Some(reason) = reachable.unsafe_because() {
        report.waiting_for.push(reason);
        return (Vec::new(), report);
    }
    if kind == Kind::Switchover && reachable.have.iter().all(|node| node == master) {
        report.waiting_for.push("no other node could lead".to_owned());
        return (Vec::new(), report);
    }
    let to = wish.and_then(|wish| wish.to.clone());
    let intent = Intent {
        kind,
        cause,
        from: Some(master.clone()),
        to,
    };
    report.decision = Decision::Changing;
    (vec![take_term(state, observed, intent, begun)], report)
}

/// A wish for another master: a new term, or an answer that says why not.
fn requested(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    policy: &Policy,
    now: Millis,
) -> Option<Action> {
    let wish = observed.switchover.as_ref()?;
    let answer = |done, message| {
        Some(Action::Answer {
            wish: Wish::Promote,
            done,
            message,
        })
    };
    if policy.paused {
        return answer(false, commanded::PAUSED.to_owned());
    }
    let to = match wish
        .to
        .clone()
        .map_or_else(|| commanded::heir(observed, master), Ok)
    {
        Ok(to) => to,
        Err(why) => return answer(false, why),
    };
    let to = &to;
    if to == master {
        return answer(true, format!("{to} leads in term {}", observed.record.term));
    }
    let Some(view) = observed.nodes.get(to) else {
        return answer(false, commanded::no_such_node(observed, to));
    };
    if observed.asked.fence.contains(to) {
        return answer(false, commanded::kept_closed(to));
    }
    let Some(target) = view.server() else {
        return answer(false, format!("{to} cannot lead: it {}", quorum::silence(view)));
    };
    if let Err(why) = follows(target, master) {
        return answer(false, format!("{to} cannot lead: {why}"));
    }
    if !quorum::fenceable(observed).have.contains(to) {
        return answer(false, format!("{to} cannot lead: its data is not complete yet"));
    }
    let behind = observed
        .nodes
        .get(master)?
        .server()?
        .executed
        .subtract(&target.holds())
        .count();
    if behind > MOST_BEHIND {
        let message = format!("{to} is {behind} transactions behind; ask again when it has caught up");
        return answer(false, message);
    }
    if let Some(reason) = quorum::fenceable(observed).unsafe_because() {
        return answer(false, reason);
    }
    let intent = Intent {
        kind: Kind::Switchover,
        cause: Cause::Requested,
        from: Some(master.clone()),
        to: Some(to.clone()),
    };
    Some(take_term(state, observed, intent, now))
}

pub(crate) fn follows(target: &ServerState, master: &NodeId) -> Result<(), String> {
    match &target.role {
        Role::Slave { source, .. } if source != master => Err(format!("it still follows {source}")),
        Role::Slave { caught_up: false, .. } => Err("it has not caught up with the master yet".to_owned()),
        Role::Slave {
            applier: crate::Applier::Stopped { error },
            ..
        } => Err(format!("it does not execute what it receives: {error}")),
        Role::Slave { .. } => Ok(()),
        Role::Idle | Role::Master { .. } => Err("it does not follow the master".to_owned()),
    }
}

/// Keeps a led database in shape: labels, followers, members, size.
fn keep(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Plan {
    let term = observed.record.term;
    let mut plan = labels(observed, master, term);
    let Some(leader) = Leader::of(observed, master, term) else {
        return plan;
    };
    let closed = observed
        .nodes
        .get(master)
        .and_then(|view| view.live_report())
        .and_then(|live| live.closed.as_ref());
    if let Some(why) = closed {
        report.notes.push(format!(
            "{master}: has closed itself to clients, because {why}; it opens again by itself now that it is reached"
        ));
    }
    let removed = resize::removed(observed, policy);
    plan.extend(rejoin::followers(observed, leader, &removed, policy, report));
    if policy.paused {
        report.notes.push(
            "the database is paused: no failover, no change of master, no clone, no change of size"
                .to_owned(),
        );
        return plan;
    }
    plan.extend(resize::adjust(state, observed, leader, policy, now, report));
    plan
}

/// The master's pod carries the label and no other does, also after somebody changed labels by hand.
fn labels(observed: &Observed, master: &NodeId, term: Term) -> Plan {
    let mut plan = Vec::new();
    for (node, view) in &observed.nodes {
        let Pod::Present {
            labelled_master,
            stamp,
            ..
        } = &view.pod
        else {
            continue;
        };
        let (node, leads) = (node.clone(), node == master);
        match (leads, *labelled_master) {
            (true, false) if *stamp < term => plan.push(Action::Unlabel { node, term }),
            (true, false) => plan.push(Action::Route { node, term }),
            (false, true) => plan.push(Action::Unlabel { node, term }),
            _ => {}
        }
    }
    // The label leaves the wrong pod before the right one gets it.
    if plan.iter().any(|action| matches!(action, Action::Unlabel { .. })) {
        plan.retain(|action| !matches!(action, Action::Route { .. }));
    }
    plan
}
