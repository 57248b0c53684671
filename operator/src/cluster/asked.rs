//! What nodes ask on behalf of people at their data API. Only the operator that leads answers; a wish becomes an
//! annotation, and so reaches the engine on the one way that there is.

use std::sync::Arc;

use api::wire::{Answer, Question, ToNode};
use failover::NodeId;
use tokio::sync::mpsc;

use super::task::{Standing, Task};
use crate::executor::{ActionKey, Effect, review, wish};
use crate::handoff::Applied;
use crate::sessions::Outgoing;

/// Questions of one database under way at a time; a node waits for more in vain and says so.
const MOST: usize = 64;

impl Task {
    /// Answers a node's question, where this operator leads.
    pub(super) fn asked(&mut self, node: &NodeId, id: u64, question: Question) {
        let orders = self.lines.get(node).and_then(|line| line.orders.clone());
        let (Standing::Leading, Some(object), Some(orders)) = (self.standing, self.object.clone(), orders)
        else {
            return;
        };
        while self.running.try_join_next().is_some() {}
        if self.running.len() >= MOST {
            return;
        }
        let shared = Arc::clone(&self.shared);
        match question {
            Question::Wish { wish: wished, term } => {
                tracing::info!(%node, ?wished, "a wish came through a node");
                let api = self.databases();
                self.start(ActionKey::work("wish", None), None, async move {
                    let (answer, outcome) =
                        wish::carry_out(&*shared.lease, &api, object, &wished, term).await;
                    reply(&orders, id, answer).await;
                    outcome
                });
            }
            Question::Review { token } => {
                let valid = !matches!(self.applied, Applied::Invalid { .. });
                self.start(ActionKey::work("review", None), None, async move {
                    let answer = if valid {
                        review::carry_out(shared.client.clone(), &object, token.0).await
                    } else {
                        Answer::NotNow {
                            message: "the resource is invalid, so nobody knows who may do what".to_owned(),
                        }
                    };
                    reply(&orders, id, answer).await;
                    Ok(Effect::Done)
                });
            }
        }
    }
}

async fn reply(orders: &mpsc::Sender<Outgoing>, id: u64, answer: Answer) {
    // A session that broke meanwhile takes no answer; whoever asked is told that none came.
    let _ = orders.send(Outgoing::Word(ToNode::Answer { id, answer })).await;
}
