//! What people see of a database: its status, computed purely from what was observed and decided.
//!
//! Only [`crate::cluster`] writes it, and only what this module computes.

mod conditions;
mod safe;

use std::collections::BTreeMap;

use api::kept::Kept;
use api::names;
use api::resource::{FailoverStatus, LastResortStatus, NodePace, NodeRole, NodeStatus, Phase, RequestStatus};
use api::{DistributedDatabase, DistributedDatabaseStatus};
use failover::{
    Applier, Decision, GtidSet, Millis, NodeId, NodeView, Observed, Policy, Receiver, Record, Report, Role,
    Server, ServerState, Session,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::{cluster::pace::Pace, handoff::Applied};

pub use safe::safe_to_lose;

/// Changes of master that are remembered.
const REMEMBERED: usize = 10;

/// Everything a status is made from.
pub struct Input<'a> {
    /// The resource with its former status.
    pub object: &'a DistributedDatabase,
    /// What came of applying it.
    pub applied: &'a Applied,
    /// What is observed; its record is the one to be written.
    pub observed: &'a Observed,
    /// What the engine makes of it.
    pub report: &'a Report,
    /// The policy in force.
    pub policy: &'a Policy,
    /// Why there is no session with a node, by node.
    pub troubles: &'a BTreeMap<NodeId, String>,
    /// The transactions that nodes keep as files, of those that said so.
    pub kept: &'a BTreeMap<NodeId, Kept>,
    /// Which slaves keep pace with the master.
    pub pace: &'a Pace,
    /// A change of master that this status completes.
    pub completes: Option<failover::Change>,
    /// An answer to a request that this status tells.
    pub answered: Option<(bool, String)>,
    /// The moment on the monotonic clock.
    pub now: Millis,
    /// The moment on the wall clock.
    pub wall: Timestamp,
}

/// The status.
pub fn status_of(input: Input<'_>) -> DistributedDatabaseStatus {
    let Input {
        object,
        applied,
        observed,
        report,
        policy,
        troubles,
        kept,
        pace,
        completes,
        answered,
        now,
        wall,
    } = input;
    let before = object.status.clone().unwrap_or_default();
    let record = &observed.record;
    let nodes: Vec<NodeStatus> = observed
        .nodes
        .iter()
        .map(|(name, view)| NodeStatus {
            kept: kept_by(name, kept, &before),
            ..node_status(name, view, observed, pace, troubles.get(name), now, wall)
        })
        .collect();
    let ready = nodes.iter().filter(|node| node.ready).count();
    let phase = phase_of(applied, report, observed, ready, policy);
    let safe = safe_to_lose(observed, policy);
    let mut explanation = explain(report);
    let last_resort = last_resort(object, report);
    if let Some(command) = last_resort.as_ref().and_then(|last| last.command.as_ref()) {
        explanation.push(format!(
            "If the missing nodes will not return, and writes that only they hold may be lost: {command}"
        ));
    }
    if let Applied::Failed { message } = applied {
        explanation.push(format!(
            "An object of the database could not be applied: {message}"
        ));
    }
    let mut last_failovers = before.last_failovers;
    if let Some(change) = completes {
        last_failovers.insert(
            0,
            FailoverStatus {
                at: Time(wall),
                change,
            },
        );
        last_failovers.truncate(REMEMBERED);
    }
    let last_request = match answered {
        Some((done, message)) => Some(RequestStatus {
            at: Time(wall),
            done,
            message,
        }),
        None => before.last_request,
    };
    let conditions = conditions::of(&conditions::Facts {
        before: &before.conditions,
        applied,
        report,
        record,
        nodes: &nodes,
        phase,
        safe,
        wanted: policy.nodes as usize,
        paused: policy.paused,
        generation: object.metadata.generation,
        wall,
    });
    DistributedDatabaseStatus {
        record: record.clone(),
        phase,
        observed_generation: object.metadata.generation,
        ready_nodes: small(ready),
        safe_to_lose: safe,
        selector: format!("{}={}", names::LABEL_CLUSTER, object.name_any()),
        nodes,
        conditions,
        last_failovers,
        explanation,
        last_request,
        last_resort,
    }
}

/// Who is missing, and the command that does without them.
fn last_resort(object: &DistributedDatabase, report: &Report) -> Option<LastResortStatus> {
    let last = report.last_resort.as_ref()?;
    let command = last.candidate.as_ref().map(|node| {
        format!(
            "kubectl annotate ddb {} -n {} --overwrite {}={node}@{}",
            object.name_any(),
            object.namespace().unwrap_or_else(|| "default".to_owned()),
            names::ANNOTATION_FORCE,
            last.term
        )
    });
    let missing = last.missing.iter().map(|(node, why)| format!("{node} ({why})"));
    Some(LastResortStatus {
        missing: missing.collect(),
        command,
    })
}

/// True when the statuses differ in more than what changes all the time: positions and moments of contact.
pub fn differs_materially(one: &DistributedDatabaseStatus, other: &DistributedDatabaseStatus) -> bool {
    still(one) != still(other)
}

fn still(status: &DistributedDatabaseStatus) -> DistributedDatabaseStatus {
    let mut status = status.clone();
    for node in &mut status.nodes {
        node.gtid_set = GtidSet::new();
        node.behind = None;
        node.last_contact = None;
    }
    status
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn phase_of(applied: &Applied, report: &Report, observed: &Observed, ready: usize, policy: &Policy) -> Phase {
    if matches!(applied, Applied::Invalid { .. }) {
        return Phase::Invalid;
    }
    match report.decision {
        Decision::Starting => Phase::Creating,
        Decision::Blocked => Phase::Down,
        Decision::Changing => match &observed.record.intent {
            Some(intent) if intent.from.is_none() => Phase::Creating,
            _ => Phase::FailingOver,
        },
        Decision::Steady if policy.paused => Phase::Paused,
        Decision::Steady if ready >= policy.nodes as usize => Phase::Healthy,
        Decision::Steady => Phase::Degraded,
    }
}

/// A failure in one line, with its sources.
pub fn sentence(error: &dyn std::error::Error) -> String {
    crate::lease::chain(error)
}

/// The report in sentences.
pub fn explain(report: &Report) -> Vec<String> {
    // The milliseconds it has been running change all the time; they are in the record of the finished change.
    let Report {
        decision,
        chosen,
        rejected,
        waiting_for,
        notes,
        running_ms: _,
        // Told with the database's name, which the engine does not know.
        last_resort: _,
    } = report;
    let mut all = vec![
        match decision {
            Decision::Steady => "The master leads; nothing is to be decided.",
            Decision::Changing => "The master changes.",
            Decision::Blocked => "A change of master is needed and cannot be made safely.",
            Decision::Starting => "The first master waits for its nodes.",
        }
        .to_owned(),
    ];
    all.extend(
        chosen
            .iter()
            .map(|(node, why)| format!("Chosen: {node}, because {why}.")),
    );
    all.extend(
        rejected
            .iter()
            .map(|(node, why)| format!("Not chosen: {node}, because {why}.")),
    );
    all.extend(waiting_for.iter().map(|what| format!("Waiting for: {what}.")));
    all.extend(notes.iter().cloned());
    all
}

/// True when a node serves its role: the master leads in the record's term, or a slave follows it, caught up.
pub fn serves(name: &NodeId, view: &NodeView, record: &Record) -> bool {
    let Some(server) = view.server() else { return false };
    if !server.open || view.address().is_none() {
        return false;
    }
    match &server.role {
        Role::Master { term, .. } => record.master.as_ref() == Some(name) && *term == record.term,
        Role::Slave {
            caught_up,
            receiver,
            applier,
            ..
        } => {
            *caught_up
                && matches!(receiver, Receiver::Receiving { .. })
                && matches!(applier, Applier::Running)
                && record.master.as_ref() != Some(name)
        }
        Role::Idle => false,
    }
}

fn node_status(
    name: &NodeId,
    view: &NodeView,
    observed: &Observed,
    pace: &Pace,
    trouble: Option<&String>,
    now: Millis,
    wall: Timestamp,
) -> NodeStatus {
    let record = &observed.record;
    let server = view.server();
    let leads = record.master.as_ref() == Some(name);
    // One that leads because nobody else can is not closed.
    let closed = observed.asked.fence.contains(name) && !leads;
    let led_by = record
        .master
        .as_ref()
        .filter(|_| !leads)
        .and_then(|master| observed.nodes.get(master))
        .and_then(NodeView::server);
    let behind = led_by.zip(server).map(|(master, server)| {
        i64::try_from(master.executed.subtract(&server.executed).count()).unwrap_or(i64::MAX)
    });
    NodeStatus {
        name: name.clone(),
        role: node_role(view, record, name),
        ready: serves(name, view, record) && !closed,
        address: view.address().map(str::to_owned),
        version: server.map(|server| server.version.clone()),
        gtid_set: server.map(ServerState::holds).unwrap_or_default(),
        behind,
        pace: if leads { NodePace::Executes } else { pace.of(name) },
        message: if closed {
            format!("kept closed by the annotation {}", names::ANNOTATION_FENCE)
        } else {
            message_of(view, record, name, trouble)
        },
        last_contact: heard(view, now, wall).map(Time),
        kept: None,
    }
}

/// What the node keeps; as it was known last where it has not said it to this operator yet.
fn kept_by(node: &NodeId, kept: &BTreeMap<NodeId, Kept>, before: &DistributedDatabaseStatus) -> Option<Kept> {
    let known = || {
        let mut nodes = before.nodes.iter();
        nodes.find(|known| known.name == *node)?.kept.clone()
    };
    kept.get(node)
        .cloned()
        .or_else(known)
        .filter(|kept| kept.count > 0)
}

fn heard(view: &NodeView, now: Millis, wall: Timestamp) -> Option<Timestamp> {
    let at = match view.session {
        Session::Never => return None,
        Session::Open { heard } => heard,
        Session::Broken { since } => since,
    };
    let ago = SignedDuration::from_millis(i64::try_from(now.saturating_sub(at)).ok()?);
    // Whole seconds, so that the same moment is the same text at every write.
    let at = wall.checked_sub(ago).ok()?;
    Timestamp::from_second(at.as_second()).ok()
}

fn node_role(view: &NodeView, record: &Record, name: &NodeId) -> NodeRole {
    let Some(report) = view.live_report() else {
        return if matches!(view.session, Session::Broken { .. }) {
            NodeRole::Down
        } else {
            NodeRole::Unknown
        };
    };
    if report.cloning.is_some() {
        return NodeRole::Cloning;
    }
    match &report.server {
        Server::Down { .. } | Server::Starting | Server::Hung { .. } => NodeRole::Down,
        Server::Up(state) => match state.role {
            Role::Master { term, .. } if term == record.term && record.master.as_ref() == Some(name) => {
                NodeRole::Master
            }
            Role::Master { .. } | Role::Idle => NodeRole::Idle,
            Role::Slave { .. } => NodeRole::Slave,
        },
    }
}

/// What is wrong or under way with a node, in a sentence; empty where all is well.
fn message_of(view: &NodeView, record: &Record, name: &NodeId, trouble: Option<&String>) -> String {
    let Some(report) = view.live_report() else {
        let why = trouble.map(|why| format!(": {why}")).unwrap_or_default();
        return match (&view.pod, view.session) {
            (failover::Pod::Missing, _) => "there is no pod of that name".to_owned(),
            (_, Session::Never) => format!("not heard of yet{why}"),
            (_, _) => format!("the session is broken{why}"),
        };
    };
    if let Some(percent) = report.cloning {
        return format!("copies another node's data, {percent} % done");
    }
    if report.stopping {
        return "the pod shuts down".to_owned();
    }
    if let Some(why) = &report.closed {
        return format!("has closed itself to clients: {why}");
    }
    let state = match &report.server {
        Server::Down { cause } => return format!("mysqld does not run: {cause}"),
        Server::Starting => return "mysqld starts".to_owned(),
        Server::Hung { silent_ms: _ } => {
            return "mysqld runs but does not answer, or its volume takes no writes".to_owned();
        }
        Server::Up(state) => state,
    };
    if let Some(error) = &state.stuck {
        return format!("does not execute what it receives: {error}");
    }
    match &state.role {
        Role::Master { waiting, .. } if *waiting > 0 && !state.open => "closed to clients".to_owned(),
        Role::Master { term, .. } if *term != record.term || record.master.as_ref() != Some(name) => {
            format!("still acts as the master of term {term}")
        }
        Role::Master { .. } => String::new(),
        Role::Idle => "neither leads nor follows".to_owned(),
        Role::Slave {
            receiver,
            applier,
            caught_up,
            ..
        } => slave_message(receiver, applier, *caught_up),
    }
}

fn slave_message(receiver: &Receiver, applier: &Applier, caught_up: bool) -> String {
    let because = |error: &str| {
        if error.is_empty() {
            String::new()
        } else {
            format!(": {error}")
        }
    };
    match (receiver, applier) {
        (_, Applier::Stopped { error }) => format!("does not execute what it receives{}", because(error)),
        (Receiver::Stopped { error }, _) => format!("does not receive{}", because(error)),
        (Receiver::Connecting { error }, _) => format!("cannot connect to the master{}", because(error)),
        (Receiver::Receiving { .. }, _) if !caught_up => "catches up with the master".to_owned(),
        (Receiver::Receiving { .. }, _) => String::new(),
    }
}

#[cfg(test)]
mod tests;
