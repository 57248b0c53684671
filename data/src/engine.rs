//! What every route works with: the one way to read and the one way to change.

use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    access::{Accounts, Tokens},
    age::Age,
    audit::Audit,
    call::Call,
    host::Host,
    keys::{self, Claim},
    metrics::Metrics,
    mysql::{Done, Pools, Rows, Transaction},
    problem::{Kind, Problem},
    reply::{Reply, WRITE_TOKEN},
    routing::{Peers, Quotas},
    settings::{Limits, Recorded},
    sql::Sql,
    v1::Feeds,
    view::{View, Way},
};

/// The parts.
#[derive(Debug)]
pub struct Engine {
    /// The node's name.
    pub node: String,
    /// What the node says of itself.
    pub view: watch::Receiver<View>,
    /// MySQL.
    pub pools: Arc<Pools>,
    /// Who may ask.
    pub tokens: Arc<Tokens>,
    /// The same of tokens that the operator knows about.
    pub accounts: Accounts,
    /// What was done.
    pub audit: Audit,
    /// Of what, besides changes and refusals.
    pub recorded: Recorded,
    /// How much at most.
    pub limits: Limits,
    /// The other nodes.
    pub peers: Peers,
    /// What the agent does for the API.
    pub host: Arc<dyn Host>,
    /// How old this node's data is at most.
    pub age: Age,
    /// How much each token asks.
    pub quotas: Arc<Quotas>,
    /// One place for each request that is carried out.
    pub running: Semaphore,
    /// One place for each request that waits for its turn.
    pub queued: Semaphore,
    /// One place for each export, import and search.
    pub streams: Arc<Semaphore>,
    /// One place for each who watches events.
    pub watchers: Arc<Semaphore>,
    /// What the change feeds share.
    pub feeds: Feeds,
    /// Says that the API ends.
    pub stop: watch::Sender<bool>,
    /// Definitions of tables, for a short while.
    pub tables: crate::table::Cache,
    /// How much was done.
    pub metrics: Metrics,
    /// What the API is, once its routes are made.
    pub document: OnceLock<String>,
}

impl Engine {
    /// Carries out a change inside one transaction, together with the request's key. The work must do nothing else
    /// than what the transaction undoes.
    pub async fn change(
        &self,
        call: &Call,
        work: impl AsyncFnOnce(&mut Transaction) -> Result<Reply, Problem> + Send,
    ) -> Result<Reply, Problem> {
        let mut transaction = Transaction::begin(&self.pools, call.caller().account, true).await?;
        if let Some(key) = call.key() {
            match keys::claim(&mut transaction, call, key).await {
                Ok(Claim::New | Claim::Begun) => {}
                Ok(Claim::Done(reply)) => return Ok(self.replay(transaction, reply).await),
                Err(problem) => {
                    transaction.rollback().await;
                    return Err(problem);
                }
            }
        }
        let worked = work(&mut transaction).await;
        call.note().statement = transaction.statements();
        let stored = match (worked, call.key()) {
            (Ok(reply), Some(key)) => keys::store(&mut transaction, call, key, &reply)
                .await
                .map(|()| reply),
            (worked, _) => worked,
        };
        match stored {
            Ok(reply) => {
                let committed = transaction.commit().await?;
                Ok(self.with_token(reply, committed.set.as_deref()))
            }
            Err(problem) => {
                transaction.rollback().await;
                Err(problem)
            }
        }
    }

    /// Carries out one statement that changes rows, and notes how many it reached.
    pub async fn change_rows(
        &self,
        call: &Call,
        sql: Sql,
        reply: impl FnOnce(Done) -> Result<Reply, Problem> + Send,
    ) -> Result<Reply, Problem> {
        self.change_by(call, async |transaction| transaction.run(sql).await, reply)
            .await
    }

    /// Carries out what changes rows, and notes how many it reached.
    pub async fn change_by(
        &self,
        call: &Call,
        work: impl AsyncFnOnce(&mut Transaction) -> Result<Done, Problem> + Send,
        reply: impl FnOnce(Done) -> Result<Reply, Problem> + Send,
    ) -> Result<Reply, Problem> {
        let work = async |transaction: &mut Transaction| {
            let done = work(transaction).await?;
            call.note().rows = Some(done.rows);
            reply(done)
        };
        self.change(call, work).await
    }

    /// Carries out a definition, which MySQL commits by itself. `is_done` says of an error that the definition is
    /// already as it should be; it counts only for a request whose key was seen before.
    pub async fn define(
        &self,
        call: &Call,
        sql: Sql,
        is_done: impl Fn(&Problem) -> bool,
        reply: Reply,
    ) -> Result<Reply, Problem> {
        let mut transaction = Transaction::begin(&self.pools, call.caller().account, true).await?;
        let mut begun = false;
        if let Some(key) = call.key() {
            match keys::claim(&mut transaction, call, key).await? {
                Claim::New => {
                    transaction.commit().await.map_err(not_applied)?;
                    transaction = Transaction::begin(&self.pools, call.caller().account, true).await?;
                }
                Claim::Begun => begun = true,
                Claim::Done(reply) => return Ok(self.replay(transaction, reply).await),
            }
        }
        let defined = transaction.define(sql).await;
        call.note().statement = transaction.statements();
        self.tables.forget();
        match defined {
            Ok(()) => {}
            Err(problem) if begun && is_done(&problem) => {}
            Err(problem) => {
                if let (Some(key), true) = (call.key(), is_done(&problem)) {
                    keys::refuse(&mut transaction, call, key).await?;
                    transaction.commit().await?;
                }
                return Err(problem);
            }
        }
        if let Some(key) = call.key() {
            keys::store(&mut transaction, call, key, &reply)
                .await
                .map_err(|problem| problem.with_outcome(crate::problem::Outcome::Applied))?;
        }
        let committed = transaction.commit().await?;
        Ok(self.with_token(reply, committed.set.as_deref()))
    }

    /// A stored reply, with the token of a state that contains what it speaks of. Others see a change a moment before the
    /// server's set contains it; once a heartbeat was committed after it, it does. Without one the reply is true all the
    /// same.
    async fn replay(&self, looked: Transaction, reply: Reply) -> Reply {
        looked.rollback().await;
        if self.beat().await.is_err() {
            return reply;
        }
        match self.own_position().await {
            Ok(position) => self.with_token(reply, Some(&position.set.to_string())),
            Err(_) => reply,
        }
    }

    /// The way to another node.
    pub fn way(&self, node: &str) -> Result<Way, Problem> {
        let view = self.view.borrow();
        let mut ways = view.ways.iter().chain(&view.master);
        ways.find(|way| way.node == node).cloned().ok_or_else(|| {
            Problem::not_found(format!(
                "there is no way to a node {node}; /v1/cluster names all of them"
            ))
        })
    }

    /// A place among what is streamed at a time.
    pub fn place_for_a_stream(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Problem::new(
                Kind::Busy,
                "the node streams as much as it can at the moment; try again, or ask another node",
            )
        })
    }

    /// How many rows a page has where a request asks for `limit`.
    pub fn page(&self, limit: Option<usize>) -> Result<usize, Problem> {
        match limit {
            None => Ok(self.limits.rows),
            Some(limit) if limit <= self.limits.most_rows => Ok(limit),
            Some(_) => Err(Problem::bad_request(format!(
                "limit: at most {} rows at a time; ask for the rest with another request",
                self.limits.most_rows
            ))),
        }
    }

    /// The rows of one query.
    pub async fn rows(&self, call: &Call, sql: Sql, limit: usize) -> Result<Rows, Problem> {
        call.note().statement = self.pools.noted(&sql);
        Transaction::read(&self.pools, call.caller().account, sql, limit).await
    }

    /// With the token of a state that contains the change; without one where the server was gone before it named a
    /// state.
    pub fn with_token(&self, reply: Reply, set: Option<&str>) -> Reply {
        let Some(set) = set else { return reply };
        let term = self.view.borrow().term;
        reply.header(WRITE_TOKEN, &format!("{term}.{set}"))
    }
}

/// Only the key was to be stored: whatever became of it, nothing was defined.
fn not_applied(problem: Problem) -> Problem {
    problem.with_outcome(crate::problem::Outcome::NotApplied)
}
