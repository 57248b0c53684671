//! What people command of a led database: another master whichever, a node kept closed, a node cloned again, rest.
//! A command that would take the last complete copy or the only master away is refused with the reason.

use crate::{
    Action, Cause, Intent, Kind, Millis, NodeId, NodeView, Observed, Plan, Policy, Report, State, Switchover,
    Wish,
    quorum::{self, silence},
    rejoin::{self, Leader},
    resize,
    step::{follows, take_term},
};

/// How long a master that is to be closed, and whose heir could not take over, is left alone.
const ASIDE_AGAIN: Millis = 60_000;

/// The sentence of every refusal while the database rests.
pub(crate) const PAUSED: &str = "the database is paused; set spec.paused to false first";

/// The sentence where a node is named that there is none of.
pub(crate) fn no_such_node(observed: &Observed, node: &NodeId) -> String {
    let names: Vec<&str> = observed.nodes.keys().map(NodeId::as_str).collect();
    format!("there is no node {node}; the nodes are {}", names.join(", "))
}

/// The sentence where a node is asked for that a person keeps closed.
pub(crate) fn kept_closed(node: &NodeId) -> String {
    format!("{node} is fenced by hand; take it out of the annotation ddb-operator.io/fence first")
}

/// The switchover that is asked for, where it may be carried out.
pub(crate) fn switchover<'a>(observed: &'a Observed, policy: &Policy) -> Option<&'a Switchover> {
    observed.switchover.as_ref().filter(|_| !policy.paused)
}

/// The slave that lacks least of those that could take over from `master` in order.
pub(crate) fn heir(observed: &Observed, master: &NodeId) -> Result<NodeId, String> {
    let quorum = quorum::fenceable(observed);
    if let Some(reason) = quorum.unsafe_because() {
        return Err(reason);
    }
    let mut unable = Vec::new();
    let mut heirs = Vec::new();
    for (node, view) in observed.nodes.iter().filter(|(node, _)| *node != master) {
        let verdict = match view.server() {
            _ if observed.asked.fence.contains(node) => Err("is fenced by hand".to_owned()),
            None => Err(silence(view)),
            Some(_) if !quorum.have.contains(node) => Err("its data is not complete yet".to_owned()),
            Some(_) if view.pod.is_going() => Err("its pod is going".to_owned()),
            Some(state) => follows(state, master).map(|()| state.executed.count()),
        };
        match verdict {
            Ok(executed) => heirs.push((std::cmp::Reverse(executed), node.clone())),
            Err(why) => unable.push(format!("{node} ({why})")),
        }
    }
    heirs.into_iter().min().map(|(_, node)| node).ok_or_else(|| {
        let list = if unable.is_empty() {
            "there is none".to_owned()
        } else {
            unable.join(", ")
        };
        format!("no other node can lead: {list}")
    })
}

/// True where somebody asks for any other master and the present one cannot be asked to hand over.
pub(crate) fn replaces_doubtful(observed: &Observed, master: &NodeId, policy: &Policy) -> bool {
    let quorum = quorum::fenceable(observed);
    let others = quorum.have.iter().filter(|node| *node != master).count();
    switchover(observed, policy).is_some_and(|wish| wish.to.is_none()) && others >= quorum.needed
}

/// A master that is to be kept closed hands over first, where another node can lead.
pub(crate) fn step_aside(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Option<Action> {
    if !observed.asked.fence.contains(master) {
        return None;
    }
    let mut refuse = |why: &str| {
        report.notes.push(format!(
            "{master}: is to be fenced (ddb-operator.io/fence) but leads, and goes on leading: {why}"
        ));
        None
    };
    if policy.paused {
        return refuse("the database is paused");
    }
    if state
        .aside_tried
        .is_some_and(|at| now.saturating_sub(at) < ASIDE_AGAIN)
    {
        return refuse("its heir could not take over; it is tried again in a minute");
    }
    match heir(observed, master) {
        Err(why) => refuse(&why),
        Ok(to) => {
            state.aside_tried = Some(now);
            let intent = Intent {
                kind: Kind::Switchover,
                cause: Cause::Requested,
                from: Some(master.clone()),
                to: Some(to),
            };
            Some(take_term(state, observed, intent, now))
        }
    }
}

/// What is done with a node that is to be kept closed.
pub(crate) fn keep_closed(
    node: &NodeId,
    view: &NodeView,
    leader: Leader<'_>,
    report: &mut Report,
) -> Option<Action> {
    report.notes.push(format!(
        "{node}: is kept closed, because the annotation ddb-operator.io/fence names it"
    ));
    let live = view.live_report()?;
    (live.fenced != Some(leader.term) && live.term <= leader.term).then(|| Action::Fence {
        node: node.clone(),
        term: leader.term,
        orderly: false,
    })
}

/// A lost master that no other node may replace: it leads again when it comes back complete.
pub(crate) fn hold(
    state: &mut State,
    observed: &Observed,
    master: &NodeId,
    (kind, cause): (Kind, Cause),
    policy: &Policy,
    mut report: Report,
) -> (Plan, Report) {
    let view = observed.nodes.get(master);
    let live = view.and_then(NodeView::live_report);
    let stopping = live.is_some_and(|live| live.stopping);
    let is_back = view.is_some_and(|view| view.server().is_some() && !view.pod.is_going()) && !stopping;
    let reachable = quorum::fenceable(observed);
    let may = kind == Kind::Failover && is_back && !observed.asked.fence.contains(master);
    if may && reachable.have.contains(master) && reachable.is_met() {
        let intent = Intent {
            kind,
            cause,
            from: Some(master.clone()),
            to: Some(master.clone()),
        };
        let begun = state.begun.unwrap_or_default();
        report.decision = crate::Decision::Changing;
        return (vec![take_term(state, observed, intent, begun)], report);
    }
    report
        .waiting_for
        .push(format!("{master} to come back and lead again"));
    report.waiting_for.push(if policy.paused {
        "spec.paused to be set to false, before another node may lead".to_owned()
    } else {
        "automatic failover is switched off (spec.failover.automatic); annotate the resource with \
         ddb-operator.io/promote=<pod> to choose another master"
            .to_owned()
    });
    report.waiting_for.extend(reachable.unsafe_because());
    // Nobody will relieve it, so its pod need not wait for that.
    let release = stopping.then(|| Action::Release {
        node: master.clone(),
        term: observed.record.term,
    });
    (Vec::from_iter(release), report)
}

/// Ends the wait for a master that was to lead again, when another may.
pub(crate) fn released(
    state: &mut State,
    observed: &Observed,
    intent: &Intent,
    policy: &Policy,
) -> Option<Action> {
    if !intent.is_return() || state.candidate.is_some() || !quorum::fenceable(observed).is_met() {
        return None;
    }
    let wish = switchover(observed, policy).map(|wish| wish.to.clone());
    let to = match wish {
        Some(to) if to != intent.to => to,
        _ if policy.fails_over() => None,
        _ => return None,
    };
    let begun = state.begun.unwrap_or_default();
    let intent = Intent {
        kind: Kind::Failover,
        to,
        ..intent.clone()
    };
    Some(take_term(state, observed, intent, begun))
}

/// True where the wish for a new clone of `node` stands and may be carried out.
pub(crate) fn wants_resync(observed: &Observed, node: &NodeId, leader: Leader<'_>, policy: &Policy) -> bool {
    observed.asked.resync.as_ref() == Some(node)
        // A change that only waits for slaves may need the very node.
        && (observed.record.intent.is_none() || is_damaged(observed, node))
        && !has_begun(observed, node)
        && may_resync(observed, node, leader, policy).is_ok()
}

/// The data has a new life already, so the copy was begun; unless no copy can begin on it.
fn has_begun(observed: &Observed, node: &NodeId) -> bool {
    observed.is_whole(node) == Some(false) && !is_damaged(observed, node)
}

fn is_damaged(observed: &Observed, node: &NodeId) -> bool {
    let live = observed.nodes.get(node).and_then(|view| view.live_report());
    live.is_some_and(|live| live.damaged.is_some())
}

/// What comes of a wish for a new clone; nothing while it is being carried out.
pub(crate) fn answer_resync(observed: &Observed, master: &NodeId, policy: &Policy) -> Option<Action> {
    let node = observed.asked.resync.as_ref()?;
    let leader = Leader::of(observed, master, observed.record.term)?;
    let (done, message) = match may_resync(observed, node, leader, policy) {
        _ if has_begun(observed, node) => (true, format!("{node} is being copied anew")),
        Ok(()) => return None,
        Err(why) => (false, why),
    };
    Some(Action::Answer {
        wish: Wish::Resync,
        done,
        message,
    })
}

fn may_resync(observed: &Observed, node: &NodeId, leader: Leader<'_>, policy: &Policy) -> Result<(), String> {
    if policy.paused {
        return Err(PAUSED.to_owned());
    }
    let Some(view) = observed.nodes.get(node) else {
        return Err(no_such_node(observed, node));
    };
    if node == leader.node {
        return Err(format!(
            "{node} is the master and is not overwritten; move the master first: ddb-operator.io/promote=any"
        ));
    }
    if observed.asked.fence.contains(node) {
        return Err(kept_closed(node));
    }
    if resize::removed(observed, policy).contains(node) {
        return Err(format!("{node} is to go, because spec.nodes asks for fewer"));
    }
    if view.server().is_none() && !is_damaged(observed, node) {
        return Err(format!("{node} cannot be cloned: it {}", silence(view)));
    }
    let good = |node: &NodeId| {
        observed
            .nodes
            .get(node)
            .is_some_and(|view| rejoin::stands_well(view, leader))
    };
    let another = observed
        .nodes
        .keys()
        .any(|other| other != node && other != leader.node && good(other));
    if good(node) && !another {
        return Err(format!(
            "{node} is the only slave that holds everything; another slave has to be complete first"
        ));
    }
    let quorum = quorum::fenceable(observed);
    let left = quorum.have.iter().filter(|other| *other != node).count();
    if left < quorum.needed {
        return Err(format!(
            "{node} may hold the last copy of acknowledged writes: without it {left} nodes could be asked and {} are \
             needed",
            quorum.needed
        ));
    }
    Ok(())
}
