//! The second half of a change of master: the elected node drains, is copied where nobody could follow it otherwise, is
//! promoted and routed, and everybody follows.

use std::collections::BTreeSet;

use crate::{
    Action, Change, GtidSet, Intent, Kind, Millis, NodeId, Observed, Plan, Pod, Policy, Progress, Record,
    Report, State, Term, Wish,
    change::fences,
    force, quorum,
    rejoin::{self, Leader},
    rest,
};

/// The second half: drain, promote, route, and everybody follows.
pub(crate) fn install(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    (candidate, requires): (&NodeId, &GtidSet),
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Plan {
    let term = observed.record.term;
    if observed.service.leads_to(candidate, term) {
        state.marks.entry("led").or_insert(now);
    }
    let Some(leader) = Leader::of(observed, candidate, term) else {
        return promote(
            state,
            observed,
            intent,
            (candidate, requires),
            policy,
            now,
            report,
        );
    };
    state.marks.entry("drained").or_insert(now);
    state.marks.entry("promoted").or_insert(now);
    let mut plan = rejoin::followers(observed, leader, &BTreeSet::new(), policy, report);
    if let Some(action) = rest::begin(state, observed, leader, policy, &plan, now) {
        return vec![action];
    }
    if !leader.state.open {
        // The promotion broke off before its last statement; it is idempotent.
        report.waiting_for.push(format!("{candidate} to let clients in"));
        plan.push(Action::Promote {
            node: candidate.clone(),
            term,
            acks: observed.record.acks,
            requires: requires.clone(),
        });
        return plan;
    }
    let stamped = |view: &crate::NodeView| match &view.pod {
        Pod::Present {
            labelled_master,
            stamp,
            ..
        } => (*labelled_master, *stamp == term),
        Pod::Missing => (false, true),
    };
    let others_clear = observed
        .nodes
        .iter()
        .all(|(node, view)| (node == candidate || !stamped(view).0) && stamped(view).1);
    let copies = too_few_hold(observed, intent, (candidate, requires));
    if let Some(copies) = copies.filter(|_| !observed.service.leads_to(candidate, term)) {
        report.waiting_for.push(format!(
            "{} slaves to hold all that {candidate} shows ({copies} do)",
            observed.record.acks
        ));
        return plan;
    }
    plan.push(Action::Lead {
        node: candidate.clone(),
        term,
    });
    match observed.nodes.get(candidate).map(stamped) {
        Some((true, true)) if others_clear => plan.extend(complete(state, observed, intent, candidate, now)),
        Some((false, true)) if others_clear => {
            report
                .waiting_for
                .push(format!("clients to be led to {candidate}"));
            plan.push(Action::Route {
                node: candidate.clone(),
                term,
            });
        }
        _ => report
            .waiting_for
            .push("the label role=master to leave the other pods".to_owned()),
    }
    plan
}

/// What is to be done before the candidate leads: it executes everything, and then is promoted.
fn promote(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    (candidate, requires): (&NodeId, &GtidSet),
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Plan {
    let term = observed.record.term;
    let is_forced = intent.kind == Kind::Forced;
    let executed = observed
        .nodes
        .get(candidate)
        .and_then(|view| view.server())
        .map(|it| &it.executed);
    let drained = executed.is_some_and(|executed| executed.contains(requires));
    let node = candidate.clone();
    if !drained {
        report
            .waiting_for
            .push(format!("{candidate} to execute what it received"));
        return vec![Action::Drain { node, term }];
    }
    let few = too_few_hold(observed, intent, (candidate, requires));
    if few.is_some() && !observed.service.leads_to(candidate, term) {
        let hiding = hide(observed, candidate, term);
        if !hiding.is_empty() {
            report.waiting_for.push(format!(
                "clients to be led away from {candidate} until others hold what it holds"
            ));
            return hiding;
        }
    }
    if is_forced {
        // One that began to answer after the choice could still acknowledge.
        let mut open = fences(observed, term);
        open.retain(|action| action.node() != Some(candidate));
        if !open.is_empty() {
            report.waiting_for.extend(force::to_confirm(&open));
            return open;
        }
    }
    state.marks.entry("drained").or_insert(now);
    let copies = rest::copy_first(
        state,
        observed,
        intent,
        (candidate, requires),
        policy,
        now,
        report,
    );
    if let Some(copies) = copies {
        return copies;
    }
    report.waiting_for.push(format!("{candidate} to become master"));
    let view = observed.nodes.get(candidate);
    let knows = view.is_some_and(|view| view.is_promoted_in(term));
    let mut plan = vec![Action::Promote {
        node: node.clone(),
        term,
        acks: observed.record.acks,
        requires: requires.clone(),
    }];
    if knows && few.is_none() {
        // The network takes longer to lead clients there than the node to take writes. It shows all that was
        // acknowledged, and whatever comes of its promotion, it knows that it must let them go.
        plan.push(Action::Lead { node, term });
    }
    plan
}

/// How many others hold what the candidate shows, where that are too few for it to stay whatever fails next. After a
/// forced promotion those who would have to hold it are lost.
fn too_few_hold(
    observed: &Observed,
    intent: &Intent,
    (candidate, requires): (&NodeId, &GtidSet),
) -> Option<usize> {
    let copies = quorum::holders(observed, candidate, requires);
    (intent.kind != Kind::Forced && copies < observed.record.acks as usize).then_some(copies)
}

/// What is to be done before the node can open without being seen: neither its label nor the Service may lead to it,
/// and none of an older term may any more, however late it is carried out.
///
/// A Service that the term before this one led to its own master is right as it is: that term has no other candidate,
/// and whatever is older is refused already. Another write of it would cost a second, for which the network holds the
/// next one back.
fn hide(observed: &Observed, node: &NodeId, term: Term) -> Plan {
    let mut plan = Vec::new();
    let pod = observed.nodes.get(node).map(|view| &view.pod);
    if !matches!(pod, Some(Pod::Present { labelled_master: false, stamp, .. }) if *stamp == term) {
        let node = node.clone();
        plan.push(Action::Unlabel { node, term });
    }
    let service = &observed.service;
    let leads_here = service.to.as_ref() == Some(node);
    let settled_before = service.to.is_some() && service.term.next() == term;
    if leads_here || !(service.term == term || settled_before) {
        let node = node.clone();
        plan.push(Action::Withdraw { node, term });
    }
    plan
}

/// The change is complete: the record says so, and whoever asked is answered.
fn complete(state: &mut State, observed: &Observed, intent: &Intent, master: &NodeId, now: Millis) -> Plan {
    state.marks.entry("routed").or_insert(now);
    let begun = *state.begun.get_or_insert(now);
    let Progress { steps, candidate } = state.progress();
    let change = Change {
        term: observed.record.term,
        intent: intent.clone(),
        master: master.clone(),
        steps,
        total: now.saturating_sub(begun),
        may_be_lost: force::loss(observed, intent, master),
        kept: candidate.map(|(_, requires)| requires).unwrap_or_default(),
    };
    let loss = change.may_be_lost.clone();
    let record = Record {
        master: Some(master.clone()),
        intent: None,
        ..observed.record.clone()
    };
    let mut plan = vec![Action::Record {
        record,
        completes: Some(change),
    }];
    let leads = format!("{master} leads in term {}", observed.record.term);
    if intent.kind == Kind::Rest {
        // Nobody tried to carry a wish out meanwhile: it is taken up now.
        state.rested = Some(now);
        return plan;
    }
    if let Some(wish) = &observed.switchover {
        let done = match &wish.to {
            Some(to) => to == master,
            None => intent.from.as_ref() != Some(master),
        };
        let who = wish.to.as_ref().map_or("no other node", NodeId::as_str);
        let message = if done {
            leads.clone()
        } else {
            format!("{who} could not take over in time; {leads}")
        };
        plan.push(Action::Answer {
            wish: Wish::Promote,
            done,
            message,
        });
    }
    if let (Some(_), Some(loss)) = (&observed.asked.force, loss) {
        plan.push(Action::Answer {
            wish: Wish::Force,
            done: true,
            message: format!("{leads}; {loss}"),
        });
    }
    plan
}
