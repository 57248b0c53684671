//! Which ends of actions become Events, and what they say.

use std::fmt::Write as _;

use failover::{Action, Change, Kind, NodeId, Record, Wish};

use super::given_up::GivenUp;
use crate::events::Told;
use crate::executor::{ActionKey, Effect, Failure, Outcome};
use crate::status;

/// What people are told of the end of an action; nothing of what is routine.
pub fn ended_event(
    action: &Action,
    outcome: &Outcome,
    failures: u32,
    given_up: &GivenUp<'_>,
) -> Option<Told> {
    match outcome {
        Ok(Effect::Lost(_) | Effect::Unclear(_)) | Err(Failure::NotLeading) => None,
        Ok(_) => done_event(action, given_up),
        Err(failure @ Failure::Refused(_)) if failures == 1 => Some(failed_event(action, failure)),
        Err(failure) if failures == 4 => Some(failed_event(action, failure)),
        Err(_) => None,
    }
}

fn told(reason: &'static str, term: u64, note: String) -> Told {
    Told {
        warning: false,
        reason,
        action: format!("Term{term}"),
        note,
    }
}

/// About one node: Kubernetes joins events of the same action, whatever their notes say.
fn told_of(node: &NodeId, reason: &'static str, term: u64, sentence: String) -> Told {
    Told {
        action: format!("Term{term}-{node}"),
        ..told(reason, term, sentence)
    }
}

fn done_event(action: &Action, given_up: &GivenUp<'_>) -> Option<Told> {
    Some(match action {
        Action::Record {
            completes: Some(change),
            record: _,
        } => changed_event(change),
        Action::Record {
            record:
                Record {
                    intent: Some(intent),
                    term,
                    ..
                },
            completes: None,
        } => {
            let what = match (intent.kind, &intent.to) {
                (Kind::Rest, Some(master)) => format!("{master} is closed while it is copied"),
                _ => "the master changes".to_owned(),
            };
            let note = format!("Term {term}: {what} because {}.", intent.cause.sentence());
            Told {
                warning: matches!(intent.kind, Kind::Failover | Kind::Forced | Kind::Rest),
                ..told("MasterChanges", term.0, note)
            }
        }
        Action::Record { .. }
        | Action::Unlabel { .. }
        | Action::Drain { .. }
        | Action::Withdraw { .. }
        | Action::Route { .. }
        | Action::Release { .. } => return None,
        Action::Fence { node, term, .. } => told_of(
            node,
            "Fenced",
            term.0,
            format!("Term {term}: {node} acknowledges nothing any more."),
        ),
        Action::Promote { node, term, .. } => {
            told("Promoted", term.0, format!("Term {term}: {node} accepts writes."))
        }
        Action::Lead { node, term } => told(
            "Routed",
            term.0,
            format!("Term {term}: the master's Service leads to {node}."),
        ),
        Action::Follow {
            node, term, source, ..
        } => told_of(
            node,
            "Follows",
            term.0,
            format!("Term {term}: {node} follows {source}."),
        ),
        Action::Cut { node, term, .. } => told_of(
            node,
            "TailCut",
            term.0,
            format!("Term {term}: {node} {}", given_up.by_cut(node, *term)),
        ),
        Action::Clone {
            node,
            term,
            donor,
            extra,
            reason,
            ..
        } => told_of(
            node,
            "Cloned",
            term.0,
            format!(
                "Term {term}: {node} holds a copy of {donor}'s data, because {reason}.{}",
                given_up.by_clone(node, extra)
            ),
        ),
        Action::Discard { node, term, reason } => Told {
            warning: true,
            ..told_of(
                node,
                "DataDiscarded",
                term.0,
                format!(
                    "Term {term}: {node} begins anew without its data, on which mysqld could not run: {reason}."
                ),
            )
        },
        Action::Answer { wish, done, message } => {
            let (action, well, badly) = match wish {
                Wish::Promote => ("Switchover", "SwitchoverDone", "SwitchoverRefused"),
                Wish::Force => ("ForcedPromotion", "ForcedPromotionDone", "ForcedPromotionRefused"),
                Wish::Resync => ("Resync", "ResyncBegun", "ResyncRefused"),
            };
            Told {
                warning: !done || *wish == Wish::Force,
                reason: if *done { well } else { badly },
                action: action.to_owned(),
                note: message.clone(),
            }
        }
    })
}

fn changed_event(change: &Change) -> Told {
    let Change {
        term,
        intent,
        master,
        steps: _,
        total,
        may_be_lost,
        kept: _,
    } = change;
    let from = intent
        .from
        .as_ref()
        .filter(|from| *from != master)
        .map(|from| format!(" after {from}"))
        .unwrap_or_default();
    let mut note = format!("Term {term}: {master} is the master{from}, {total} ms after the first evidence.");
    if let Some(loss) = may_be_lost {
        let _ = write!(note, " By force: {loss}.");
    }
    Told {
        warning: may_be_lost.is_some(),
        ..told("MasterChanged", term.0, note)
    }
}

fn failed_event(action: &Action, failure: &Failure) -> Told {
    let key = ActionKey::of(action);
    let node = key.node.map(|node| format!(" on {node}")).unwrap_or_default();
    Told {
        warning: true,
        reason: "ActionFailed",
        action: format!("{}{node}", key.kind),
        note: format!(
            "Term {}: {}{node} failed: {}",
            key.term,
            key.kind,
            status::sentence(failure)
        ),
    }
}

#[cfg(test)]
mod tests {
    use api::wire::Refusal;
    use failover::Term;

    use super::*;

    #[test]
    fn a_refusal_is_told_at_once_and_a_silence_only_when_it_lasts() {
        let action = Action::Drain {
            node: "db-1".into(),
            term: Term(2),
        };
        let refused = || {
            Err(Failure::Refused(Refusal::Failed {
                message: "disk full".to_owned(),
            }))
        };
        let ended =
            |outcome: &Outcome, failures| ended_event(&action, outcome, failures, &GivenUp::default());
        let told = ended(&refused(), 1).unwrap();
        assert_eq!(told.note, "Term 2: drain on db-1 failed: disk full");
        assert!(ended(&refused(), 2).is_none());
        assert!(ended(&Err(Failure::NoSession), 1).is_none());
        assert!(ended(&Err(Failure::NoSession), 4).is_some());
    }
}
