//! What changed between two looks, one line each: for `status --watch` where nothing can be redrawn.

use super::model::View;
use super::words::and;

/// The lines, without a time before them.
pub fn between(before: &View, after: &View) -> Vec<String> {
    let mut all = Vec::new();
    for change in after
        .last_changes
        .iter()
        .rev()
        .filter(|change| !before.last_changes.iter().any(|known| known.term == change.term))
    {
        all.push(format!(
            "term {}: {} -> {} in {} ms, because {} ({})",
            change.term,
            change.from.as_deref().unwrap_or("none"),
            change.to,
            change.total_ms,
            change.cause.sentence(),
            change.sum()
        ));
    }
    all.extend(nodes(before, after));
    if before.routing != after.routing
        && let Some(routing) = &after.routing
    {
        let to = if routing.master_leads_to.is_empty() {
            "nowhere".to_owned()
        } else {
            format!("to {}", and(&routing.master_leads_to))
        };
        all.push(format!(
            "{} leads {to}; {} to {}",
            routing.master_service,
            routing.slaves_service,
            and(&routing.slaves_lead_to)
        ));
    }
    if before.operator != after.operator {
        all.push(format!("operator: {}", after.operator.state));
    }
    if (before.verdict, &before.sentence, before.safe_to_lose)
        != (after.verdict, &after.sentence, after.safe_to_lose)
    {
        all.push(format!(
            "{}  {} (safe to lose: {})",
            after.verdict.word(),
            after.sentence,
            after.safe_to_lose
        ));
    }
    if before.last_request != after.last_request
        && let Some(answer) = &after.last_request
    {
        all.push(format!("request answered: {}", answer.message));
    }
    all
}

fn nodes(before: &View, after: &View) -> Vec<String> {
    let mut all = Vec::new();
    for node in &after.nodes {
        let known = before.nodes.iter().find(|known| known.name == node.name);
        let same = known.is_some_and(|known| {
            (known.role, known.ready, &known.health) == (node.role, node.ready, &node.health)
        });
        if !same {
            let ready = if node.ready { "ready" } else { "not ready" };
            all.push(format!(
                "{}: {:?}, {ready}, {}",
                node.name, node.role, node.health
            ));
        }
    }
    for gone in &before.nodes {
        if !after.nodes.iter().any(|node| node.name == gone.name) {
            all.push(format!("{}: gone", gone.name));
        }
    }
    all
}
