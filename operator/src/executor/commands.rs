//! Commands to node agents: turns an action into the session's command, sends it and awaits the outcome.

use std::time::Duration;

use api::wire::Command;
use failover::{Action, Millis, Term};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Effect, Failure, Outcome};
use crate::handoff::Leadership;
use crate::sessions::{Ended, Order, Outgoing};

const FENCE_DEADLINE: Millis = 500;
const DRAIN_SLICE: Millis = 10_000;
const PROMOTE_DEADLINE: Millis = 10_000;
const FOLLOW_DEADLINE: Millis = 15_000;
/// A clone of a large volume takes its time; progress is in the node's reports.
const CLONE_DEADLINE: Millis = 6 * 60 * 60 * 1000;
/// It ends with a boot, crash recovery included.
const CUT_DEADLINE: Millis = 150_000;
/// Files are removed; the boot of the new database is not waited for.
const DISCARD_DEADLINE: Millis = 60_000;
const LEAVE_DEADLINE: Millis = 1_000;
/// What a node may take longer than its own deadline before the answer counts as lost.
const GRACE: Millis = 2_000;

/// The command that carries an action out, with its term and how long the outcome is waited for; none where the
/// action is no node's.
pub fn command_of(action: &Action, switchover_deadline: Millis) -> Option<(Term, Command, Millis)> {
    Some(match action {
        Action::Fence {
            node: _,
            term,
            orderly,
        } => {
            let deadline_ms = if *orderly {
                switchover_deadline
            } else {
                FENCE_DEADLINE
            };
            (
                *term,
                Command::Fence {
                    orderly: *orderly,
                    deadline_ms,
                },
                deadline_ms + GRACE,
            )
        }
        Action::Drain { node: _, term } => (
            *term,
            Command::Drain {
                deadline_ms: DRAIN_SLICE,
            },
            DRAIN_SLICE + GRACE,
        ),
        Action::Promote {
            node: _,
            term,
            acks,
            requires,
        } => (
            *term,
            Command::Promote {
                acks: *acks,
                requires: requires.clone(),
            },
            PROMOTE_DEADLINE,
        ),
        Action::Follow {
            node: _,
            term,
            source,
            address,
            until,
            whole,
        } => {
            let command = Command::Follow {
                source: source.clone(),
                address: address.clone(),
                until: until.clone(),
                whole: *whole,
            };
            (*term, command, FOLLOW_DEADLINE)
        }
        Action::Cut { node: _, term, keep } => (*term, Command::Cut { keep: keep.clone() }, CUT_DEADLINE),
        Action::Clone {
            node: _,
            term,
            donor,
            address,
            extra,
            reason: _,
        } => (
            *term,
            Command::Clone {
                donor: donor.clone(),
                address: address.clone(),
                extra: extra.clone(),
            },
            CLONE_DEADLINE,
        ),
        Action::Discard { term, .. } => (*term, Command::Discard, DISCARD_DEADLINE),
        Action::Release { node: _, term } => (*term, Command::Leave, LEAVE_DEADLINE),
        Action::Record { .. }
        | Action::Unlabel { .. }
        | Action::Withdraw { .. }
        | Action::Lead { .. }
        | Action::Route { .. }
        | Action::Answer { .. } => return None,
    })
}

/// Sends the command and awaits its outcome.
pub async fn carry_out(
    leadership: &dyn Leadership,
    orders: Option<mpsc::Sender<Outgoing>>,
    (term, command, deadline): (Term, Command, Millis),
) -> Outcome {
    let orders = orders.ok_or(Failure::NoSession)?;
    if !leadership.is_leader() {
        return Err(Failure::NotLeading);
    }
    let (reply, outcome) = oneshot::channel();
    let asked = async {
        orders
            .send(Outgoing::Order(Order { term, command, reply }))
            .await
            .map_err(|_| Failure::LinkBroke)?;
        outcome.await.map_err(|_| Failure::LinkBroke)
    };
    let ended = timeout(Duration::from_millis(deadline), asked)
        .await
        .map_err(|_| Failure::NodeSilent)??;
    match ended {
        Ended { refusal: None, .. } => Ok(Effect::Done),
        Ended {
            refusal: Some(refusal),
            ..
        } => Err(Failure::Refused(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_in_order_may_take_the_switchovers_deadline_and_any_other_half_a_second() {
        let fence = |orderly| Action::Fence {
            node: "a".into(),
            term: Term(2),
            orderly,
        };
        let deadline = |orderly| match command_of(&fence(orderly), 5000) {
            Some((Term(2), Command::Fence { deadline_ms, .. }, _)) => deadline_ms,
            other => panic!("{other:?}"),
        };
        assert_eq!(deadline(true), 5000);
        assert_eq!(deadline(false), 500);
    }

    #[test]
    fn a_route_is_no_nodes_command() {
        assert!(
            command_of(
                &Action::Route {
                    node: "a".into(),
                    term: Term(2)
                },
                0
            )
            .is_none()
        );
    }
}
