//! What the data API has the agent do: heartbeats, connections of all accounts, the connection check, and what only the
//! operator can. Who may ask for it is the API's business.

use std::sync::Arc;

use data::host::{Answer, Digest, Host, Process, Refusal, Reviewed, Step, Wish};
use failover::{NodeId, Role, Server, Term};
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    agent::Agent,
    asks,
    beats::BeatError,
    diagnose,
    mysql::{Error, Lane},
};

/// MySQL's answer about a connection that has ended.
const UNKNOWN_THREAD: u16 = 1094;
/// Accounts whose connections belong to the database itself; ending one would only disturb it.
const OWN: [&str; 5] = [
    "root",
    "system user",
    "event_scheduler",
    api::names::REPLICATION_USER,
    api::names::CLONE_USER,
];

/// The agent as the API sees it.
#[derive(Debug)]
pub struct ApiHost(pub Arc<Agent>);

impl Host for ApiHost {
    fn beat(&self) -> Answer<'_, ()> {
        async {
            let Some(term) = self.leads() else {
                return Err(Refusal::NotNow("this node does not lead".to_owned()));
            };
            let beat = self.0.beats.beat(term).await;
            beat.map_err(|error| match error {
                BeatError::Resting => Refusal::NotNow(error.to_string()),
                BeatError::Mysql(error) => not_now(&error),
            })
        }
        .boxed()
    }

    fn processes(&self) -> Answer<'_, Vec<Process>> {
        async {
            let mut lane = self.lane();
            let found = lane.processes().await.map_err(|error| not_now(&error));
            lane.close().await;
            found
        }
        .boxed()
    }

    fn end_process(&self, id: u64) -> Answer<'_, ()> {
        async move {
            let mut lane = self.lane();
            let ended = end(&mut lane, id).await;
            lane.close().await;
            ended
        }
        .boxed()
    }

    fn statements(&self, limit: usize) -> Answer<'_, Option<Vec<Digest>>> {
        async move {
            let mut lane = self.lane();
            let found = match lane.collects_statements().await {
                Ok(true) => lane.statements(limit).await.map(Some),
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            };
            lane.close().await;
            found.map_err(|error| not_now(&error))
        }
        .boxed()
    }

    fn diagnose(&self) -> BoxFuture<'_, Vec<Step>> {
        diagnose::check(&self.0).boxed()
    }

    fn wish(&self, wish: Wish, term: Option<u64>) -> Answer<'_, ()> {
        let wish = match wish {
            Wish::Switchover { target } => api::wire::Wish::Switchover {
                to: target.map(NodeId::from),
            },
            Wish::Resync { node } => api::wire::Wish::Resync { node: node.into() },
        };
        asks::wish(&self.0, wish, term.map(Term)).boxed()
    }

    fn review(&self, token: String) -> Answer<'_, Option<Reviewed>> {
        asks::review(&self.0, token).boxed()
    }
}

impl ApiHost {
    /// A connection of its own: people ask seldom, and the agent's lanes are for its commands.
    fn lane(&self) -> Lane {
        Lane::root(&self.0.settings.mysql_socket)
    }

    fn leads(&self) -> Option<Term> {
        match &self.0.board.report().server {
            Server::Up(state) if state.open => match state.role {
                Role::Master { term, .. } => Some(term),
                _ => None,
            },
            _ => None,
        }
    }
}

async fn end(lane: &mut Lane, id: u64) -> Result<(), Refusal> {
    let missing = || Refusal::Missing(format!("there is no connection {id} on this node any more"));
    let found = lane.process(id).await.map_err(|error| not_now(&error))?;
    let process = found.ok_or_else(missing)?;
    if OWN.contains(&process.user.as_str()) {
        return Err(Refusal::Conflict(format!(
            "the connection {id} is the database's own ({}) and is not ended",
            process.user
        )));
    }
    match lane.end_process(id).await {
        Ok(()) => Ok(()),
        Err(error) if error.code() == Some(UNKNOWN_THREAD) => Err(missing()),
        Err(error) => Err(not_now(&error)),
    }
}

/// What the server said stays in the log.
fn not_now(error: &Error) -> Refusal {
    tracing::info!(%error, "the data API asked for what the server does not answer");
    Refusal::NotNow("the node's MySQL server does not answer this at the moment".to_owned())
}
