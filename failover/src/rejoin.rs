//! How nodes come to follow the master: by replicating on, by cutting off what nobody acknowledged, or by a clone
//! where their data does not lead there.

use std::collections::BTreeSet;

use crate::{
    Action, Applier, ErrantPolicy, GtidSet, NodeId, NodeReport, NodeView, Observed, Policy, Receiver, Report,
    Role, ServerState, Tail, Term, VolumeId, commanded, resize,
};

/// The master that nodes are to follow.
#[derive(Debug, Clone, Copy)]
pub struct Leader<'a> {
    /// Its name.
    pub node: &'a NodeId,
    /// Its address.
    pub address: &'a str,
    /// Its own words.
    pub state: &'a ServerState,
    /// Its term.
    pub term: Term,
}

impl<'a> Leader<'a> {
    /// The node as leader of `term`, where it says so itself and has an address.
    pub fn of(observed: &'a Observed, node: &'a NodeId, term: Term) -> Option<Self> {
        let view = observed.nodes.get(node)?;
        if !view.leads_in(term) {
            return None;
        }
        Some(Self {
            node,
            address: view.address()?,
            state: view.server()?,
            term,
        })
    }
}

/// What makes the other nodes follow but for those that are `left_out`, which must not keep others waiting either; what
/// cannot be done is noted in the report.
pub fn followers(
    observed: &Observed,
    leader: Leader<'_>,
    left_out: &BTreeSet<NodeId>,
    policy: &Policy,
    report: &mut Report,
) -> Vec<Action> {
    let record = &observed.record;
    // A name that the recorded quorum does not count yet may not acknowledge anything.
    let counts =
        |node: &NodeId| record.members.contains_key(node) || record.members.len() < record.size as usize;
    let others = observed
        .nodes
        .iter()
        .filter(|(node, _)| *node != leader.node && counts(node) && !left_out.contains(*node));
    let plan = others
        .filter_map(|(node, view)| {
            if observed.asked.fence.contains(node) {
                commanded::keep_closed(node, view, leader, report)
            } else {
                follower(observed, node, view, leader, policy, report)
            }
        })
        .collect();
    one_after_the_other(observed, plan)
}

/// Lets one copy of a donor begin at a time, and one node that is still whole lose its data. Refused attempts decide, and
/// the names of volumes, which change with every other, so that a node whose copies fail does not keep the others
/// waiting.
fn one_after_the_other(observed: &Observed, plan: Vec<Action>) -> Vec<Action> {
    let copy = |action: &Action| {
        let (node, donor) = match action {
            Action::Clone { node, donor, .. } => (node, Some(donor.clone())),
            Action::Discard { node, .. } => (node, None),
            _ => return None,
        };
        let live = observed.nodes.get(node)?.live_report()?;
        let turn = (live.refused_clones, live.volume.clone());
        Some((turn, donor, observed.is_whole(node) == Some(true)))
    };
    let copies: Vec<_> = plan.iter().filter_map(copy).collect();
    let begins = |action: &Action| {
        let Some((turn, donor, whole)) = copy(action) else {
            return true;
        };
        let stands_back = |(other, of, also): &((u32, VolumeId), Option<NodeId>, bool)| match (&donor, of) {
            (Some(donor), Some(of)) => *other < turn && (donor == of || (whole && *also)),
            // What is of no use can wait for what goes on.
            (Some(_), None) => false,
            (None, Some(_)) => whole && *also,
            (None, None) => *other < turn && whole && *also,
        };
        !copies.iter().any(stands_back)
    };
    plan.into_iter().filter(begins).collect()
}

/// How many nodes but `except` acknowledge what `leader` commits.
pub(crate) fn connected(observed: &Observed, leader: Leader<'_>, except: Option<&NodeId>) -> usize {
    let connected = |view: &NodeView| {
        let both = view.live_report().zip(view.server());
        both.is_some_and(|(live, state)| live.cloning.is_none() && is_connected(live, state, leader))
    };
    let others = observed.nodes.iter().filter(|(node, _)| Some(*node) != except);
    others.filter(|(_, view)| connected(view)).count()
}

/// How many nodes acknowledge what `leader` commits, or will as soon as they follow it.
pub(crate) fn acknowledging(observed: &Observed, leader: Leader<'_>, policy: &Policy) -> usize {
    let closed = resize::removed(observed, policy);
    let stays =
        |node: &NodeId| node != leader.node && !closed.contains(node) && !observed.asked.fence.contains(node);
    let others = observed.nodes.iter().filter(|(node, _)| stays(node));
    others
        .filter(|(_, view)| acknowledges(observed, view, leader, policy))
        .count()
}

fn acknowledges(observed: &Observed, view: &NodeView, leader: Leader<'_>, policy: &Policy) -> bool {
    let (Some(live), Some(state)) = (view.live_report(), view.server()) else {
        return false;
    };
    if live.cloning.is_some() || live.stopping || live.term > leader.term {
        return false;
    }
    is_connected(live, state, leader)
        || (is_settled(live, leader)
            && gap(&extra(observed, live, state, leader), state, leader, policy) == Gap::None)
}

/// True where the node receives from this master in this term.
fn is_connected(live: &NodeReport, state: &ServerState, leader: Leader<'_>) -> bool {
    let receives = matches!(
        state.role,
        Role::Slave {
            receiver: Receiver::Receiving { .. },
            ..
        }
    );
    receives && followed_this(live, leader)
}

/// True where the node acknowledges, or is about to, and writes would wait for it while it is cloned.
fn is_needed(
    observed: &Observed,
    node: &NodeId,
    live: &NodeReport,
    state: &ServerState,
    leader: Leader<'_>,
) -> bool {
    let receives = matches!(
        state.role,
        Role::Slave {
            receiver: Receiver::Receiving { .. } | Receiver::Connecting { .. },
            ..
        }
    );
    let Role::Master { acks, .. } = leader.state.role else {
        return false;
    };
    receives && followed_this(live, leader) && connected(observed, leader, Some(node)) < acks as usize
}

/// The node other than `except` that is being cloned, as far as can be told from `source`.
pub(crate) fn copies<'a>(
    observed: &'a Observed,
    source: &NodeId,
    except: &NodeId,
    leader: Leader<'_>,
) -> Option<&'a NodeId> {
    let mut others = observed.nodes.iter().filter(|(node, _)| *node != except);
    let copied = others
        .find(|(node, view)| view.being_cloned().is_some() && donor(observed, node, leader).0 == *source);
    copied.map(|(node, _)| node)
}

/// What stands between a node and the master.
#[derive(Debug, PartialEq, Eq)]
enum Gap {
    /// Its set is part of the master's, and the master still has the logs for the rest.
    None,
    /// It is empty, and the master has so many transactions.
    Empty(u64),
    /// It holds transactions that the master lacks.
    Errant,
    /// The master no longer has the logs that it needs.
    Purged(GtidSet),
}

fn follower(
    observed: &Observed,
    node: &NodeId,
    view: &NodeView,
    leader: Leader<'_>,
    policy: &Policy,
    report: &mut Report,
) -> Option<Action> {
    let live = view.live_report()?;
    if let Some(percent) = live.cloning {
        report
            .notes
            .push(format!("{node}: is being cloned, {percent} % done"));
        return None;
    }
    if let Some(cut) = cut(observed, live, leader, node) {
        return Some(cut);
    }
    if let (Some(why), None) = (&live.damaged, view.server()) {
        return discard(observed, (node, live, why), leader, policy, report);
    }
    let state = view.server()?;
    if live.stopping || live.term > leader.term {
        return None;
    }
    let resync = commanded::wants_resync(observed, node, leader, policy);
    if !resync && follows_well(state, leader, node, report) && extra(observed, live, state, leader).is_empty()
    {
        return None;
    }
    if !is_settled(live, leader) {
        if let Role::Master { term, .. } = &state.role {
            // It was out of reach while it was replaced, and may still hold commits that wait.
            report.notes.push(format!(
                "{node}: still acts as the master of term {term} and is fenced before it follows"
            ));
        }
        return Some(Action::Fence {
            node: node.clone(),
            term: leader.term,
            orderly: false,
        });
    }
    let extra = extra(observed, live, state, leader);
    if resync {
        let reason = if extra.is_empty() {
            "it was asked for".to_owned()
        } else {
            format!("it was asked for, without its own {extra}")
        };
        return clone(observed, (node, extra), leader, policy, reason, report);
    }
    match gap(&extra, state, leader, policy) {
        Gap::None => Some(Action::Follow {
            node: node.clone(),
            term: leader.term,
            source: leader.node.clone(),
            address: leader.address.to_owned(),
            until: leader.state.executed.clone(),
            whole: observed.is_whole(node) == Some(true),
        }),
        Gap::Errant if policy.errant == ErrantPolicy::Quarantine => {
            report.notes.push(format!(
                "{node}: held, because it has transactions that the master lacks: {extra}; annotate the resource with \
                 ddb-operator.io/resync={node} to have it keep them as a file only and clone it"
            ));
            None
        }
        Gap::Errant => {
            let reason = format!("it has transactions that the master lacks: {extra}");
            if is_needed(observed, node, live, state, leader) {
                report.notes.push(format!(
                    "{node}: is cloned when enough other nodes acknowledge writes, which would wait for it, because \
                     {reason}"
                ));
                return None;
            }
            clone(observed, (node, extra), leader, policy, reason, report)
        }
        Gap::Purged(missing) => {
            let reason = format!("the master no longer has the logs of {missing}");
            clone(observed, (node, extra), leader, policy, reason, report)
        }
        Gap::Empty(count) => {
            let reason = format!("it is empty, and a copy is quicker than {count} transactions");
            clone(observed, (node, extra), leader, policy, reason, report)
        }
    }
}

/// A killed master is not started before it was told what to keep: started, it would commit what nobody acknowledged.
/// Where it refuses, it starts as it is and is judged by its set.
///
/// After a forced promotion what the master lacks may have been acknowledged, so a node of that time is not cut.
fn cut(observed: &Observed, live: &NodeReport, leader: Leader<'_>, node: &NodeId) -> Option<Action> {
    let may = live.tail == Some(Tail::Held)
        && !live.stopping
        && live.term <= leader.term
        && !is_unjudged(observed, node);
    may.then(|| Action::Cut {
        node: node.clone(),
        term: leader.term,
        keep: leader.state.executed.clone(),
    })
}

/// True where a forced promotion gave the node up: it alone may hold what was acknowledged.
fn is_unjudged(observed: &Observed, node: &NodeId) -> bool {
    let forced = observed.record.forced.as_ref();
    forced.is_some_and(|forced| forced.unjudged.contains(node))
}

/// Data on which mysqld cannot run is no copy of anything, and the master has all that was acknowledged: the node
/// begins without it and is cloned like one whose volume was lost.
fn discard(
    observed: &Observed,
    (node, live, why): (&NodeId, &NodeReport, &String),
    leader: Leader<'_>,
    policy: &Policy,
    report: &mut Report,
) -> Option<Action> {
    let goes = resize::removed(observed, policy).contains(node);
    if live.stopping || live.term > leader.term || goes {
        return None;
    }
    let asked = commanded::wants_resync(observed, node, leader, policy);
    let waits = if policy.paused {
        Some("the database is paused".to_owned())
    } else if policy.errant == ErrantPolicy::Quarantine && !asked {
        Some(format!(
            "spec.failover.errantPolicy is Quarantine; annotate the resource with ddb-operator.io/resync={node} to make it anew"
        ))
    } else if is_unjudged(observed, node) && !asked {
        Some(format!(
            "it may hold writes that the forced promotion gave up; annotate the resource with \
             ddb-operator.io/resync={node} to make it anew"
        ))
    } else {
        let other = not_intact(
            observed,
            node,
            leader,
            policy,
            if asked {
                &[Some(false)]
            } else {
                &[Some(false), None]
            },
        );
        other.map(|other| format!("{other} does not answer or is not complete yet"))
    };
    if let Some(waits) = waits {
        report.notes.push(format!(
            "{node}: mysqld cannot run on its data ({why}), which is kept, because {waits}"
        ));
        return None;
    }
    report.notes.push(format!(
        "{node}: mysqld cannot run on its data ({why}), which is thrown away; it is cloned then"
    ));
    Some(Action::Discard {
        node: node.clone(),
        term: leader.term,
        reason: why.clone(),
    })
}

/// True when the node needs no command; what is wrong with it all the same is noted.
fn follows_well(state: &ServerState, leader: Leader<'_>, node: &NodeId, report: &mut Report) -> bool {
    let Role::Slave {
        term,
        source,
        address,
        receiver,
        applier,
        ..
    } = &state.role
    else {
        return false;
    };
    if *term != leader.term || source != leader.node || address != leader.address {
        return false;
    }
    if let Applier::Stopped { error } = applier
        && !error.is_empty()
    {
        report.notes.push(format!(
            "{node}: stopped executing: {error}; annotate the resource with ddb-operator.io/resync={node}, and it is cloned"
        ));
        return true;
    }
    match receiver {
        Receiver::Receiving { .. } => matches!(applier, Applier::Running),
        // An error that names no data is retried by MySQL itself; data is judged by the sets.
        Receiver::Connecting { .. } => true,
        Receiver::Stopped { .. } => false,
    }
}

/// True when what the node holds can be judged: nothing but this master's own writes can be added any more. A node
/// that was not there when the master changed may still lead or receive in an older term, and would grow between its
/// report and our command; it also refuses to follow while it accepts writes.
fn is_settled(live: &NodeReport, leader: Leader<'_>) -> bool {
    followed_this(live, leader) || live.fenced == Some(leader.term)
}

/// True when all that the node received since it was told to follow came from this master in this term.
fn followed_this(live: &NodeReport, leader: Leader<'_>) -> bool {
    live.followed
        .as_ref()
        .is_some_and(|told| told.term == leader.term && told.source == *leader.node)
}

/// The master's own transactions that nodes connected to it hold and that it has not committed yet.
fn waiting_there(observed: &Observed, leader: Leader<'_>) -> GtidSet {
    let mut all = GtidSet::new();
    for view in observed.nodes.values() {
        let (Some(live), Some(state)) = (view.live_report(), view.server()) else {
            continue;
        };
        if is_connected(live, state, leader) {
            let ahead = state.holds().subtract(&leader.state.executed);
            all = all.union(&ahead.subtract(&ahead.without_server(&leader.state.uuid)));
        }
    }
    all
}

/// The gap of a node that holds `extra`.
fn gap(extra: &GtidSet, state: &ServerState, leader: Leader<'_>, policy: &Policy) -> Gap {
    if !extra.is_empty() {
        return Gap::Errant;
    }
    let holds = state.holds();
    let missing = leader.state.purged.subtract(&holds);
    let count = leader.state.executed.count();
    if !missing.is_empty() {
        Gap::Purged(missing)
    } else if holds.is_empty() && count > policy.replay && !policy.paused {
        Gap::Empty(count)
    } else {
        Gap::None
    }
}

/// What the node holds and this master surely lacks.
fn extra(observed: &Observed, live: &NodeReport, state: &ServerState, leader: Leader<'_>) -> GtidSet {
    let extra = state.holds().subtract(&leader.state.executed);
    // What this node received from this very master in this term may still wait there for an acknowledgement and
    // be absent from the master's executed set; it is the master's own and no error.
    if followed_this(live, leader) {
        extra.without_server(&leader.state.uuid)
    } else if extra.is_empty() {
        extra
    } else {
        // So it is where it came by a clone of such a node: as that one is connected, the master has it.
        extra.subtract(&waiting_there(observed, leader))
    }
}

fn clone(
    observed: &Observed,
    (node, extra): (&NodeId, GtidSet),
    leader: Leader<'_>,
    policy: &Policy,
    reason: String,
    report: &mut Report,
) -> Option<Action> {
    if policy.paused {
        report.notes.push(format!(
            "{node}: is not cloned while the database is paused; {reason}"
        ));
        return None;
    }
    if let Some(other) = incomplete(observed, node, leader, policy) {
        report.notes.push(format!(
            "{node}: is cloned when {other} is complete, because {reason}"
        ));
        return None;
    }
    let (donor, address) = donor(observed, node, leader);
    if let Some(other) = copies(observed, &donor, node, leader) {
        // MySQL copies a server to one other at a time.
        report.notes.push(format!(
            "{node}: is cloned from {donor} after {other}, because {reason}"
        ));
        return None;
    }
    report
        .notes
        .push(format!("{node}: is cloned from {donor}, because {reason}"));
    Some(Action::Clone {
        node: node.clone(),
        term: leader.term,
        donor,
        address,
        extra,
        reason,
    })
}

/// Another member that answers and is not complete yet, while this node still holds what it acknowledged: one copy
/// after the other is made anew, never all at once.
fn incomplete<'a>(
    observed: &'a Observed,
    node: &NodeId,
    leader: Leader<'_>,
    policy: &Policy,
) -> Option<&'a NodeId> {
    not_intact(observed, node, leader, policy, &[Some(false)])
}

/// Another member of which one of `verdicts` is true, where this node holds what it acknowledged: whether it does too,
/// or `None` where it does not answer.
fn not_intact<'a>(
    observed: &'a Observed,
    node: &NodeId,
    leader: Leader<'_>,
    policy: &Policy,
    verdicts: &[Option<bool>],
) -> Option<&'a NodeId> {
    let removed = resize::removed(observed, policy);
    let intact = |node: &NodeId| {
        let view = observed.nodes.get(node)?;
        observed.record.members.get(node)?;
        let is_whole = observed.is_whole(node)? && view.being_cloned().is_none();
        Some(is_whole || has_caught_up(view, leader))
    };
    if intact(node) != Some(true) {
        return None;
    }
    let mut others = observed.record.members.keys();
    others.find(|other| *other != node && !removed.contains(*other) && verdicts.contains(&intact(other)))
}

pub(crate) fn has_caught_up(view: &NodeView, leader: Leader<'_>) -> bool {
    matches!(
        view.server().map(|state| &state.role),
        Some(Role::Slave { term, source, caught_up: true, .. }) if *term == leader.term && source == leader.node
    )
}

/// A slave that follows in this term, has caught up, receives and executes.
pub(crate) fn stands_well(view: &NodeView, leader: Leader<'_>) -> bool {
    let well = matches!(
        view.server().map(|state| &state.role),
        Some(Role::Slave {
            receiver: Receiver::Receiving { .. },
            applier: Applier::Running,
            ..
        })
    );
    well && has_caught_up(view, leader)
}

/// A slave in good standing, with nothing that the master lacks, so that the master is spared; the master where there is
/// none, and every other time after a refusal: that slave may be out of the node's reach, or far behind.
fn donor(observed: &Observed, node: &NodeId, leader: Leader<'_>) -> (NodeId, String) {
    let live = observed.nodes.get(node).and_then(NodeView::live_report);
    if live.is_some_and(|live| live.refused_clones % 2 == 1) {
        return (leader.node.clone(), leader.address.to_owned());
    }
    let slaves = observed.nodes.iter().filter(|(other, view)| {
        *other != node
            && stands_well(view, leader)
            && view
                .live_report()
                .zip(view.server())
                .is_some_and(|(live, state)| extra(observed, live, state, leader).is_empty())
    });
    let nearest = slaves
        .filter_map(|(other, view)| Some((other, view.address()?, view.server()?)))
        .min_by_key(|(_, _, state)| leader.state.executed.subtract(&state.executed).count());
    match nearest {
        Some((other, address, _)) => (other.clone(), address.to_owned()),
        None => (leader.node.clone(), leader.address.to_owned()),
    }
}
