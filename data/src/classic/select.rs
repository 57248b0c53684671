//! `GET /select?dbname=&table=`

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    call::Call,
    engine::Engine,
    input::Query,
    mysql::Rows,
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Name, Sql},
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SelectQuery {
    /// The database.
    #[param(inline, example = "shop")]
    dbname: Name,
    /// The table.
    #[param(inline, example = "users")]
    table: Name,
    /// How many rows at most.
    limit: Option<usize>,
    /// How many rows are passed over first.
    #[serde(default)]
    offset: u64,
}

#[derive(Serialize, ToSchema)]
struct Selected<'r> {
    ok: bool,
    /// How many rows there are here.
    count: usize,
    /// There are more rows behind these.
    more: bool,
    /// The rows, each an object of columns with values.
    #[schema(value_type = Vec<Object>)]
    rows: &'r Rows,
}

/// Reads rows in the order of the primary key
#[utoipa::path(get, path = "/select", tag = "classic", params(SelectQuery),
    responses((status = 200, body = inline(Selected)), Problems))]
pub async fn select(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<SelectQuery>,
) -> Result<Reply, Problem> {
    let SelectQuery {
        dbname,
        table,
        limit,
        offset,
    } = query;
    call.reach_table(&dbname, &table)?;
    let limit = engine.page(limit)?;
    let facts = engine.table(&call, &dbname, &table).await?;
    let mut sql = Sql::new("SELECT * FROM ").table(&dbname, &table);
    if !facts.key.is_empty() {
        sql = sql.text(" ORDER BY ").list(", ", &facts.key_names(), Sql::name);
    }
    let sql = sql
        .text(" LIMIT ")
        .number(limit as u64 + 1)
        .text(" OFFSET ")
        .number(offset);
    let rows = engine.rows(&call, sql, limit).await?;
    Reply::ok(&Selected {
        ok: true,
        count: rows.len(),
        more: rows.more,
        rows: &rows,
    })
}
