//! Carries out what `failover::step` planned, without a choice of its own.
//!
//! Plans are level-triggered: an action stands in every plan until its effect is observed. [`InFlight`] keeps an
//! action from being started again while it runs and, after it failed, for a short while. Every action runs in its
//! own task with its own deadline and ends in one [`Effect`] or one [`Failure`]; none blocks the loop that asked.

pub mod commands;
pub mod labels;
pub mod record;
pub mod request;
pub mod review;
pub mod service;
pub mod wish;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::DistributedDatabase;
use api::wire::Refusal;
use failover::{Action, Millis, NodeId, Term, Wish};

use crate::handoff::Leadership;

/// The longest that one request to the API server may take.
pub const API_DEADLINE: Duration = Duration::from_secs(2);
const HOLD_OFF_MIN: Millis = 50;
const HOLD_OFF_MAX: Millis = 1000;

/// What makes two actions the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ActionKey {
    /// The kind, as in logs and metrics.
    pub kind: &'static str,
    /// Whom it is about; none where it is the whole database.
    pub node: Option<NodeId>,
    /// The term that asks. Zero for what is no action of a term.
    pub term: Term,
}

impl ActionKey {
    /// The key of an action of a plan.
    pub fn of(action: &Action) -> Self {
        let (kind, term) = match action {
            // One write of the record at a time, whatever its term.
            Action::Record { .. } => ("record", Term(0)),
            Action::Unlabel { term, .. } => ("unlabel", *term),
            Action::Fence { term, .. } => ("fence", *term),
            Action::Drain { term, .. } => ("drain", *term),
            Action::Promote { term, .. } => ("promote", *term),
            Action::Withdraw { term, .. } => ("withdraw", *term),
            Action::Lead { term, .. } => ("lead", *term),
            Action::Route { term, .. } => ("route", *term),
            Action::Follow { term, .. } => ("follow", *term),
            Action::Cut { term, .. } => ("cut", *term),
            Action::Clone { term, .. } => ("clone", *term),
            Action::Discard { term, .. } => ("discard", *term),
            Action::Release { term, .. } => ("release", *term),
            Action::Answer { wish, .. } => match wish {
                Wish::Promote => ("answer", Term(0)),
                Wish::Force => ("answer-force", Term(0)),
                Wish::Resync => ("answer-resync", Term(0)),
            },
        };
        Self {
            kind,
            node: action.node().cloned(),
            term,
        }
    }

    /// The key of work that is no action of a plan.
    pub fn work(kind: &'static str, node: Option<&NodeId>) -> Self {
        Self {
            kind,
            node: node.cloned(),
            term: Term(0),
        }
    }
}

/// What an action that ended well left behind.
#[derive(Debug)]
pub enum Effect {
    /// What it did shows in the observation.
    Done,
    /// It wrote the resource; this is how it is now.
    Wrote(Arc<DistributedDatabase>),
    /// Another operator wrote the record; this is the resource as it is now.
    Lost(Arc<DistributedDatabase>),
    /// The record is another one by now, and it is unclear who wrote it; this is the resource as it is now.
    Unclear(Arc<DistributedDatabase>),
}

/// Why an action did not end well. It is asked for again as long as it is needed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The lease is not surely held any more.
    #[error("this operator does not lead any more")]
    NotLeading,
    /// The API server refused or cannot be reached.
    #[error("the API server refused or cannot be reached")]
    Api(#[from] kube::Error),
    /// The API server did not answer.
    #[error("the API server did not answer in time")]
    ApiSilent,
    /// What the write was conditional on has changed; the new state is taken in.
    #[error("the object changed in between")]
    Changed,
    /// There is no open session with the node.
    #[error("there is no session with the node")]
    NoSession,
    /// The session broke before the outcome came.
    #[error("the session broke before the outcome came")]
    LinkBroke,
    /// The outcome did not come in time.
    #[error("the node did not finish in time")]
    NodeSilent,
    /// The node refused.
    #[error("{}", refusal_sentence(.0))]
    Refused(Refusal),
    /// The pod has no address yet or is gone.
    #[error("the pod has no address")]
    NoAddress,
}

fn refusal_sentence(refusal: &Refusal) -> String {
    match refusal {
        Refusal::StaleTerm { current } => format!("the node obeys term {current} already"),
        Refusal::Precondition { message } | Refusal::Failed { message } => message.clone(),
        Refusal::Superseded => "a newer command took its place".to_owned(),
    }
}

/// How an action ended.
pub type Outcome = Result<Effect, Failure>;

/// Awaits a request to the API server, but only while this operator leads, and not for ever.
pub async fn written<T>(
    leadership: &dyn Leadership,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    if !leadership.is_leader() {
        return Err(Failure::NotLeading);
    }
    Ok(tokio::time::timeout(API_DEADLINE, request)
        .await
        .map_err(|_| Failure::ApiSilent)??)
}

/// Whether an error of the API server has this status code.
pub fn has_code(failure: &Failure, code: u16) -> bool {
    matches!(failure, Failure::Api(kube::Error::Api(status)) if status.code == code)
}

/// Which actions run, and which failed a moment ago.
#[derive(Debug, Default)]
pub struct InFlight {
    entries: HashMap<ActionKey, Entry>,
}

#[derive(Debug)]
enum Entry {
    Running {
        failures: u32,
    },
    HeldOff {
        failures: u32,
        until: Millis,
        ended: Millis,
    },
}

impl InFlight {
    /// True when the action may be started now; it then counts as running until [`Self::ended`].
    pub fn admit(&mut self, key: &ActionKey, now: Millis) -> bool {
        let failures = match self.entries.get(key) {
            Some(Entry::Running { .. }) => return false,
            Some(Entry::HeldOff { until, .. }) if now < *until => return false,
            Some(Entry::HeldOff { failures, .. }) => *failures,
            None => 0,
        };
        self.entries.insert(key.clone(), Entry::Running { failures });
        true
    }

    /// Takes in that an action ended; says for the how manyth time in a row it failed, 0 where it did not.
    pub fn ended(&mut self, key: &ActionKey, well: bool, now: Millis) -> u32 {
        let Some(Entry::Running { failures }) = self.entries.remove(key) else {
            return 0;
        };
        if well {
            return 0;
        }
        let failures = failures + 1;
        let pause = (HOLD_OFF_MIN << (failures - 1).min(10)).min(HOLD_OFF_MAX);
        self.entries.insert(
            key.clone(),
            Entry::HeldOff {
                failures,
                until: now + pause,
                ended: now,
            },
        );
        failures
    }

    /// True while an action of this key runs.
    pub fn is_running(&self, key: &ActionKey) -> bool {
        matches!(self.entries.get(key), Some(Entry::Running { .. }))
    }

    /// Forgets failures that are long past.
    pub fn tidy(&mut self, now: Millis) {
        self.entries.retain(|_, entry| match entry {
            Entry::Running { .. } => true,
            Entry::HeldOff { ended, .. } => *ended + 10 * HOLD_OFF_MAX > now,
        });
    }

    /// Forgets everything: nothing runs any more.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(node: &str, term: u64) -> ActionKey {
        ActionKey::of(&Action::Fence {
            node: node.into(),
            term: Term(term),
            orderly: false,
        })
    }

    #[test]
    fn an_action_is_not_started_again_while_it_runs() {
        let mut flight = InFlight::default();
        assert!(flight.admit(&fence("a", 1), 0));
        assert!(!flight.admit(&fence("a", 1), 10));
        assert_eq!(flight.ended(&fence("a", 1), true, 20), 0);
        assert!(flight.admit(&fence("a", 1), 20));
    }

    #[test]
    fn actions_on_other_nodes_and_in_newer_terms_do_not_wait_for_it() {
        let mut flight = InFlight::default();
        assert!(flight.admit(&fence("a", 1), 0));
        assert!(flight.admit(&fence("b", 1), 0));
        assert!(flight.admit(&fence("a", 2), 0));
    }

    #[test]
    fn an_action_that_fails_is_held_off_longer_each_time_up_to_a_second() {
        let mut flight = InFlight::default();
        let mut now = 0;
        for (failure, pause) in [
            (1, 50),
            (2, 100),
            (3, 200),
            (4, 400),
            (5, 800),
            (6, 1000),
            (7, 1000),
        ] {
            assert!(flight.admit(&fence("a", 1), now), "{failure}");
            assert_eq!(flight.ended(&fence("a", 1), false, now), failure);
            assert!(!flight.admit(&fence("a", 1), now + pause - 1), "{failure}");
            now += pause;
        }
    }

    #[test]
    fn two_records_are_never_written_at_a_time() {
        let record = |term| Action::Record {
            record: failover::Record {
                term: Term(term),
                ..failover::Record::default()
            },
            completes: None,
        };
        let mut flight = InFlight::default();
        assert!(flight.admit(&ActionKey::of(&record(1)), 0));
        assert!(!flight.admit(&ActionKey::of(&record(2)), 0));
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let failure = Failure::Refused(Refusal::StaleTerm { current: Term(9) });
        assert_eq!(failure.to_string(), "the node obeys term 9 already");
    }
}
