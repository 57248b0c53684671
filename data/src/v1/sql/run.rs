//! `POST /v1/sql`: one statement with bound values.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    fragment,
    input::Json,
    mysql::{Cell, Column, Done},
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Name, Value},
};

/// What the statement may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SqlMode)]
pub enum Mode {
    /// It only reads, on any node.
    #[default]
    Read,
    /// It changes rows, on the master.
    Write,
}

/// One statement.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlBody {
    /// The database that unqualified tables are of.
    #[schema(example = "shop")]
    database: Name,
    /// One SELECT, INSERT, UPDATE, DELETE or REPLACE, with `?` for every bound value.
    #[schema(example = "SELECT * FROM users WHERE age > ?")]
    statement: String,
    /// The bound values.
    #[serde(default)]
    #[schema(value_type = Vec<serde_json::Value>, example = json!([7]))]
    values: Vec<Box<RawValue>>,
    /// What the statement may do.
    #[serde(default)]
    mode: Mode,
    /// How many rows at most.
    #[schema(example = 10)]
    limit: Option<usize>,
    /// Shows how MySQL would carry it out, and does not.
    #[serde(default)]
    explain: bool,
}

#[derive(Serialize, ToSchema)]
struct Ran<'r> {
    /// The columns of the result.
    columns: &'r [Column],
    /// The rows, each an array of values.
    #[schema(value_type = Vec<Vec<serde_json::Value>>)]
    rows: &'r [Vec<Cell>],
    /// There are more rows than the limit.
    more: bool,
    /// Rows that were changed.
    affected: Option<u64>,
    /// The key that MySQL made; null where it made none.
    id: Option<u64>,
}

/// True for a body that changes nothing.
pub fn only_reads(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Only {
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        explain: bool,
    }
    serde_json::from_slice::<Only>(body).is_ok_and(|only| only.mode == Mode::Read || only.explain)
}

/// Runs one statement with bound values
///
/// One that changes rows says `"mode": "write"` and needs the role `writer`.
#[utoipa::path(post, path = "/v1/sql", tag = "sql", request_body = SqlBody,
    responses((status = 200, body = inline(Ran)), Problems))]
pub async fn run(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<SqlBody>,
) -> Result<Reply, Problem> {
    let SqlBody {
        database,
        statement,
        values,
        mode,
        limit,
        explain,
    } = body;
    call.reach(&database)?;
    let limit = engine.page(limit)?;
    let values: Vec<Value> = values
        .iter()
        .map(|raw| Value::from_json(raw).map_err(Problem::bad_request))
        .collect::<Result<_, _>>()?;
    let understood = fragment::statement(&statement, &database, values, explain)?;
    for other in &understood.databases {
        call.reach(other)?;
    }
    call.reach(&database)?;
    if understood.writes && !explain {
        if mode == Mode::Read {
            return Err(Problem::bad_request(
                "the statement changes rows; say \"mode\": \"write\"",
            ));
        }
        call.require(Role::Writer)?;
        let reply = |done: Done| {
            Reply::ok(&Ran {
                columns: &[],
                rows: &[],
                more: false,
                affected: Some(done.rows),
                id: done.made_key(),
            })
        };
        return engine.change_rows(&call, understood.sql, reply).await;
    }
    let rows = engine.rows(&call, understood.sql, limit).await?;
    Reply::ok(&Ran {
        columns: &rows.columns,
        rows: rows.arrays(),
        more: rows.more,
        affected: None,
        id: None,
    })
}
