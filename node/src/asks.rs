//! Questions to the operator that leads: wishes of people, and whom a Kubernetes token stands for.
//!
//! A question goes over every session with an operator that takes questions; only the one that leads answers. The node
//! decides nothing by itself and keeps no answer.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::wire::{Answer, Credential, Question, ToOperator, Wish};
use data::host::{Refusal, Reviewed};
use failover::Term;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::agent::Agent;

/// How long the operator may take: its own questions to the API server have two seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions under way at a time; more are refused, so that nobody floods the operator through a node.
const MOST: usize = 64;
const UNANSWERED: &str = "no operator that leads answered in time; look whether the operator runs";

/// The questions under way, and the sessions that they go over.
#[derive(Debug, Default)]
pub struct Asks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    made: u64,
    sessions: BTreeMap<u64, mpsc::Sender<ToOperator>>,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
}

/// A session that takes questions, for as long as it lasts.
#[derive(Debug)]
pub struct Session<'a> {
    asks: &'a Asks,
    number: u64,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.asks.lock().sessions.remove(&self.number);
    }
}

impl Asks {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Questions go over this session, too.
    pub fn join(&self, out: mpsc::Sender<ToOperator>) -> Session<'_> {
        let mut state = self.lock();
        state.made += 1;
        let number = state.made;
        state.sessions.insert(number, out);
        Session { asks: self, number }
    }

    /// An operator answered.
    pub fn answered(&self, id: u64, answer: Answer) {
        if let Some(waiting) = self.lock().waiting.remove(&id) {
            // Whoever asked may have given up.
            let _ = waiting.send(answer);
        }
    }

    /// `None` where no operator answered in time.
    async fn ask(&self, question: Question) -> Result<Option<Answer>, Refusal> {
        let (done, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            state.waiting.retain(|_, waiting| !waiting.is_closed());
            if state.waiting.len() >= MOST {
                return Err(Refusal::NotNow(
                    "the node asks the operator as much as it may at a time; try again".to_owned(),
                ));
            }
            state.made += 1;
            let id = state.made;
            let mut told = false;
            for session in state.sessions.values() {
                let question = question.clone();
                told |= session.try_send(ToOperator::Ask { id, question }).is_ok();
            }
            if !told {
                return Err(Refusal::NotNow(
                    "no operator that answers questions is connected to this node; look whether the operator runs"
                        .to_owned(),
                ));
            }
            state.waiting.insert(id, done);
        }
        Ok(timeout(PATIENCE, answer).await.ok().and_then(Result::ok))
    }
}

/// Hands a wish on.
pub async fn wish(agent: &Agent, wish: Wish, term: Option<Term>) -> Result<(), Refusal> {
    match agent.asks.ask(Question::Wish { wish, term }).await? {
        Some(Answer::Accepted) => Ok(()),
        Some(Answer::Refused { message }) => Err(Refusal::Conflict(message)),
        Some(Answer::NotNow { message }) => Err(Refusal::NotNow(message)),
        Some(other) => Err(strange(&other)),
        None => Err(Refusal::Unknown(format!(
            "{UNANSWERED}; whether it was asked for is in the events of the database"
        ))),
    }
}

/// Whom a token stands for.
pub async fn review(agent: &Agent, token: String) -> Result<Option<Reviewed>, Refusal> {
    let token = Credential(token);
    match agent.asks.ask(Question::Review { token }).await? {
        Some(Answer::Account {
            account,
            role,
            databases,
        }) => Ok(Some(Reviewed {
            account,
            role,
            databases,
        })),
        Some(Answer::Nobody) => Ok(None),
        Some(Answer::NotNow { message } | Answer::Refused { message }) => Err(Refusal::NotNow(message)),
        Some(other @ Answer::Accepted) => Err(strange(&other)),
        None => Err(Refusal::NotNow(UNANSWERED.to_owned())),
    }
}

fn strange(answer: &Answer) -> Refusal {
    tracing::warn!(?answer, "the operator answered something else");
    Refusal::NotNow("the operator's answer was not understood".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_reaches_who_asked_and_a_session_that_ended_is_asked_nothing() {
        let asks = Asks::default();
        let question = Question::Review {
            token: Credential("t".to_owned()),
        };
        assert!(matches!(
            asks.ask(question.clone()).await,
            Err(Refusal::NotNow(_))
        ));
        let (out, mut questions) = mpsc::channel(4);
        let session = asks.join(out);
        let operator = async {
            let Some(ToOperator::Ask { id, .. }) = questions.recv().await else {
                panic!("a question");
            };
            asks.answered(id + 1, Answer::Nobody);
            asks.answered(id, Answer::Accepted);
        };
        let (answer, ()) = tokio::join!(asks.ask(question.clone()), operator);
        assert_eq!(answer, Ok(Some(Answer::Accepted)));
        drop(session);
        assert!(matches!(asks.ask(question).await, Err(Refusal::NotNow(_))));
    }
}
