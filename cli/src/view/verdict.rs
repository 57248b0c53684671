//! The judgement: one word and one sentence, from the status, the pods as they are now, and whether anybody looks
//! after them. What is doubtful is judged the worse way.

use api::DistributedDatabaseStatus;
use api::resource::Phase;
use failover::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::model::{Intended, Verdict, View};
use super::words::{and, count};
use crate::fetch::{Facts, Operator};

/// The judgement. Of the view all but verdict and warnings is ready.
pub fn of(view: &View, facts: &Facts) -> (Verdict, String) {
    let Some(status) = &facts.object.status else {
        return (Verdict::Down, unseen(view));
    };
    if let Some(mut why) = down(view, status) {
        if view.status_is_stale && !why.contains("no operator") {
            why.push_str(" No operator is at work, so this may be out of date.");
        }
        return (Verdict::Down, why);
    }
    if let Some(why) = at_risk(view, facts) {
        return (Verdict::AtRisk, why);
    }
    if let Some(why) = degraded(view, status) {
        return (Verdict::Degraded, why);
    }
    let master = view.master.as_deref().unwrap_or_default();
    let all = count(view.nodes.len(), "node");
    (Verdict::Healthy, format!("{master} leads and all {all} serve."))
}

/// A condition by its name.
pub fn condition<'a>(status: &'a DistributedDatabaseStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|one| one.type_ == kind)
}

fn holds(status: &DistributedDatabaseStatus, kind: &str) -> bool {
    condition(status, kind).is_some_and(|one| one.status == "True")
}

fn unseen(view: &View) -> String {
    match view.operator.state {
        "Absent" | "Silent" => "No operator is at work, so nothing was made of it yet.".to_owned(),
        _ => "The operator has not looked at it yet.".to_owned(),
    }
}

/// Why writes do not work, where they do not.
fn down(view: &View, status: &DistributedDatabaseStatus) -> Option<String> {
    let pods: Vec<_> = view.nodes.iter().filter_map(|node| node.pod.as_ref()).collect();
    let created = status.record.term.0 > 0;
    if created && !pods.is_empty() && pods.iter().all(|pod| !pod.ready) {
        return Some(format!("None of its {} is ready.", count(pods.len(), "pod")));
    }
    match status.phase {
        Phase::Pending => return Some(unseen(view)),
        Phase::Creating => return Some("The first master is being made.".to_owned()),
        Phase::FailingOver => {
            let why = view
                .change_under_way
                .as_ref()
                .map(|change| format!(", because {}", change.cause.sentence()))
                .unwrap_or_default();
            let rests = |change: &Intended| change.kind == Kind::Rest;
            return Some(if view.change_under_way.as_ref().is_some_and(rests) {
                format!("The master is closed while it is copied{why}; reads and writes wait until then.")
            } else {
                format!("The master changes{why}; writes wait until it has.")
            });
        }
        Phase::Down | Phase::Healthy | Phase::Degraded | Phase::Paused | Phase::Invalid => {}
    }
    let missing = view
        .last_resort
        .as_ref()
        .filter(|last| !last.missing.is_empty())
        .map(|last| format!(" Missing: {}.", last.missing.join(", ")))
        .unwrap_or_default();
    let paused = if view.paused {
        " The database is PAUSED."
    } else {
        ""
    };
    let Some(master) = &view.master else {
        return Some(format!(
            "There is no master, and none can be made safely now.{missing}{paused}"
        ));
    };
    let leader = view.nodes.iter().find(|node| node.name == *master);
    if view.status_is_stale && leader.is_some_and(|node| !node.ready) {
        let health = leader.map(|node| node.health.as_str()).unwrap_or_default();
        return Some(format!(
            "The master {master} does not serve ({health}), and no operator is at work to replace it."
        ));
    }
    if !missing.is_empty() {
        return Some(format!(
            "{master} has to be replaced, and that cannot be done safely now.{missing}{paused}"
        ));
    }
    if let Some(available) = condition(status, "Available").filter(|available| available.status == "False") {
        return Some(available.message.clone());
    }
    if status.phase == Phase::Down {
        return Some(format!(
            "{master} has to be replaced, and that cannot be done safely now.{paused}"
        ));
    }
    view.routing
        .as_ref()
        .filter(|routing| !routing.master_is_right)
        .map(|routing| {
            let to = if routing.master_leads_to.is_empty() {
                "nowhere".to_owned()
            } else {
                format!("to {}", and(&routing.master_leads_to))
            };
            format!(
                "{master} is the master, but the Service {} leads {to}, so clients cannot write through it.",
                routing.master_service
            )
        })
}

/// Why one more failure stops writes, where it does.
fn at_risk(view: &View, facts: &Facts) -> Option<String> {
    match &facts.operator {
        Operator::Absent => {
            return Some(
                "Writes work, but no operator is at work: a failed master is not replaced.".to_owned(),
            );
        }
        Operator::Silent { .. } => {
            return Some(
                "Writes work, but the operator is silent: a failed master is not replaced.".to_owned(),
            );
        }
        Operator::Alive { .. } | Operator::Unknown { .. } => {}
    }
    if view.safe_to_lose > 0 {
        return None;
    }
    let master = view.master.as_deref().unwrap_or_default();
    if view.paused {
        return Some(format!(
            "{master} leads, but the database is PAUSED: a failed master is not replaced."
        ));
    }
    let lowered = facts
        .object
        .status
        .as_ref()
        .and_then(|status| condition(status, "AtRisk"));
    if let Some(risk) = lowered.filter(|risk| risk.status == "True" && risk.reason == "DurabilityLowered") {
        return Some(format!("{master} leads. {}", risk.message));
    }
    if !facts.object.spec.failover.automatic {
        return Some(format!("{master} leads, but automatic failover is switched off."));
    }
    let missing: Vec<&str> = not_serving(view);
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "does" } else { "do" };
        return Some(format!(
            "{master} leads, but {} {verb} not serve: one more failure stops writes.",
            and(&missing)
        ));
    }
    if view.wanted < 3 {
        return Some(format!(
            "{master} leads, but a database of {} has none to spare.",
            count(view.wanted.unsigned_abs() as usize, "node")
        ));
    }
    Some(format!("{master} leads, but no node may fail now."))
}

fn degraded(view: &View, status: &DistributedDatabaseStatus) -> Option<String> {
    let master = view.master.as_deref().unwrap_or_default();
    if status.phase == Phase::Invalid {
        return Some(format!(
            "{master} leads, but the newest spec was refused; what ran before runs on."
        ));
    }
    let missing = not_serving(view);
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "does" } else { "do" };
        return Some(format!("{master} leads, but {} {verb} not serve.", and(&missing)));
    }
    if holds(status, "Degraded") {
        let why = condition(status, "Degraded").map(|one| one.message.clone())?;
        return Some(format!("{master} leads, but: {why}"));
    }
    if status.phase == Phase::Degraded {
        return Some(format!(
            "{master} leads and {} of {} serve.",
            view.nodes.iter().filter(|node| node.ready).count(),
            count(view.wanted.unsigned_abs() as usize, "node")
        ));
    }
    None
}

fn not_serving(view: &View) -> Vec<&str> {
    view.nodes
        .iter()
        .filter(|node| !node.ready)
        .map(|node| node.name.as_str())
        .collect()
}

/// What may fail now, in a sentence.
pub fn spare(view: &View) -> String {
    match view.safe_to_lose {
        ..=0 if view.verdict == Verdict::Down && view.term == 0 => "Writes do not work yet.".to_owned(),
        ..=0 if view.verdict == Verdict::Down => {
            "Writes do not work now; acknowledged data stays on the volumes.".to_owned()
        }
        ..=0 => "No node may fail now without stopping writes.".to_owned(),
        1 => "Any 1 node may fail now without stopping writes or losing acknowledged data.".to_owned(),
        more => format!("Any {more} nodes may fail now without stopping writes or losing acknowledged data."),
    }
}
