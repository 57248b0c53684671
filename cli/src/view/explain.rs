//! `explain`: what the engine decided, why, and what it waits for, in paragraphs.

use std::fmt::Write;

use api::DistributedDatabaseStatus;
use failover::Kind;
use jiff::Timestamp;

use super::kept;
use super::model::View;
use super::words::{ago, moment, wrap};
use crate::fetch::Facts;

const WIDTH: usize = 100;
/// Conditions whose usual state is "False".
const BAD_WHEN_TRUE: [&str; 4] = ["Degraded", "AtRisk", "Progressing", "Paused"];

/// The text.
pub fn text(view: &View, facts: &Facts) -> String {
    let mut text = String::new();
    paragraph(&mut text, &format!("{}: {}", view.verdict.word(), view.sentence));
    let Some(written) = &facts.object.status else {
        paragraph(
            &mut text,
            "There is no status yet, so there is nothing to explain.",
        );
        return text;
    };
    if view.status_is_stale {
        paragraph(&mut text, &stale(view, facts.now));
    }
    engine(&mut text, written);
    if let Some(change) = &view.change_under_way {
        let to = change
            .to
            .as_ref()
            .map(|to| format!(" {to} was asked for."))
            .unwrap_or_default();
        let from = change.from.as_deref().unwrap_or("nobody");
        let what = match change.kind {
            Kind::Rest => format!(
                "to close {} while it is copied, because {}.",
                change.to.as_deref().unwrap_or(from),
                change.cause.sentence()
            ),
            _ => format!("to replace {from}, because {}.{to}", change.cause.sentence()),
        };
        paragraph(
            &mut text,
            &format!("Under way: term {} was taken {what}", view.term),
        );
    }
    if let Some(to) = &view.requested {
        paragraph(
            &mut text,
            &format!("A switchover to {to} is asked for and has no answer yet."),
        );
    }
    if let Some(answer) = &view.last_request {
        let word = if answer.done { "carried out" } else { "refused" };
        paragraph(
            &mut text,
            &format!(
                "The last request was {word} {}: {}.",
                ago(answer.at, facts.now),
                answer.message
            ),
        );
    }
    let kept = kept::text(view, facts.now, WIDTH);
    if !kept.is_empty() {
        paragraph(
            &mut text,
            "Given up and kept as files, each on its node's volume:",
        );
        text.push_str(&kept);
    }
    conditions(&mut text, written, facts.now);
    quorum(&mut text, written);
    text
}

fn paragraph(text: &mut String, sentence: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&wrap(sentence, WIDTH, 0));
    text.push('\n');
}

fn stale(view: &View, now: Timestamp) -> String {
    let when = view.status_written_at.map_or_else(
        || "an unknown moment".to_owned(),
        |at| format!("{} UTC, {}", moment(at), ago(at, now)),
    );
    format!("No operator is at work. What follows is what it thought when it last wrote: {when}.")
}

/// What the engine decided, in its own sentences: the decision first, then reasons and what is waited for.
fn engine(text: &mut String, written: &DistributedDatabaseStatus) {
    let Some((decision, rest)) = written.explanation.split_first() else {
        paragraph(text, "The engine has not explained itself yet.");
        return;
    };
    paragraph(text, &format!("Decision: {decision}"));
    for sentence in rest {
        let _ = writeln!(text, "{}", wrap(&format!("  - {sentence}"), WIDTH, 4));
    }
}

/// The conditions that differ from their usual state, each with since when.
fn conditions(text: &mut String, written: &DistributedDatabaseStatus, now: Timestamp) {
    let unusual: Vec<_> = written
        .conditions
        .iter()
        .filter(|one| (one.status == "True") == BAD_WHEN_TRUE.contains(&one.type_.as_str()))
        .collect();
    if unusual.is_empty() {
        paragraph(text, "All conditions in the status are as they should be.");
        return;
    }
    paragraph(text, "Conditions that are not as they should be:");
    for one in unusual {
        let not = if one.status == "True" { "" } else { "not " };
        let sentence = format!(
            "  - {not}{} ({}, since {} UTC, {}): {}",
            one.type_,
            one.reason,
            moment(one.last_transition_time.0),
            ago(one.last_transition_time.0, now),
            one.message
        );
        let _ = writeln!(text, "{}", wrap(&sentence, WIDTH, 4));
    }
}

/// The rule by which a master is replaced, with this database's numbers.
fn quorum(text: &mut String, written: &DistributedDatabaseStatus) {
    let record = &written.record;
    if record.size == 0 {
        return;
    }
    let members: Vec<&str> = record.members.keys().map(failover::NodeId::as_str).collect();
    paragraph(
        text,
        &format!(
            "Rule: {} of {} slaves must hold a write before it is acknowledged, so a master is replaced only when {} \
             of the {} members ({}) confirm that they acknowledge nothing to it any more.",
            record.acks,
            record.size.saturating_sub(1),
            record.fence_quorum(),
            members.len(),
            members.join(", ")
        ),
    );
}
