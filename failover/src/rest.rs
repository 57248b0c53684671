//! A master that rests while it is copied.
//!
//! MySQL ends a copy of a server only once the commits that wait there have ended, and they end only once another node
//! acknowledges them. Where every other node has to be copied first, neither would ever happen. So a node that is to
//! be copied before anybody can follow it is copied while it is closed: a candidate before it is promoted, a master in
//! a term of its own, fenced (killed, where commits wait) and promoted again as soon as one node can follow it.
//!
//! Such a term needs no other node's fence. Its only candidate, which the record names, is the master of the term
//! before: all that was acknowledged until then it held when it was promoted or wrote itself, and once it is fenced
//! nobody else can acknowledge anything.

use crate::{
    Action, Cause, Durability, GtidSet, Intent, Kind, Millis, NodeId, NodeView, Observed, Plan, Pod, Policy,
    Report, Role, State, Term, quorum,
    rejoin::{self, Leader},
    step::take_term,
};

/// How long commits must have waited, in milliseconds.
const HELD_UP: Millis = 1000;
/// How long a master leads at least before it rests again, in milliseconds.
const AGAIN: Millis = 20_000;
/// How long a resting master may take to be fenced, in milliseconds: it may have to recover from a kill first.
const RETURN: Millis = 15_000;
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
    let is_copied = |action: &Action| matches!(action, Action::Clone { donor, .. } if donor == leader.node);
    // A master that leads may lower what it waits for instead, where that was allowed.
    let waits = policy.durability == Durability::Strict || observed.record.intent.is_some();
    let held_up = waiting > 0
        && waits
        && !policy.paused
        && rejoin::acknowledging(observed, leader, policy, None) < acks as usize
        && (plan.iter().any(is_copied)
            || rejoin::copies(observed, leader.node, leader.node, leader).is_some())
        && quorum::fenceable(observed).have.contains(leader.node);
    if !held_up {
        state.held_up_since = None;
        return None;
    }
    let since = *state.held_up_since.get_or_insert(now);
    let rested = state.rested.is_some_and(|at| now.saturating_sub(at) < AGAIN);
    if rested || now.saturating_sub(since) < HELD_UP {
        return None;
    }
    state.rested = Some(now);
    let intent = Intent {
        kind: Kind::Rest,
        cause: Cause::CommitsWait,
        from: Some(leader.node.clone()),
        to: Some(leader.node.clone()),
    };
    Some(take_term(state, observed, intent, since))
}

/// Ends the rest of a master that is lost before it is fenced: another one is needed.
pub(crate) fn falls_back(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    now: Millis,
) -> Option<Action> {
    let master = intent.to.as_ref().filter(|_| intent.kind == Kind::Rest)?;
    let since = *state.marks.entry("recorded").or_insert(now);
    let view = observed.nodes.get(master);
    let is_gone = view.is_none_or(|view| matches!(view.pod, Pod::Missing));
    if !is_gone && now.saturating_sub(since) < RETURN || !quorum::fenceable(observed).is_met() {
        return None;
    }
    let begun = state.begun.unwrap_or_default();
    let intent = Intent {
        kind: Kind::Failover,
        to: None,
        ..intent.clone()
    };
    Some(take_term(state, observed, intent, begun))
}

/// The master itself, once it has confirmed its fence; `open` are the nodes that have not.
pub(crate) fn choose(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    open: Plan,
    report: &mut Report,
) -> Plan {
    let term = observed.record.term;
    if !quorum::fenced(observed, term).have.contains(master) {
        report
            .waiting_for
            .push(format!("{master} to close, so that it can be copied"));
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
    term: Term,
    policy: &Policy,
    report: &mut Report,
) -> Option<Plan> {
    let acks = observed.record.acks as usize;
    // A candidate that enough others equal can show what it holds and be read, whoever can follow it.
    let is_read = intent.kind != Kind::Rest && quorum::holders(observed, candidate, requires) >= acks;
    if acks == 0 || is_read || intent.kind == Kind::Forced {
        return None;
    }
    let view = observed.nodes.get(candidate)?;
    let candidate = Leader {
        node: candidate,
        address: view.address()?,
        state: view.server()?,
        term,
    };
    if rejoin::acknowledging(observed, candidate, policy, None) > 0 {
        return None;
    }
    let others = observed.nodes.iter().filter(|(node, _)| *node != candidate.node);
    let under_way = others.filter_map(|(_, view)| view.live_report().filter(|live| live.cloning.is_some()));
    state.copies.extend(under_way.map(|live| live.volume.clone()));
    if state.copies.len() > COPIES {
        return None;
    }
    let mut copies = rejoin::followers(observed, candidate, policy, report);
    copies.retain(|action| matches!(action, Action::Clone { .. }));
    if copies.is_empty() && rejoin::copies(observed, candidate.node, candidate.node, candidate).is_none() {
        return None;
    }
    report.waiting_for.push(format!(
        "a copy of {}, which stays closed until another node can follow it",
        candidate.node
    ));
    Some(copies)
}
