//! What the API has the agent do for it: what no role's MySQL account may do, and what only the operator can.
//!
//! The API checks the caller; the agent carries out and decides nothing about who may.

use std::fmt::Debug;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::{Kind, Outcome, Problem};

/// What is answered later, or why it is not.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// Why the agent did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be done now; the same may succeed later. Nothing was changed.
    NotNow(String),
    /// It may have been done, and may not.
    Unknown(String),
    /// What is there contradicts it.
    Conflict(String),
    /// There is no such thing.
    Missing(String),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotNow(why) => Self::new(Kind::NotServing, why),
            Refusal::Unknown(why) => Self::new(Kind::OutcomeUnknown, why).with_outcome(Outcome::Unknown),
            Refusal::Conflict(why) => Self::new(Kind::Conflict, why),
            Refusal::Missing(why) => Self::new(Kind::NotFound, why),
        }
    }
}

/// A connection to a MySQL server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its number on its node.
    pub id: u64,
    /// The account.
    pub user: String,
    /// Where it comes from; empty for connections over the node's own socket.
    pub host: String,
    /// Its database.
    pub database: Option<String>,
    /// What kind of command it carries out, as MySQL names it.
    pub command: String,
    /// Seconds in this state.
    pub seconds: u64,
    /// What it does, as MySQL says it.
    pub state: Option<String>,
    /// Its statement; shown to `admin` only, because it holds values.
    pub statement: Option<String>,
}

/// Statements of one form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// The database they ran in.
    pub database: Option<String>,
    /// The form, with `?` for every value.
    pub statement: String,
    /// How many.
    pub count: u64,
    /// How many failed.
    pub errors: u64,
    /// Milliseconds of all together.
    pub total_milliseconds: f64,
    /// Milliseconds of one, on average.
    pub average_milliseconds: f64,
    /// Milliseconds of the slowest.
    pub longest_milliseconds: f64,
    /// Rows that were read to find the result.
    pub rows_examined: u64,
    /// Rows that were sent.
    pub rows_sent: u64,
    /// Rows that were changed.
    pub rows_changed: u64,
    /// How many used no index.
    pub without_index: u64,
    /// When the last of them ran, as MySQL writes it.
    pub last: String,
}

/// One step of a connection check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DiagnosisStep)]
pub struct Step {
    /// What is tried.
    pub step: &'static str,
    /// It works; null where an earlier step kept it from being tried.
    pub ok: Option<bool>,
    /// How long it took.
    pub milliseconds: u64,
    /// What was found.
    pub detail: String,
    /// What to do where it does not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What a person asks of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Another master: the node, or any other.
    Switchover {
        /// The node; `None` for any.
        target: Option<String>,
    },
    /// A slave is to be copied anew.
    Resync {
        /// The node.
        node: String,
    },
}

/// Whom a Kubernetes token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// The service account, as `namespace/name`.
    pub account: String,
    /// The name of the role that the resource gives it.
    pub role: String,
    /// The only databases that it reaches; `None` for all.
    pub databases: Option<Vec<String>>,
}

/// The agent.
pub trait Host: Debug + Send + Sync + 'static {
    /// Writes the heartbeat row on this node, which leads. Once answered, as many slaves hold it as must, so that no
    /// other node led when the call came.
    fn beat(&self) -> Answer<'_, ()>;
    /// Connections to this node's server.
    fn processes(&self) -> Answer<'_, Vec<Process>>;
    /// Ends a connection to this node's server.
    fn end_process(&self, id: u64) -> Answer<'_, ()>;
    /// The forms of statements that took most time on this node, the most expensive first; `None` where the server
    /// does not collect them.
    fn statements(&self, limit: usize) -> Answer<'_, Option<Vec<Digest>>>;
    /// Connects as an application would, step by step.
    fn diagnose(&self) -> BoxFuture<'_, Vec<Step>>;
    /// Hands a wish on to the operator. `term` is the one in which it was made; in another one it is refused.
    fn wish(&self, wish: Wish, term: Option<u64>) -> Answer<'_, ()>;
    /// Has a Kubernetes token reviewed; `None` for one that stands for nobody here.
    fn review(&self, token: String) -> Answer<'_, Option<Reviewed>>;
}

#[cfg(test)]
pub mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// An agent that does nothing, for tests that ask nothing of it.
    #[derive(Debug)]
    pub struct NoHost;

    fn nothing<T: Send + 'static>() -> Answer<'static, T> {
        async { Err(Refusal::NotNow("there is no agent".to_owned())) }.boxed()
    }

    impl Host for NoHost {
        fn beat(&self) -> Answer<'_, ()> {
            nothing()
        }
        fn processes(&self) -> Answer<'_, Vec<Process>> {
            nothing()
        }
        fn end_process(&self, _: u64) -> Answer<'_, ()> {
            nothing()
        }
        fn statements(&self, _: usize) -> Answer<'_, Option<Vec<Digest>>> {
            nothing()
        }
        fn diagnose(&self) -> BoxFuture<'_, Vec<Step>> {
            async { Vec::new() }.boxed()
        }
        fn wish(&self, _: Wish, _: Option<u64>) -> Answer<'_, ()> {
            nothing()
        }
        fn review(&self, _: String) -> Answer<'_, Option<Reviewed>> {
            nothing()
        }
    }
}
