//! How new what is read must be: `After: <token>` and `Consistency`.

use axum::http::HeaderMap;
use failover::GtidSet;

use crate::{
    call::Call,
    engine::Engine,
    problem::{Kind, Problem},
    sql::{Sql, Value},
    view::View,
};

/// How long a node waits until it has what a token names, in seconds as MySQL takes it.
const BUDGET: &str = "0.2";

/// What a request demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freshness {
    leader: bool,
    after: Option<String>,
}

impl Freshness {
    /// Only the master's answer counts.
    pub fn wants_master(&self) -> bool {
        self.leader
    }
}

/// Reads the headers.
pub fn of(headers: &HeaderMap) -> Result<Freshness, Problem> {
    let mut freshness = Freshness::default();
    if let Some(level) = headers.get("consistency") {
        match level.to_str().unwrap_or_default().trim() {
            "any" | "session" => {}
            "leader" | "strong" => freshness.leader = true,
            other => {
                return Err(Problem::bad_request(format!(
                    "Consistency: `{other}` is not known; it is any, session, leader or strong"
                )));
            }
        }
    }
    if let Some(token) = headers.get("after") {
        let text = token.to_str().unwrap_or_default().trim();
        let set = text
            .split_once('.')
            .filter(|(term, _)| term.parse::<u64>().is_ok())
            .map(|(_, set)| set)
            .and_then(|set| set.parse::<GtidSet>().ok())
            .ok_or_else(|| {
                Problem::bad_request("After: give the Write-Token of an earlier reply as it is")
            })?;
        freshness.after = Some(set.to_string());
    }
    Ok(freshness)
}

/// True once this node has all that the request demands; false where it would have to wait too long.
pub async fn reach(
    engine: &Engine,
    call: &Call,
    freshness: &Freshness,
    view: &View,
) -> Result<bool, Problem> {
    let Some(set) = &freshness.after else {
        return Ok(true);
    };
    let set = Value::Text(set.clone());
    let sql = if view.leads() {
        Sql::new("SELECT GTID_SUBSET(")
            .value(set)
            .text(", @@GLOBAL.gtid_executed)")
    } else {
        Sql::new("SELECT WAIT_FOR_EXECUTED_GTID_SET(")
            .value(set)
            .text(", ")
            .text(BUDGET)
            .text(") = 0")
    };
    let rows = engine.rows(call, sql, 1).await?;
    Ok(rows.number() == Some(1))
}

/// The master itself lacks what the token names.
pub fn lost(view: &View) -> Problem {
    let mut problem = Problem::new(
        Kind::TokenLost,
        "the master does not hold the state that the token names; read anew without it",
    );
    problem.term = Some(view.term);
    problem
}
