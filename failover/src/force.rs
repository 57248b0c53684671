//! A promotion without a quorum, for a majority that will not return. A person names the node and types the term.
//!
//! The typed term is a permission for one new term and for one node: the recorded intent names the candidate, so the
//! term has no other, whichever operator carries it on. All that answer are fenced first. What only the others hold is
//! given up, and the record remembers whose data that may be, so that none of it is ever taken for unacknowledged.

use crate::{
    Action, Cause, Decision, Force, Forced, GtidSet, Intent, Kind, Millis, NodeId, Observed, Plan, Policy,
    Record, Report, ServerState, State, Term, Wish,
    change::{cannot_execute, led_before},
    commanded,
    plan::LastResort,
    quorum::{self, Quorum},
    step::take_term,
};

/// A change of master that has enough nodes is left alone for so long before it may be forced.
const STUCK: Millis = 10_000;
/// The annotation's name, for the sentences that say what to type.
const ANNOTATION: &str = "ddb-operator.io/force-promote";

/// What comes of a wish.
enum Answer {
    /// Nothing yet.
    Wait,
    /// It is refused, or was carried out.
    Tell(bool, String),
    /// A term is taken for it.
    Take(NodeId),
}

/// Says what could be forced, and takes up or answers the wish for it.
pub(crate) fn consider(
    state: &mut State,
    observed: &Observed,
    policy: &Policy,
    plan: &mut Plan,
    report: &mut Report,
) {
    report.last_resort = last_resort(observed, report);
    let Some(wish) = &observed.asked.force else {
        return;
    };
    if plan.iter().any(|action| matches!(action, Action::Record { .. })) {
        return;
    }
    match judge(observed, policy, wish, report) {
        Answer::Wait => {}
        Answer::Tell(done, message) => plan.push(Action::Answer {
            wish: Wish::Force,
            done,
            message,
        }),
        Answer::Take(to) => {
            *plan = vec![take(state, observed, to)];
            report.decision = Decision::Changing;
        }
    }
}

/// What a person can do where a change of master is needed and cannot be made.
fn last_resort(observed: &Observed, report: &Report) -> Option<LastResort> {
    let record = &observed.record;
    if report.decision != Decision::Blocked || is_first(record) {
        return None;
    }
    let quorum = quorum::fenceable(observed);
    if quorum.is_met() && record.intent.is_none() {
        return None;
    }
    let candidates = quorum
        .have
        .iter()
        .filter(|node| !observed.asked.fence.contains(*node));
    let fullest = candidates
        .filter_map(|node| Some((node, held(observed, node)?)))
        .filter(|(_, set)| !set.is_empty())
        .max_by_key(|(node, set)| (set.count(), std::cmp::Reverse((*node).clone())));
    Some(LastResort {
        candidate: fullest.map(|(node, _)| node.clone()),
        term: record.term,
        missing: quorum.missing,
    })
}

/// True while there never was a master.
fn is_first(record: &Record) -> bool {
    record.size == 0
        || record
            .intent
            .as_ref()
            .is_some_and(|intent| intent.kind == Kind::Bootstrap)
}

fn held(observed: &Observed, node: &NodeId) -> Option<GtidSet> {
    observed
        .nodes
        .get(node)
        .and_then(|view| view.server())
        .map(ServerState::holds)
}

/// A member that answers and holds all that `node` holds and more.
fn fuller<'a>(observed: &Observed, quorum: &'a Quorum, node: &NodeId) -> Option<(&'a NodeId, u64)> {
    let own = held(observed, node)?;
    quorum
        .have
        .iter()
        .filter(|other| *other != node)
        .find_map(|other| {
            let theirs = held(observed, other)?;
            (theirs.contains(&own) && !own.contains(&theirs)).then(|| (other, theirs.subtract(&own).count()))
        })
}

fn judge(observed: &Observed, policy: &Policy, wish: &Force, report: &Report) -> Answer {
    let record = &observed.record;
    let (to, term) = (&wish.to, record.term);
    let refuse = |why: String| Answer::Tell(false, why);
    if let Some(intent) = &record.intent
        && intent.kind == Kind::Forced
        && intent.to.as_ref() == Some(to)
        && report.decision == Decision::Changing
    {
        return Answer::Wait;
    }
    if report.decision == Decision::Steady {
        let master = record.master.as_ref().map_or("nobody", NodeId::as_str);
        if master == to.as_str() {
            return Answer::Tell(true, format!("{to} leads in term {term}"));
        }
        return refuse(format!(
            "{master} leads in term {term} and is not known to be lost, so nothing is to be forced; for a change of \
             master that loses nothing, annotate with ddb-operator.io/promote={to}"
        ));
    }
    if is_first(record) || report.decision == Decision::Starting {
        return refuse("there was no master yet, so there is nothing to be forced".to_owned());
    }
    if wish.term != Some(term) {
        let typed = wish
            .term
            .map_or("no term".to_owned(), |term| format!("term {term}"));
        return refuse(format!(
            "{typed} was typed, and the current term is {term}; if writes that only the missing nodes hold may be \
             lost, annotate with {ANNOTATION}={to}@{term}"
        ));
    }
    if policy.paused {
        return refuse(commanded::PAUSED.to_owned());
    }
    let quorum = quorum::fenceable(observed);
    if quorum.is_met() && record.intent.is_none() {
        return refuse(format!(
            "enough nodes answer to change the master without a loss; annotate with ddb-operator.io/promote={to}"
        ));
    }
    if quorum.is_met() && report.decision == Decision::Changing && report.running_ms.unwrap_or(0) < STUCK {
        return Answer::Wait;
    }
    match unfit(observed, &quorum, to, term) {
        Some(why) => refuse(why),
        None => Answer::Take(to.clone()),
    }
}

/// Why a node may not be forced to lead, where it may not.
fn unfit(observed: &Observed, quorum: &Quorum, to: &NodeId, term: Term) -> Option<String> {
    if !observed.nodes.contains_key(to) {
        return Some(format!(
            "{}, so type {ANNOTATION}=<pod>@{term} with one of them",
            commanded::no_such_node(observed, to)
        ));
    }
    if observed.asked.fence.contains(to) {
        return Some(commanded::kept_closed(to));
    }
    let instead = quorum
        .have
        .iter()
        .find(|node| *node != to)
        .map(|node| format!("; {node} answers: {ANNOTATION}={node}@{term}"))
        .unwrap_or_default();
    if !quorum.have.contains(to) {
        let why = quorum.missing.get(to).map_or("is no member", String::as_str);
        return Some(format!("{to} cannot lead: it {why}{instead}"));
    }
    if let Some(why) = observed.nodes.get(to).and_then(cannot_execute) {
        return Some(format!("{to} cannot lead: it {why}{instead}"));
    }
    if held(observed, to).is_none_or(|set| set.is_empty()) {
        return Some(format!("{to} is empty and never leads{instead}"));
    }
    fuller(observed, quorum, to).map(|(other, more)| {
        format!(
            "{other} answers too and holds {more} transactions that {to} lacks; type {ANNOTATION}={other}@{term} \
             instead"
        )
    })
}

fn take(state: &mut State, observed: &Observed, to: NodeId) -> Action {
    let before = &observed.record;
    let from = before
        .master
        .clone()
        .or_else(|| before.intent.as_ref()?.from.clone());
    let begun = state.begun.unwrap_or_default();
    let unjudged = before.members.keys().filter(|node| **node != to).cloned();
    let unjudged = unjudged.collect();
    let intent = Intent {
        kind: Kind::Forced,
        cause: Cause::Requested,
        from,
        to: Some(to),
    };
    match take_term(state, observed, intent, begun) {
        Action::Record { record, completes } => {
            let forced = Some(Forced {
                term: record.term,
                unjudged,
            });
            Action::Record {
                record: Record { forced, ..record },
                completes,
            }
        }
        other => other,
    }
}

/// Ends the permission: the named node is lost before it leads, or enough nodes came back to do without it.
pub(crate) fn falls_back(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    now: Millis,
) -> Option<Action> {
    let to = intent.to.as_ref().filter(|_| intent.kind == Kind::Forced)?;
    let quorum = quorum::fenceable(observed);
    let needless = quorum.is_met() && fuller(observed, &quorum, to).is_some();
    if quorum.have.contains(to) && !needless && !led_before(state, observed, to, now) {
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

/// The named node, once every node that answers has confirmed its fence; `open` are those that have not.
pub(crate) fn choose(
    state: &mut State,
    observed: &Observed,
    to: &NodeId,
    open: Plan,
    report: &mut Report,
) -> Plan {
    let term = observed.record.term;
    report.waiting_for.extend(to_confirm(&open));
    let fenced = quorum::fenced(observed, term);
    if !open.is_empty() || !fenced.have.contains(to) {
        return open;
    }
    if let Some(why) = unfit(observed, &fenced, to, term) {
        report.decision = Decision::Blocked;
        report.waiting_for.push(why);
        return open;
    }
    let requires = held(observed, to).unwrap_or_default();
    state.candidate = Some((to.clone(), requires));
    state.election = Some((
        format!(
            "a person named it and typed the term; not asked: {}",
            names(&fenced)
        ),
        std::collections::BTreeMap::new(),
    ));
    open
}

/// What `open` fences are waited for.
pub(crate) fn to_confirm(open: &Plan) -> Vec<String> {
    let nodes = open.iter().filter_map(Action::node);
    nodes
        .map(|node| format!("{node}, which answers, to confirm its fence"))
        .collect()
}

/// What a forced promotion may have given up, in a sentence.
pub(crate) fn loss(observed: &Observed, intent: &Intent, master: &NodeId) -> Option<String> {
    let forced = observed
        .record
        .forced
        .as_ref()
        .filter(|_| intent.kind == Kind::Forced)?;
    let silent: Vec<&str> = forced
        .unjudged
        .iter()
        .filter(|node| {
            let live = observed.nodes.get(*node).and_then(|view| view.live_report());
            live.is_none_or(|report| report.fenced != Some(forced.term) && report.followed.is_none())
        })
        .map(NodeId::as_str)
        .collect();
    Some(if silent.is_empty() {
        format!("{master} was forced to lead, and all nodes were asked in the end")
    } else {
        format!(
            "{master} was forced to lead without asking {}: writes that only they hold, acknowledged or not, are given \
             up",
            silent.join(" and ")
        )
    })
}

fn names(quorum: &Quorum) -> String {
    let all: Vec<&str> = quorum.missing.keys().map(NodeId::as_str).collect();
    all.join(", ")
}

/// The record once the nodes that follow have been judged: what they hold is part of the master's by now.
pub(crate) fn judged(observed: &Observed, has_caught_up: impl Fn(&NodeId) -> bool) -> Option<Record> {
    let forced = observed.record.forced.as_ref()?;
    let mut unjudged = forced.unjudged.clone();
    unjudged.retain(|node| {
        let leads = observed.record.master.as_ref() == Some(node);
        !leads && !has_caught_up(node) && observed.record.members.contains_key(node)
    });
    if unjudged == forced.unjudged && !unjudged.is_empty() {
        return None;
    }
    let forced = (!unjudged.is_empty()).then(|| Forced {
        unjudged,
        ..forced.clone()
    });
    Some(Record {
        forced,
        ..observed.record.clone()
    })
}
