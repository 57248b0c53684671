//! The usual conditions. A condition's transition time changes only with its status.

use api::resource::{NodeStatus, Phase};
use failover::{Decision, Record, Report};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::handoff::Applied;

/// What conditions are made from.
pub struct Facts<'a> {
    pub before: &'a [Condition],
    pub applied: &'a Applied,
    pub report: &'a Report,
    pub record: &'a Record,
    pub nodes: &'a [NodeStatus],
    pub phase: Phase,
    pub safe: i32,
    pub wanted: usize,
    pub paused: bool,
    pub generation: Option<i64>,
    pub wall: Timestamp,
}

/// One condition before it gets its times.
struct Said {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

/// All conditions.
pub fn of(facts: &Facts<'_>) -> Vec<Condition> {
    [
        ready(facts),
        available(facts),
        progressing(facts),
        degraded(facts),
        at_risk(facts),
        paused(facts),
        valid(facts),
    ]
    .into_iter()
    .map(|said| dated(facts, said))
    .collect()
}

fn dated(facts: &Facts<'_>, said: Said) -> Condition {
    let status = if said.holds { "True" } else { "False" };
    let before = facts
        .before
        .iter()
        .find(|one| one.type_ == said.kind && one.status == status);
    Condition {
        type_: said.kind.to_owned(),
        status: status.to_owned(),
        reason: said.reason.to_owned(),
        message: said.message,
        observed_generation: facts.generation,
        last_transition_time: before
            .map_or_else(|| Time(facts.wall), |before| before.last_transition_time.clone()),
    }
}

fn serving(facts: &Facts<'_>) -> usize {
    facts.nodes.iter().filter(|node| node.ready).count()
}

/// The sentences about nodes that do not serve.
fn troubles(facts: &Facts<'_>) -> String {
    let all: Vec<String> = facts
        .nodes
        .iter()
        .filter(|node| !node.ready)
        .map(|node| {
            let what = if node.message.is_empty() {
                "does not serve yet"
            } else {
                &node.message
            };
            format!("{}: {what}", node.name)
        })
        .collect();
    all.join("; ")
}

fn ready(facts: &Facts<'_>) -> Said {
    let whole = facts.phase == Phase::Paused && serving(facts) >= facts.wanted;
    let holds = facts.phase == Phase::Healthy || whole;
    let message = if holds {
        format!("A master leads and all {} nodes serve.", facts.wanted)
    } else {
        format!(
            "{} of {} nodes serve. {}",
            serving(facts),
            facts.wanted,
            troubles(facts)
        )
    };
    Said {
        kind: "Ready",
        holds,
        reason: if holds {
            "AllNodesServe"
        } else {
            "NotAllNodesServe"
        },
        message,
    }
}

fn master_serves(facts: &Facts<'_>) -> bool {
    facts
        .record
        .master
        .as_ref()
        .is_some_and(|master| facts.nodes.iter().any(|node| node.name == *master && node.ready))
}

fn available(facts: &Facts<'_>) -> Said {
    let slaves = serving(facts).saturating_sub(1);
    let needed = facts.record.acks as usize;
    let (holds, reason, message) = match &facts.record.master {
        None => (false, "NoMaster", "There is no master now.".to_owned()),
        Some(master) if !master_serves(facts) => (
            false,
            "MasterNotServing",
            format!("The master {master} is not known to serve."),
        ),
        Some(master) if slaves < needed => (
            false,
            "WritesWait",
            format!(
                "Writes on {master} wait for slaves that must hold each one: {slaves} of {needed} follow."
            ),
        ),
        Some(master) => (
            true,
            "MasterServes",
            format!("{master} accepts and acknowledges writes."),
        ),
    };
    Said {
        kind: "Available",
        holds,
        reason,
        message,
    }
}

fn progressing(facts: &Facts<'_>) -> Said {
    let changing = matches!(facts.report.decision, Decision::Changing | Decision::Starting);
    let catching_up = facts.phase == Phase::Degraded && facts.record.master.is_some();
    let (reason, message) = match facts.report.decision {
        Decision::Changing => ("MasterChanges", waiting(facts, "The master changes.")),
        Decision::Starting => (
            "Starting",
            waiting(facts, "The first master waits for its nodes."),
        ),
        Decision::Steady if catching_up => ("NodesReturn", troubles(facts)),
        Decision::Steady => ("Settled", "Nothing is under way.".to_owned()),
        Decision::Blocked => ("Blocked", waiting(facts, "Nothing can be done safely.")),
    };
    Said {
        kind: "Progressing",
        holds: changing || catching_up,
        reason,
        message,
    }
}

fn waiting(facts: &Facts<'_>, first: &str) -> String {
    let mut message = first.to_owned();
    for what in &facts.report.waiting_for {
        message.push_str(" Waiting for: ");
        message.push_str(what);
        message.push('.');
    }
    message
}

fn degraded(facts: &Facts<'_>) -> Said {
    let lacking = serving(facts) < facts.wanted && facts.phase != Phase::Creating;
    let noted = !facts.report.notes.is_empty();
    let mut message = if lacking { troubles(facts) } else { String::new() };
    for note in &facts.report.notes {
        if !message.is_empty() {
            message.push(' ');
        }
        message.push_str(note);
    }
    let reason = match (lacking, noted) {
        (true, _) => "NodesLacking",
        (false, true) => "PathsLacking",
        (false, false) if facts.phase == Phase::Creating => {
            "The nodes are being created.".clone_into(&mut message);
            "Creating"
        }
        (false, false) => {
            "Every node serves.".clone_into(&mut message);
            "Whole"
        }
    };
    Said {
        kind: "Degraded",
        holds: lacking || noted,
        reason,
        message,
    }
}

fn at_risk(facts: &Facts<'_>) -> Said {
    let full = failover::record::acks_for(facts.record.size);
    if facts.record.acks < full && facts.record.master.is_some() {
        let master = facts
            .record
            .master
            .as_ref()
            .map_or("the master", |node| node.as_str());
        return Said {
            kind: "AtRisk",
            holds: true,
            reason: "DurabilityLowered",
            message: format!(
                "Slaves are missing, so a write is acknowledged when {} of them hold it instead of {full} \
                 (spec.durability: Available). What is written now may be lost with {master}.",
                facts.record.acks
            ),
        };
    }
    let holds = facts.safe <= 0;
    let message = if holds {
        "The loss of one more node stops writes.".to_owned()
    } else {
        format!(
            "{} may fail without stopping writes or losing acknowledged data.",
            plural(facts.safe)
        )
    };
    Said {
        kind: "AtRisk",
        holds,
        reason: if holds { "NoNodeToSpare" } else { "NodesToSpare" },
        message,
    }
}

fn paused(facts: &Facts<'_>) -> Said {
    let message = if facts.paused {
        "spec.paused is true: no failover, no change of master, no clone, no rollout, no change of size."
    } else {
        "The operator looks after the database."
    };
    Said {
        kind: "Paused",
        holds: facts.paused,
        reason: if facts.paused { "SpecPaused" } else { "NotPaused" },
        message: message.to_owned(),
    }
}

fn plural(nodes: i32) -> String {
    if nodes == 1 {
        "One node".to_owned()
    } else {
        format!("{nodes} nodes")
    }
}

fn valid(facts: &Facts<'_>) -> Said {
    match facts.applied {
        Applied::Invalid { problems } => Said {
            kind: "Valid",
            holds: false,
            reason: "Refused",
            message: problems.join("; "),
        },
        Applied::Done => Said {
            kind: "Valid",
            holds: true,
            reason: "Accepted",
            message: "The spec is applied.".to_owned(),
        },
        Applied::Failed { message } => Said {
            kind: "Valid",
            holds: true,
            reason: "NotAppliedYet",
            message: format!("The spec is accepted, but not all of it could be applied yet: {message}"),
        },
    }
}
