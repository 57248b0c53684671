//! How the demonstration is shown. No decision is made here.

use std::time::Duration;

use crate::{
    clock::millis,
    database::Node,
    facts::FailoverFacts,
    screen::{Screen, Tone, seconds, thousands},
    storm::Aftermath,
    watcher::{Watcher, What},
};

use super::{NAME, NAMESPACE};

/// Milliseconds below ten seconds, seconds above.
pub fn ms(span: Duration) -> String {
    let value = millis(span);
    if value < 10_000 {
        format!("{value:>5} ms")
    } else {
        format!("{:>8}", seconds(value))
    }
}

/// Shows what the watch sees, until dropped.
pub async fn follow(screen: &Screen, watcher: &Watcher) {
    let mut shown = 0;
    let mut phase_shown = String::new();
    loop {
        let changes = watcher.changes();
        for change in &changes[shown..] {
            match &change.what {
                What::Role { pod, role: None } => screen.fact(pod, &format!("{} created", ms(change.at))),
                What::Role {
                    pod,
                    role: Some(role),
                } => screen.fact(pod, &format!("{} {role}", ms(change.at))),
                What::Status { phase, .. } if *phase != phase_shown => {
                    phase_shown.clone_from(phase);
                    screen.fact("phase", &format!("{} {phase}", ms(change.at)));
                }
                What::Status { .. } | What::Gone { .. } | What::Completed(_) => {}
            }
        }
        shown = changes.len();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The failover, step by step.
pub fn timeline(screen: &Screen, facts: &FailoverFacts, steps: &[(String, u64)], healed: Duration) {
    screen.line("");
    screen.line("  the operator's account            since first evidence");
    let longest = steps.iter().map(|(_, end)| *end).max().unwrap_or(1).max(1);
    let mut begun = 0;
    for (name, end) in steps {
        let before = bar(begun, longest);
        let bar = screen.paint(
            Tone::Good,
            &"█".repeat(bar(*end, longest).saturating_sub(before).max(1)),
        );
        screen.line(&format!("  {name:<12} {end:>6} ms  {}{bar}", " ".repeat(before)));
        begun = *end;
    }
    screen.line("");
    screen.fact("new master", &format!("{} (was {})", facts.to, facts.from));
    screen.fact(
        "writer's outage",
        &screen.paint(Tone::Bold, &format!("{} ms", facts.outage_ms)),
    );
    screen.fact("every node ready again", ms(healed).trim_start());
}

fn bar(millis: u64, longest: u64) -> usize {
    usize::try_from(millis * 30 / longest).unwrap_or(30)
}

/// The proof.
pub fn proof(screen: &Screen, aftermath: &Aftermath) {
    let Aftermath {
        proof, before, after, ..
    } = aftermath;
    screen.heading("5  Proof, read from every node");
    screen.line("  node          before    after     acknowledged writes found   rows");
    for node in &proof.nodes {
        let was = role(before, &node.name);
        let is = role(after, &node.name);
        let found = format!("{} of {}", thousands(node.found), thousands(proof.acknowledged));
        let rows = node.rows.values().sum::<i64>();
        let rows = thousands(usize::try_from(rows).unwrap_or(0));
        screen.line(&format!(
            "  {:<13} {was:<9} {is:<9} {found:>27}   {rows}",
            node.name
        ));
    }
    screen.line("");
    let lost = proof.lost();
    screen.verdict("acknowledged writes lost", lost == 0, &thousands(lost));
    let tables = proof.nodes.first().map_or(0, |node| node.checksums.len());
    let equal = if proof.checksums_equal() {
        "equal"
    } else {
        "different"
    };
    screen.verdict(
        "checksums on every node",
        proof.checksums_equal(),
        &format!("{equal} ({tables} tables)"),
    );
    let unanswered = proof.unknown + proof.refused;
    screen.fact(
        "writes without acknowledgement",
        &format!("{unanswered}, reported to the client as failed"),
    );
}

fn role(nodes: &[Node], name: &str) -> String {
    let node = nodes.iter().find(|node| node.name == name);
    node.and_then(|node| node.role.clone())
        .unwrap_or_else(|| "-".to_owned())
}

/// What to try next.
pub fn next(screen: &Screen, context: Option<&str>) {
    screen.heading("The database runs on. Try next:");
    let kubectl = match context {
        None => format!("cargo xtask cluster exec -- kubectl -n {NAMESPACE}"),
        Some(context) => format!("kubectl --context {context} -n {NAMESPACE}"),
    };
    for (what, command) in [
        ("the database", "get ddb".to_owned()),
        (
            "its pods and roles",
            "get pods -L ddb-operator.io/role".to_owned(),
        ),
        ("what happened", "get events --sort-by=.lastTimestamp".to_owned()),
        (
            "another master",
            format!("annotate ddb {NAME} --overwrite ddb-operator.io/promote={NAME}-0"),
        ),
        ("five nodes", format!("scale ddb {NAME} --replicas=5")),
    ] {
        screen.line(&format!("  {}", screen.paint(Tone::Dim, &format!("# {what}"))));
        screen.line(&format!("  {kubectl} {command}"));
    }
    screen.line("");
}
