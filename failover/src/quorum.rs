//! Which nodes count, and whether they are enough.
//!
//! A write is acknowledged when the master and W slaves hold it, so W + 1 of the N names hold it. Any N − W members
//! share at least one name with those, therefore N − W fenced members prove two things at once: the old master can
//! get no further write acknowledged, and every acknowledged write is in one of their sets. A member whose volume
//! was replaced has forgotten what it acknowledged and does not count until it has been entered again.

use std::collections::BTreeMap;

use crate::{GtidSet, NodeId, NodeView, Observed, Role, Server, ServerState, Session, Term};

/// The members that count towards a fence quorum, and why the others do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// How many are needed.
    pub needed: usize,
    /// The members that count.
    pub have: Vec<NodeId>,
    /// The others, each with the reason.
    pub missing: BTreeMap<NodeId, String>,
}

impl Quorum {
    /// True when there are enough.
    pub fn is_met(&self) -> bool {
        self.have.len() >= self.needed
    }

    /// Why it is unsafe to go on, in a sentence, where it is.
    pub fn unsafe_because(&self) -> Option<String> {
        (!self.is_met()).then(|| {
            let missing: Vec<String> = self.missing.iter().map(|(node, why)| format!("{node} ({why})")).collect();
            format!(
                "{} of the nodes that hold acknowledged writes are needed and only {} can be asked; missing: {}",
                self.needed,
                self.have.len(),
                if missing.is_empty() { "none is known".to_owned() } else { missing.join(", ") },
            )
        })
    }
}

/// The members that could be fenced now: their MySQL answers and their data is what they acknowledged with.
pub fn fenceable(observed: &Observed) -> Quorum {
    collect(observed, |view| {
        view.server().map(|_| ()).ok_or_else(|| silence(view))
    })
}

/// The members that have confirmed a fence in `term`.
pub fn fenced(observed: &Observed, term: Term) -> Quorum {
    collect(observed, |view| match view.live_report() {
        _ if view.server().is_none() => Err(silence(view)),
        Some(report) if report.fenced == Some(term) => Ok(()),
        _ => Err("has not confirmed its fence".to_owned()),
    })
}

/// The states of the members that are fenced in `term`.
pub fn fenced_states(observed: &Observed, term: Term) -> BTreeMap<NodeId, &ServerState> {
    let names = fenced(observed, term).have;
    names
        .into_iter()
        .filter_map(|node| Some((node.clone(), observed.nodes.get(&node)?.server()?)))
        .collect()
}

/// How many nodes but `leader` are known to hold `wanted`, whether they answer now or not.
///
/// What a new master inherited may never have been acknowledged. Once W others hold it, it is as safe as what was,
/// and nobody who reads it at the master can see it vanish with the next failover.
///
/// One that does not answer counts by its last report where it led or followed in the term before this one. From any
/// other node the master of that term may have had taken away what it lacks itself, with another operator.
pub fn holders(observed: &Observed, leader: &NodeId, wanted: &GtidSet) -> usize {
    let holds = |view: &NodeView| {
        let is_open = matches!(view.session, Session::Open { .. });
        view.report.as_ref().is_some_and(|report| {
            let is_late = report.term.next() < observed.record.term;
            let Server::Up(state) = &report.server else {
                return false;
            };
            let stays = is_open || !(is_late || state.role == Role::Idle);
            stays && state.holds().contains(wanted)
        })
    };
    observed
        .nodes
        .iter()
        .filter(|(node, view)| *node != leader && holds(view))
        .count()
}

fn collect(observed: &Observed, counts: impl Fn(&NodeView) -> Result<(), String>) -> Quorum {
    let mut have = Vec::new();
    let mut missing = BTreeMap::new();
    for (node, volume) in &observed.record.members {
        let verdict = match observed.nodes.get(node) {
            None => Err("does not exist".to_owned()),
            Some(NodeView {
                report: Some(report), ..
            }) if report.volume != *volume => {
                Err("its volume was replaced and is not complete yet".to_owned())
            }
            Some(view) => counts(view),
        };
        match verdict {
            Ok(()) => have.push(node.clone()),
            Err(why) => _ = missing.insert(node.clone(), why),
        }
    }
    Quorum {
        needed: observed.record.fence_quorum(),
        have,
        missing,
    }
}

/// Why a node's MySQL cannot be asked, in words.
pub fn silence(view: &NodeView) -> String {
    match (&view.session, &view.report) {
        (Session::Never, _) => "was not reached yet".to_owned(),
        (Session::Broken { .. }, _) => "does not answer".to_owned(),
        (Session::Open { .. }, None) => "has not reported yet".to_owned(),
        (Session::Open { .. }, Some(report)) => match &report.server {
            Server::Down { cause } => format!("its mysqld is down: {cause}"),
            Server::Starting => "its mysqld is starting".to_owned(),
            Server::Hung { silent_ms } => format!("its mysqld has not answered for {silent_ms} ms"),
            Server::Up(state) => match &state.role {
                Role::Idle => "neither leads nor follows".to_owned(),
                Role::Master { term, .. } => format!("leads in term {term}"),
                Role::Slave { source, .. } => format!("follows {source}"),
            },
        },
    }
}
