//! `status NAME` as text: the verdict first, then what it rests on.

use std::fmt::Write;

use api::resource::NodeRole;
use jiff::{SignedDuration, Timestamp};

use super::kept;
use super::model::{NodeView, View};
use super::table::table;
use super::verdict::spare;
use super::words::{ago, and, moment, wrap};

const WIDTH: usize = 110;
/// Changes of master that are shown; `history` shows all.
const SHOWN: usize = 3;
/// The operator writes moments of contact at least so often, so a younger one is as good as now.
const FRESH: SignedDuration = SignedDuration::from_secs(15);

/// The text.
pub fn text(view: &View, now: Timestamp) -> String {
    let mut text = format!(
        "{}  {}/{}: {}\n{}\n",
        view.verdict.word(),
        view.namespace,
        view.name,
        view.sentence,
        spare(view)
    );
    text.push_str(&written(view, now));
    let _ = write!(text, "\nNODES\n{}", nodes(view, now));
    let _ = write!(text, "\nROUTING\n{}", routing(view));
    let _ = write!(text, "\nLAST CHANGES OF MASTER\n{}", changes(view, now));
    if let Some(answer) = &view.last_request {
        let word = if answer.done { "done" } else { "refused" };
        let _ = writeln!(
            text,
            "  last request: {word}, {}: {}",
            ago(answer.at, now),
            answer.message
        );
    }
    let kept = kept::text(view, now, WIDTH);
    if !kept.is_empty() {
        let _ = write!(text, "\nKEPT TRANSACTIONS\n{kept}");
    }
    if !view.warnings.is_empty() {
        text.push_str("\nWARNINGS\n");
        for warning in &view.warnings {
            let _ = writeln!(
                text,
                "{}\n      {}",
                wrap(&format!("  ! {}", warning.text), WIDTH, 4),
                warning.command
            );
        }
    }
    if !view.unknown.is_empty() {
        text.push_str("\nNOT KNOWN\n");
        for what in &view.unknown {
            let _ = writeln!(text, "{}", wrap(&format!("  ? {what}"), WIDTH, 4));
        }
    }
    text
}

/// How far the status can be trusted.
fn written(view: &View, now: Timestamp) -> String {
    let at = view
        .status_written_at
        .map(|at| format!("{} UTC, {}", moment(at), ago(at, now)));
    match (view.operator.state, at) {
        ("Alive", _) => format!(
            "Term {}; the operator {} looks after it.\n",
            view.term,
            view.operator.holder.as_deref().unwrap_or_default()
        ),
        ("Unknown", Some(at)) => format!("Term {}; status last written {at}.\n", view.term),
        (_, Some(at)) => format!("Term {}; status is stale: last written {at}.\n", view.term),
        (_, None) => format!("Term {}.\n", view.term),
    }
}

fn nodes(view: &View, now: Timestamp) -> String {
    let rows: Vec<[String; 8]> = view.nodes.iter().map(|node| row(node, view, now)).collect();
    table(
        [
            "NODE",
            "ROLE",
            "READY",
            "GAP",
            "ADDRESS",
            "MACHINE",
            "LAST CONTACT",
            "HEALTH",
        ],
        &rows,
    )
}

fn row(node: &NodeView, view: &View, now: Timestamp) -> [String; 8] {
    let dash = || "-".to_owned();
    let contact = node.last_contact.map_or_else(dash, |at| {
        if !view.status_is_stale && node.ready && now.duration_since(at) < FRESH {
            "now".to_owned()
        } else {
            ago(at, now)
        }
    });
    [
        node.name.clone(),
        role(node.role).to_owned(),
        if node.ready { "yes" } else { "no" }.to_owned(),
        node.behind.map_or_else(dash, |behind| behind.to_string()),
        node.address.clone().unwrap_or_else(dash),
        node.machine.clone().unwrap_or_else(dash),
        contact,
        node.health.clone(),
    ]
}

fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Unknown => "unknown",
        NodeRole::Master => "master",
        NodeRole::Slave => "slave",
        NodeRole::Cloning => "cloning",
        NodeRole::Idle => "idle",
        NodeRole::Down => "down",
    }
}

fn routing(view: &View) -> String {
    let Some(routing) = &view.routing else {
        return "  cannot be read\n".to_owned();
    };
    let to = |pods: &[String]| {
        if pods.is_empty() {
            "nowhere".to_owned()
        } else {
            and(pods)
        }
    };
    let wrong = match &view.master {
        Some(master) if !routing.master_is_right => format!("   (wrong: the master is {master})"),
        None if !routing.master_leads_to.is_empty() => "   (there is no master now)".to_owned(),
        _ => String::new(),
    };
    let width = routing.master_service.len().max(routing.slaves_service.len());
    format!(
        "  {:width$}  leads to {}{wrong}\n  {:width$}  leads to {}\n",
        routing.master_service,
        to(&routing.master_leads_to),
        routing.slaves_service,
        to(&routing.slaves_lead_to),
    )
}

fn changes(view: &View, now: Timestamp) -> String {
    if view.last_changes.is_empty() {
        return "  none yet\n".to_owned();
    }
    view.last_changes
        .iter()
        .take(SHOWN)
        .fold(String::new(), |mut text, change| {
            let from = change.from.as_deref().unwrap_or("none");
            let _ = writeln!(
                text,
                "  term {}, {}: {from} -> {} in {} ms, because {}\n      {}",
                change.term,
                ago(change.at, now),
                change.to,
                change.total_ms,
                change.cause.sentence(),
                change.sum()
            );
            if let Some(loss) = &change.may_be_lost {
                let _ = writeln!(text, "{}", wrap(&format!("      BY FORCE: {loss}"), WIDTH, 6));
            }
            text
        })
}
