//! A change of master, from the recorded term to the routed new master.
//!
//! ```text
//!   record term ─► take label ┐                     ┌► lead the Service ┐
//!                  fence ──────┴► elect ─► drain ─►─┴► promote ──────────┴┬► put the label ─► record master
//!                                                                         └► others follow
//! ```
//! A term has one candidate at most. Where that is lost, or the operator forgot whom it asked, a new term is taken,
//! whose fences end everything that the older one may still do.

use std::collections::BTreeSet;

use crate::{
    Action, Decision, GtidSet, Intent, Kind, Millis, NodeId, NodeView, Observed, Plan, Pod, Policy, Report,
    State, Term, commanded,
    elect::{self, Wishes},
    force, install, quorum,
    rejoin::Leader,
    rest,
    step::{bootstrap, take_term},
};

/// How long a node may report neither its fence nor its mastership while it is promoted, in milliseconds.
const PROMOTION_MOMENT: Millis = 2000;

/// How long after the quorum's fences the others are waited for, where those of the quorum leave only a node that had
/// better not lead, such as one whose pod shuts down: it would have to be replaced at once again.
const BETTER_CANDIDATE: Millis = 500;

/// How long a candidate may execute what it received while another node has executed all of it, in milliseconds.
const DRAIN_PATIENCE: Millis = 5000;

/// Carries the recorded intent on from wherever it stands.
pub(crate) fn carry_through(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    policy: &Policy,
    now: Millis,
) -> (Plan, Report) {
    let term = observed.record.term;
    if intent.kind == Kind::Bootstrap && begins_anew(observed, term) {
        return bootstrap(state, observed, policy, now);
    }
    if state.own_term != Some(term) {
        return adopt(state, observed, intent, policy, now);
    }
    let begun = *state.begun.get_or_insert(now);
    state.marks.entry("recorded").or_insert(now);
    let mut report = Report::of(Decision::Changing);
    report.running_ms = Some(now.saturating_sub(begun));
    if state.candidate.is_none() && matches!(intent.kind, Kind::Forced | Kind::Rest) {
        // Another operator may have got further with the one node that the record names.
        state.candidate = leader(observed, term);
    }
    if state.candidate.is_none()
        && let Some(action) = force::falls_back(state, observed, intent, now)
            .or_else(|| rest::falls_back(state, observed, intent, policy, now))
            .or_else(|| commanded::released(state, observed, intent, policy))
    {
        return (vec![action], report);
    }
    let candidate = state.candidate.as_ref().map(|(node, _)| node);
    let is_led_to = candidate.is_some_and(|node| observed.service.leads_to(node, term));
    let mut plan = unlabel(observed, term, candidate, is_led_to);
    if state.candidate.is_none() {
        let fences = fence_and_elect(state, observed, intent, policy, now, &mut report);
        plan.extend(fences);
    }
    if let Some((candidate, requires)) = state.candidate.clone() {
        if let Some((because, rejected)) = &state.election {
            report.chosen = Some((candidate.clone(), because.clone()));
            report.rejected.clone_from(rejected);
        }
        let gone = lost(state, observed, &candidate, term, now);
        let gone = gone.or_else(|| stalls(state, observed, intent, (&candidate, &requires), now));
        if let Some(why) = gone {
            report.notes.push(format!(
                "{candidate} was lost while it was made master: {why}; beginning again"
            ));
            let to = intent.to.clone().filter(|_| intent.is_return());
            let again = |kind| Intent {
                kind,
                to,
                ..intent.clone()
            };
            let intent = match intent.kind {
                // A first master must hold what all members hold, however often it is begun.
                Kind::Bootstrap => again(Kind::Bootstrap),
                // A person's permission was for that node and that term.
                Kind::Failover | Kind::Switchover | Kind::Forced => again(Kind::Failover),
                Kind::Rest => rest::after(observed, intent, policy),
            };
            return (vec![take_term(state, observed, intent, begun)], report);
        }
        plan.extend(install::install(
            state,
            observed,
            intent,
            (&candidate, &requires),
            policy,
            now,
            &mut report,
        ));
    }
    (plan, report)
}

/// True where a member of a database that never led is another one by now: its members are counted anew. Nobody leads
/// in the term, so all that an earlier attempt can have left is in the sets of the nodes, which must all answer again.
fn begins_anew(observed: &Observed, term: Term) -> bool {
    let other = |(node, volume): (&NodeId, &crate::VolumeId)| {
        let live = observed.nodes.get(node).and_then(|view| view.live_report());
        live.is_some_and(|report| report.volume != *volume)
    };
    let replaced = observed.record.members.iter().any(other);
    let led = observed.nodes.values().any(|view| view.leads_in(term));
    replaced && !led
}

/// The node that leads in `term`, and what it shows.
fn leader(observed: &Observed, term: Term) -> Option<(NodeId, GtidSet)> {
    observed.nodes.keys().find_map(|node| {
        Some((
            node.clone(),
            Leader::of(observed, node, term)?.state.executed.clone(),
        ))
    })
}

/// Takes over what another operator, or this one in an earlier life, began.
fn adopt(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    policy: &Policy,
    now: Millis,
) -> (Plan, Report) {
    let mut report = Report::of(Decision::Changing);
    let term = observed.record.term;
    let begun = state.begun.unwrap_or(now);
    if let Some((leader, requires)) = leader(observed, term) {
        // The node was promoted in this term, and a term has one candidate: only the rest is left to do.
        report.notes.push(format!(
            "{leader} was promoted by an operator that ended since; completing term {term}"
        ));
        state.enter(term, begun);
        state.candidate = Some((leader, requires));
        return (Vec::new(), report);
    }
    if matches!(intent.kind, Kind::Forced | Kind::Rest) {
        // The record names the one candidate of the term, so whoever carries it on asks no other.
        state.enter(term, begun);
        return (Vec::new(), report);
    }
    // Two operators that each took the other's change over at once, or before it can have come to its end, would take
    // terms from each other for ever.
    let patience = policy.switchover_deadline + DRAIN_PATIENCE;
    let acts = state.another_wrote.map(|wrote| now.saturating_sub(wrote));
    if let Some(ago) = acts.filter(|ago| *ago < patience) {
        report.waiting_for.push(format!(
            "another operator, which wrote the record {ago} ms ago, to complete term {term}; it is taken over after \
             {patience} ms"
        ));
        return (Vec::new(), report);
    }
    let reachable = quorum::fenceable(observed);
    if let Some(reason) = reachable.unsafe_because() {
        report.decision = Decision::Blocked;
        report.waiting_for.push(reason);
        return (Vec::new(), report);
    }
    report.notes.push(format!(
        "term {term} was begun by an operator that ended since; beginning again in a new one"
    ));
    (vec![take_term(state, observed, intent.clone(), begun)], report)
}

/// Takes `role=master` from every pod but that of this term's own master, and stamps them. Without `all`, pods that carry
/// no label wait for their stamp: it keeps an older term from labelling one, so only the new label waits for it. They
/// wait until the Service leads to the new master, because clients wait for that write, and writes hold each other up.
fn unlabel(observed: &Observed, term: Term, candidate: Option<&NodeId>, all: bool) -> Plan {
    let stale = observed.nodes.iter().filter(|(node, view)| match &view.pod {
        Pod::Present {
            labelled_master: true,
            stamp,
            ..
        } => *stamp < term || candidate != Some(*node),
        Pod::Present { stamp, .. } => all && *stamp < term,
        Pod::Missing => false,
    });
    stale
        .map(|(node, _)| Action::Unlabel {
            node: node.clone(),
            term,
        })
        .collect()
}

fn fence_and_elect(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Plan {
    let term = observed.record.term;
    let deadline_over = now.saturating_sub(state.begun.unwrap_or(now)) >= policy.switchover_deadline;
    if let Some(plan) = hand_over(observed, intent, term, deadline_over, report) {
        return plan;
    }
    let open = fences(observed, term);
    if let Some(to) = intent.to.as_ref().filter(|_| intent.kind == Kind::Forced) {
        return force::choose(state, observed, to, open, report);
    }
    if let Some(master) = intent.to.as_ref().filter(|_| intent.kind == Kind::Rest) {
        return rest::choose(state, observed, master, open, now, report);
    }
    let mut fenced = quorum::fenced(observed, term);
    if intent.kind == Kind::Bootstrap {
        // Volumes that were kept from an earlier database of unknown size give no hint of how many acknowledged a write.
        fenced.needed = fenced.needed.max(observed.record.size as usize);
    }
    if !fenced.is_met() {
        report.waiting_for.extend(fenced.unsafe_because());
        if open.is_empty() {
            report.decision = Decision::Blocked;
        }
        return open;
    }
    if let Some(to) = intent
        .to
        .as_ref()
        .filter(|to| !deadline_over && !fenced.have.contains(to))
        && open.iter().any(|action| action.node() == Some(to))
    {
        report
            .waiting_for
            .push(format!("{to}, which was asked for, to confirm its fence"));
        return open;
    }
    let since = *state.marks.entry("fenced").or_insert(now);
    let wishes = wishes(observed, intent, &state.stalled);
    match elect::elect(&quorum::fenced_states(observed, term), fenced.needed, &wishes) {
        Ok(election)
            if wishes.avoid.contains_key(&election.chosen)
                && !open.is_empty()
                && now.saturating_sub(since) < BETTER_CANDIDATE =>
        {
            report.waiting_for.push(format!(
                "a better candidate than {}: {}",
                election.chosen,
                force::to_confirm(&open).join("; ")
            ));
        }
        Ok(election) => {
            state.candidate = Some((election.chosen, election.requires));
            state.election = Some((election.because, election.rejected));
        }
        Err(incomparable) => {
            report.decision = Decision::Blocked;
            let lacks: Vec<String> = incomparable
                .lacks
                .iter()
                .map(|(node, n)| format!("{node} lacks {n}"))
                .collect();
            report.waiting_for.push(format!(
                "no fenced node contains the sets of {} of them ({} transactions of all that they hold together); a \
                 further node could",
                fenced.needed,
                lacks.join(", ")
            ));
            let barred = wishes.barred.iter();
            report
                .notes
                .extend(barred.map(|(node, why)| format!("{node} may not lead: {why}")));
        }
    }
    open
}

/// The first half of a switchover: the old master stops in order while its slaves still receive, until one that may
/// lead holds everything. `None` when that is over, in whichever way.
fn hand_over(
    observed: &Observed,
    intent: &Intent,
    term: Term,
    deadline_over: bool,
    report: &mut Report,
) -> Option<Plan> {
    let old = intent
        .from
        .as_ref()
        .filter(|_| intent.kind == Kind::Switchover && !deadline_over)?;
    let view = observed.nodes.get(old)?;
    let (server, live) = (view.server()?, view.live_report()?);
    if live.fenced != Some(term) {
        report.waiting_for.push(format!("{old} to stop accepting writes"));
        return Some(vec![Action::Fence {
            node: old.clone(),
            term,
            orderly: true,
        }]);
    }
    let complete = |node: &NodeId| {
        let holds = observed
            .nodes
            .get(node)
            .and_then(|view| view.server())
            .map(crate::ServerState::holds);
        holds.is_some_and(|holds| holds.contains(&server.executed))
    };
    let answers = |node: &&NodeId| {
        observed
            .nodes
            .get(*node)
            .is_some_and(|view| view.server().is_some())
    };
    let heirs: Vec<&NodeId> = match &intent.to {
        Some(to) => Vec::from_iter(Some(to).filter(answers)),
        None => observed
            .record
            .members
            .keys()
            .filter(|node| *node != old)
            .filter(answers)
            .collect(),
    };
    if heirs.is_empty() || heirs.iter().any(|node| complete(node)) {
        return None;
    }
    report.waiting_for.push(format!(
        "{} to receive the last writes",
        intent.to.as_ref().map_or("a slave", NodeId::as_str)
    ));
    Some(Vec::new())
}

/// Fences for every node that answers and has not confirmed one in this term.
pub(crate) fn fences(observed: &Observed, term: Term) -> Plan {
    let open = observed.nodes.iter().filter(|(_, view)| {
        view.live_report().is_some_and(|report| {
            report.fenced != Some(term) && report.promoted != Some(term) && report.term <= term
        })
    });
    open.map(|(node, _)| Action::Fence {
        node: node.clone(),
        term,
        orderly: false,
    })
    .collect()
}

fn wishes(observed: &Observed, intent: &Intent, stalled: &BTreeSet<NodeId>) -> Wishes {
    let mut avoid = std::collections::BTreeMap::new();
    for (node, view) in &observed.nodes {
        let leaving = match &view.pod {
            Pod::Missing => Some("its pod is gone"),
            Pod::Present { deleting: true, .. } => Some("its pod is being deleted"),
            Pod::Present { .. } => view
                .live_report()
                .is_some_and(|report| report.stopping)
                .then_some("its pod is stopping"),
        };
        if let Some(why) = leaving {
            avoid.insert(node.clone(), why.to_owned());
        }
    }
    for node in stalled {
        avoid
            .entry(node.clone())
            .or_insert_with(|| "does not get through what it received".to_owned());
    }
    let mut barred = std::collections::BTreeMap::new();
    if let Some(master) = intent.to.as_ref().filter(|_| intent.is_return()) {
        for node in observed.nodes.keys().filter(|node| *node != master) {
            barred.insert(node.clone(), "nobody asked for another master".to_owned());
        }
    }
    for (node, view) in &observed.nodes {
        if let Some(why) = cannot_execute(view) {
            barred.insert(node.clone(), why);
        }
    }
    for node in &observed.asked.fence {
        // A master that was to hand over in order may take the lead back.
        if intent.kind != Kind::Switchover || intent.from.as_ref() != Some(node) {
            let why = "is fenced by hand (ddb-operator.io/fence)".to_owned();
            barred.insert(node.clone(), why);
        }
    }
    if let (Some(from), Kind::Failover | Kind::Switchover) = (&intent.from, intent.kind)
        && !intent.is_return()
    {
        avoid
            .entry(from.clone())
            .or_insert_with(|| "is the master that is replaced".to_owned());
    }
    Wishes {
        preferred: intent.to.clone(),
        avoid,
        barred,
    }
}

/// Why a node whose server is stuck does not lead, after its name.
pub(crate) fn cannot_execute(view: &NodeView) -> Option<String> {
    let why = view.server()?.stuck.as_ref()?;
    Some(format!("cannot execute what it received: {why}"))
}

/// Why the candidate had better give way, if so: it does not get through what it received, and another node that holds
/// all of it, such as the master that came back, has executed it.
fn stalls(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    (candidate, requires): (&NodeId, &GtidSet),
    now: Millis,
) -> Option<String> {
    let executed = &observed.nodes.get(candidate)?.server()?.executed;
    if !matches!(intent.kind, Kind::Failover | Kind::Switchover) || executed.contains(requires) {
        state.draining_since = None;
        return None;
    }
    let since = *state.draining_since.get_or_insert(now);
    let took = now.saturating_sub(since);
    if took < DRAIN_PATIENCE {
        return None;
    }
    // As they will be in the term that is taken, where the master that was to hand over has no more right to return.
    let next = Intent {
        kind: Kind::Failover,
        ..intent.clone()
    };
    let barred = wishes(observed, &next, &state.stalled).barred;
    let fenced = quorum::fenced_states(observed, observed.record.term);
    let ready = fenced.iter().find(|(node, state)| {
        let leaves = observed.nodes.get(*node).is_none_or(|view| view.pod.is_going());
        !leaves
            && !barred.contains_key(*node)
            && state.executed.contains(requires)
            && state.executed.contains(&state.received)
    });
    let (ready, _) = ready?;
    let why = format!("it has not executed what it received after {took} ms, and {ready} has");
    state.stalled.insert(candidate.clone());
    Some(why)
}

/// True once the node that is promoted has reported neither its fence nor its mastership for too long.
fn lasts_between(state: &mut State, now: Millis) -> bool {
    let since = *state.between_since.get_or_insert(now);
    now.saturating_sub(since) >= PROMOTION_MOMENT
}

/// True where the node was told to lead in this term, by another operator, and lasts in not leading: no fence of a term
/// in which it led is ever confirmed.
pub(crate) fn led_before(state: &mut State, observed: &Observed, node: &NodeId, now: Millis) -> bool {
    let view = observed.nodes.get(node);
    view.is_some_and(|view| view.is_promoted_in(observed.record.term)) && lasts_between(state, now)
}

/// Why the candidate can no longer become the master of this term, if it cannot.
///
/// A promotion ends the fence before the node leads, so for a moment it reports neither; only where that lasts was
/// the promotion lost, with the server or agent that carried it out.
fn lost(
    state: &mut State,
    observed: &Observed,
    candidate: &NodeId,
    term: Term,
    now: Millis,
) -> Option<String> {
    let view = observed.nodes.get(candidate)?;
    if matches!(view.pod, Pod::Missing) {
        return Some("its pod is gone".to_owned());
    }
    if view.leads_in(term) {
        state.between_since = None;
        return None;
    }
    if let Some(why) = cannot_execute(view) {
        return Some(why);
    }
    match (view.server(), view.live_report()) {
        (Some(_), Some(report)) if report.fenced == Some(term) => {
            state.between_since = None;
            None
        }
        (Some(_), Some(_)) => lasts_between(state, now)
            .then(|| "it is no longer fenced in this term and does not lead".to_owned()),
        _ => Some(quorum::silence(view)),
    }
}
