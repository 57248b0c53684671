//! How nodes come to follow the master: by replicating on, by cutting off what nobody acknowledged, or by a clone
//! where their data does not lead there.

use crate::{
    Action, Applier, ErrantPolicy, Followed, GtidSet, NodeId, NodeReport, NodeView, Observed, Policy,
    Receiver, Report, Role, ServerState, Session, Tail, Term,
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

/// What makes the other nodes follow; what cannot be done is noted in the report.
pub fn followers(
    observed: &Observed,
    leader: Leader<'_>,
    policy: &Policy,
    report: &mut Report,
) -> Vec<Action> {
    let others = observed.nodes.iter().filter(|(node, _)| *node != leader.node);
    others
        .filter_map(|(node, view)| follower(observed, node, view, leader, policy, report))
        .collect()
}

/// What stands between a node and the master.
#[derive(Debug, PartialEq, Eq)]
enum Gap {
    /// Its set is part of the master's, and the master still has the logs for the rest.
    None,
    /// It holds transactions that the master lacks.
    Errant(GtidSet),
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
    if let Some(cut) = cut(live, leader, node) {
        return Some(cut);
    }
    let state = view.server()?;
    if live.stopping || live.term > leader.term || follows_well(state, leader, node, report) {
        return None;
    }
    if let Role::Master { term, .. } = &state.role {
        // It was out of reach while it was replaced, and may still hold commits that wait.
        report.notes.push(format!(
            "{node}: still acts as the master of term {term} and is fenced before it follows"
        ));
        return Some(Action::Fence {
            node: node.clone(),
            term: leader.term,
            orderly: false,
        });
    }
    match gap(live, state, leader) {
        Gap::None => Some(Action::Follow {
            node: node.clone(),
            term: leader.term,
            source: leader.node.clone(),
            address: leader.address.to_owned(),
            until: leader.state.executed.clone(),
        }),
        Gap::Errant(extra) if policy.errant == ErrantPolicy::Quarantine => {
            report.notes.push(format!(
                "{node}: held, because it has transactions that the master lacks: {extra}"
            ));
            None
        }
        Gap::Errant(extra) => {
            let reason = format!("it has transactions that the master lacks: {extra}");
            Some(clone(observed, node, leader, reason, report))
        }
        Gap::Purged(missing) => {
            let reason = format!("the master no longer has the logs of {missing}");
            Some(clone(observed, node, leader, reason, report))
        }
    }
}

/// A killed master is not started before it was told what to keep: started, it would commit what nobody acknowledged.
/// Where it refuses, it starts as it is and is judged by its set.
fn cut(live: &NodeReport, leader: Leader<'_>, node: &NodeId) -> Option<Action> {
    let may = live.tail == Some(Tail::Held) && !live.stopping && live.term <= leader.term;
    may.then(|| Action::Cut {
        node: node.clone(),
        term: leader.term,
        keep: leader.state.executed.clone(),
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
            "{node}: stopped executing: {error}; `resync` or a clone mends it"
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

fn gap(live: &NodeReport, state: &ServerState, leader: Leader<'_>) -> Gap {
    let holds = state.holds();
    let extra = holds.subtract(&leader.state.executed);
    // What this node received from this very master in this term may still wait there for an acknowledgement and
    // be absent from the master's executed set; it is the master's own and no error.
    let extra = match &live.followed {
        Some(Followed { term, source }) if *term == leader.term && source == leader.node => {
            extra.without_server(&leader.state.uuid)
        }
        _ => extra,
    };
    if !extra.is_empty() {
        return Gap::Errant(extra);
    }
    let missing = leader.state.purged.subtract(&holds);
    if missing.is_empty() {
        Gap::None
    } else {
        Gap::Purged(missing)
    }
}

fn clone(
    observed: &Observed,
    node: &NodeId,
    leader: Leader<'_>,
    reason: String,
    report: &mut Report,
) -> Action {
    let (donor, address) = donor(observed, node, leader);
    report
        .notes
        .push(format!("{node}: is cloned from {donor}, because {reason}"));
    Action::Clone {
        node: node.clone(),
        term: leader.term,
        donor,
        address,
        reason,
    }
}

/// A slave in good standing, so that the master is spared; the master where there is none.
fn donor(observed: &Observed, node: &NodeId, leader: Leader<'_>) -> (NodeId, String) {
    let slaves = observed.nodes.iter().filter(|(other, view)| {
        *other != node
            && matches!(view.session, Session::Open { .. })
            && matches!(
                view.server(),
                Some(ServerState {
                    role: Role::Slave {
                        term,
                        caught_up: true,
                        receiver: Receiver::Receiving { .. },
                        applier: Applier::Running,
                        ..
                    },
                    ..
                }) if *term == leader.term
            )
    });
    let nearest = slaves
        .filter_map(|(other, view)| Some((other, view.address()?, view.server()?)))
        .min_by_key(|(_, _, state)| leader.state.executed.subtract(&state.executed).count());
    match nearest {
        Some((other, address, _)) => (other.clone(), address.to_owned()),
        None => (leader.node.clone(), leader.address.to_owned()),
    }
}
