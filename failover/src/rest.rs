//! A master that rests while it is copied.
//!
//! MySQL ends a copy of a server only once the commits that wait there have ended, and they end only once another node
//! acknowledges them. Where every other node has to be copied first, neither would ever happen. So a node that is to
//! be copied before anybody can follow it is copied while it is closed: a candidate before it is promoted, a master in
//! a term of its own, fenced (killed, where commits wait) and promoted again as soon as enough nodes can follow it.
//!
//! Such a term needs no other node's fence. Its only candidate, which the record names, is the master of the term
//! before: all that was acknowledged until then it held when it was promoted or wrote itself, and once it is fenced
//! nobody else can acknowledge anything.

use std::collections::BTreeSet;

use crate::{
    Action, Cause, Decision, Durability, GtidSet, Intent, Kind, Millis, NodeId, NodeView, Observed, Plan,
    Pod, Policy, Report, Role, State,
    change::led_before,
    quorum,
    rejoin::{self, Leader},
    step::take_term,
};

/// How long commits must have waited, in milliseconds, where nobody is expected who could acknowledge them.
const HELD_UP: Millis = 1000;
/// The same where somebody is: a member that is only silent, a node that is about to follow, a copy from another donor
/// that broke off.
const EXPECTED: Millis = 15_000;
/// How long a master leads at least before it rests again, in milliseconds.
const AGAIN: Millis = 20_000;
/// How long a resting master may take to be fenced, in milliseconds: it may have to recover from a kill first.
const RETURN: Millis = 15_000;
/// How long a node that came back may take to be fenced before the candidate leads without it, in milliseconds.
const FENCE: Millis = 5_000;
/// So many copies may be begun before the node leads without.
const COPIES: usize = 4;

/// A term in which the master rests, where commits that nobody can acknowledge hold up the copy of it that somebody
/// needs first.
pub(crate) fn begin(
    state: &mut State,
    observed: &Observed,
    leader: Leader<'_>,
    policy: &Policy,
    plan: &Plan,
    now: Millis,
) -> Option<Action> {
    let Role::Master { acks, waiting, .. } = leader.state.role else {
        return None;
    };
    let acks = acks as usize;
    let is_copied = |action: &Action| matches!(action, Action::Clone { donor, .. } if donor == leader.node);
    // A master that leads may lower what it waits for instead, where that was allowed.
    let waits = policy.durability == Durability::Strict || observed.record.intent.is_some();
    let held_up = waiting > 0 && waits && !policy.paused && rejoin::connected(observed, leader, None) < acks;
    if !held_up {
        state.held_up_since = None;
        return None;
    }
    // The time runs on while a copy that was given up is not begun again yet.
    let since = *state.held_up_since.get_or_insert(now);
    let helps = (plan.iter().any(is_copied)
        || rejoin::copies(observed, leader.node, leader.node, leader).is_some())
        // A copy for each would still leave too few.
        && answering(observed, leader) >= acks
        && quorum::fenceable(observed).have.contains(leader.node);
    if !helps {
        return None;
    }
    let expected = rejoin::acknowledging(observed, leader, policy) >= acks || is_incomplete(observed, leader);
    let patience = if expected { EXPECTED } else { HELD_UP };
    let rested = state.rested.is_some_and(|at| now.saturating_sub(at) < AGAIN);
    if rested || now.saturating_sub(since) < patience {
        return None;
    }
    let intent = Intent {
        kind: Kind::Rest,
        cause: Cause::CommitsWait,
        // There was none before a first master, and what is begun after it must not forget that.
        from: (!is_first(observed)).then(|| leader.node.clone()),
        to: Some(leader.node.clone()),
    };
    Some(take_term(state, observed, intent, since))
}

/// True while the first master is not recorded yet.
fn is_first(observed: &Observed) -> bool {
    let intent = observed.record.intent.as_ref();
    intent.is_some_and(|intent| intent.kind == Kind::Bootstrap || intent.from.is_none())
}

/// How many other nodes answer.
fn answering(observed: &Observed, leader: Leader<'_>) -> usize {
    let others = observed.nodes.iter().filter(|(node, _)| *node != leader.node);
    others.filter(|(_, view)| answers(view)).count()
}

fn answers(view: &NodeView) -> bool {
    view.server().is_some() || view.being_cloned().is_some()
}

/// True while another member does not answer: it may be whole.
fn is_incomplete(observed: &Observed, leader: Leader<'_>) -> bool {
    let mut members = observed.record.members.keys();
    members.any(|node| node != leader.node && !observed.nodes.get(node).is_some_and(answers))
}

/// What is begun where a resting master is lost: a failover where enough nodes answer for one, to no other node where
/// nobody fails over unasked; else the master is waited for, which alone holds everything. A first master is chosen
/// again from all members.
pub(crate) fn after(observed: &Observed, intent: &Intent, policy: &Policy) -> Intent {
    let (kind, to) = match (quorum::fenceable(observed).is_met(), &intent.from) {
        (false, _) => (Kind::Rest, intent.to.clone()),
        (true, None) => (Kind::Bootstrap, None),
        (true, Some(_)) if policy.fails_over() => (Kind::Failover, None),
        (true, Some(_)) => (Kind::Failover, intent.to.clone()),
    };
    Intent {
        kind,
        to,
        ..intent.clone()
    }
}

/// Ends the rest of a master that is lost before it was chosen.
pub(crate) fn falls_back(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    policy: &Policy,
    now: Millis,
) -> Option<Action> {
    let master = intent.to.as_ref().filter(|_| intent.kind == Kind::Rest)?;
    let is_gone = observed
        .nodes
        .get(master)
        .is_none_or(|view| matches!(view.pod, Pod::Missing));
    let replaceable = quorum::fenceable(observed).is_met() && (is_gone || is_late(state, now));
    if !replaceable && !led_before(state, observed, master, now) {
        return None;
    }
    let begun = state.begun.unwrap_or_default();
    Some(take_term(state, observed, after(observed, intent, policy), begun))
}

fn is_late(state: &State, now: Millis) -> bool {
    let recorded = state.marks.get("recorded");
    recorded.is_some_and(|at| now.saturating_sub(*at) >= RETURN)
}

/// The master itself, once it has confirmed its fence; `open` are the nodes that have not.
pub(crate) fn choose(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    open: Plan,
    now: Millis,
    report: &mut Report,
) -> Plan {
    let fenced = quorum::fenced(observed, observed.record.term);
    if !fenced.have.contains(master) {
        let why = fenced.missing.get(master).map_or("is no member", String::as_str);
        let text = format!("{master} to close, so that it can be copied; it {why}");
        report.waiting_for.push(text);
        if is_late(state, now) {
            report.decision = Decision::Blocked;
            report
                .waiting_for
                .extend(quorum::fenceable(observed).unsafe_because());
        }
        return open;
    }
    let holds = observed
        .nodes
        .get(master)
        .and_then(NodeView::server)
        .map(crate::ServerState::holds);
    state.candidate = Some((master.clone(), holds.unwrap_or_default()));
    let because = "it led before and holds every acknowledged write".to_owned();
    state.election = Some((because, std::collections::BTreeMap::new()));
    open
}

/// The copies to be made before `candidate` is promoted; `None` where it need not, or can no longer, be waited for them.
pub(crate) fn copy_first(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    (candidate, requires): (&NodeId, &GtidSet),
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Option<Plan> {
    let acks = observed.record.acks as usize;
    // A candidate that enough others equal can show what it holds and be read, whoever can follow it.
    let is_read = intent.kind != Kind::Rest && quorum::holders(observed, candidate, requires) >= acks;
    if is_read || intent.kind == Kind::Forced {
        return None;
    }
    let view = observed.nodes.get(candidate)?;
    let candidate = Leader {
        node: candidate,
        address: view.address()?,
        state: view.server()?,
        term: observed.record.term,
    };
    if rejoin::acknowledging(observed, candidate, policy) >= acks {
        return None;
    }
    let others = observed.nodes.iter().filter(|(node, _)| *node != candidate.node);
    let under_way = others.filter_map(|(_, view)| view.being_cloned());
    let attempts = under_way.map(|live| (live.volume.clone(), live.refused_clones));
    state.copies.extend(attempts);
    if state.copies.len() > COPIES {
        return None;
    }
    let mut plan = rejoin::followers(observed, candidate, &BTreeSet::new(), policy, report);
    plan.retain(|action| matches!(action, Action::Clone { .. } | Action::Fence { .. }));
    let drained = state.marks.get("drained").copied().unwrap_or(now);
    let fences = now.saturating_sub(drained) < FENCE && !plan.is_empty();
    let copies = plan.iter().any(|action| matches!(action, Action::Clone { .. }))
        || rejoin::copies(observed, candidate.node, candidate.node, candidate).is_some();
    if !fences && !copies {
        return None;
    }
    report.waiting_for.push(format!(
        "a copy of {}, which stays closed until enough other nodes can follow it",
        candidate.node
    ));
    Some(plan)
}
