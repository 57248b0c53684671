//! What nodes have executed, compared between the master and a slave.

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{Method, Request, header},
};
use failover::GtidSet;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    access::Account,
    call::Call,
    engine::Engine,
    mysql::{Rows, Transaction},
    problem::{Kind, Problem},
    routing::{Content, Errand},
    sql::{Sql, Value},
    view::NodeRole,
};

/// The longest set that another node may answer, in bytes.
const LONGEST: usize = 1 << 20;

/// What a node has executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Position {
    /// The node.
    pub node: String,
    /// The highest term that it knows of.
    pub term: u64,
    /// Its set of transactions.
    #[schema(value_type = String)]
    pub set: GtidSet,
}

fn executed() -> Sql {
    Sql::new("SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')")
}

impl Engine {
    /// What this node has executed.
    pub async fn position(&self, call: &Call) -> Result<Position, Problem> {
        let rows = self.rows(call, executed(), 1).await?;
        self.read_position(&rows)
    }

    /// The same for the node itself.
    pub async fn own_position(&self) -> Result<Position, Problem> {
        let mut transaction = Transaction::begin(&self.pools, Account::READER, false).await?;
        let rows = transaction.quiet_rows(executed()).await;
        transaction.rollback().await;
        self.read_position(&rows?)
    }

    fn read_position(&self, rows: &Rows) -> Result<Position, Problem> {
        let text = rows.texts().into_iter().next().unwrap_or_default();
        let set = text.parse().map_err(|_| {
            tracing::error!(text, "the server's set cannot be read");
            Problem::new(
                Kind::Internal,
                "the server's set of transactions could not be read",
            )
        })?;
        Ok(Position {
            node: self.node.clone(),
            term: self.view.borrow().term,
            set,
        })
    }

    /// What the master has executed by now; asked of its own node.
    pub async fn masters_position(&self, call: &Call) -> Result<Position, Problem> {
        let (leads, master) = {
            let view = self.view.borrow();
            (view.leads(), view.master.clone())
        };
        if leads {
            return self.position(call).await;
        }
        let no_master = || {
            Problem::new(
                Kind::NoMaster,
                "there is no master at the moment to compare with; try again",
            )
        };
        let way = master.ok_or_else(no_master)?;
        let request = Request::builder()
            .method(Method::GET)
            .uri("/v1/cluster/position")
            .header(header::AUTHORIZATION, call.authorization())
            .header("x-request-id", call.id())
            .body(())
            .map_err(|_| no_master())?;
        let (parts, ()) = request.into_parts();
        let nothing = Content::Whole(Bytes::new());
        let response = self.peers.send(self, &way, parts, &nothing, Errand::Read).await?;
        let body = http_body_util::Limited::new(response.into_body(), LONGEST)
            .collect()
            .await
            .map_err(|_| no_master())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|_| no_master())
    }

    /// Waits until this node has executed a set; false when it did not within the time.
    pub async fn catch_up(&self, call: &Call, set: &GtidSet, patience: Duration) -> Result<bool, Problem> {
        let patience = patience.min(self.limits.statement.saturating_sub(Duration::from_secs(1)));
        let sql = Sql::new("SELECT WAIT_FOR_EXECUTED_GTID_SET(")
            .value(Value::Text(set.to_string()))
            .text(", ")
            .number(patience.as_secs())
            .text(") = 0");
        let rows = self.rows(call, sql, 1).await?;
        Ok(rows.number() == Some(1))
    }

    /// Refuses what only a slave can answer.
    pub fn require_slave(&self) -> Result<(), Problem> {
        let view = self.view.borrow();
        match view.role {
            Some(NodeRole::Slave) if view.serving => Ok(()),
            Some(NodeRole::Master) => Err(Problem::new(
                Kind::Conflict,
                "this node is the master: it has everything already; ask a slave",
            )),
            _ => Err(Problem::new(Kind::NotServing, "this node does not serve at the moment").retryable()),
        }
    }
}
