//! `PATCH /v1/databases/{db}/tables/{table}/rows`

use std::sync::Arc;

use axum::extract::State;
use serde_json::value::RawValue;

use super::{change::Affected, remove_many::Bounds};
use crate::{
    call::Call,
    engine::Engine,
    input::{Json, Pairs, Path},
    problem::{Problem, Problems},
    reply::Reply,
    rows,
    sql::Name,
};

/// Changes columns of all rows that a filter reaches
///
/// An empty filter is refused unless `all=true`; more rows than `maxAffected` (1000) are left as they are.
#[utoipa::path(patch, path = "/v1/databases/{db}/tables/{table}/rows", tag = "rows",
    params(("db" = String, Path), ("table" = String, Path), ("all" = Option<bool>, Query),
        ("maxAffected" = Option<u64>, Query)), request_body = Object,
    responses((status = 200, body = Affected), Problems))]
pub async fn change_many(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    pairs: Pairs,
    Json(body): Json<Box<RawValue>>,
) -> Result<Reply, Problem> {
    let facts = engine.changed_table(&call, &database, &table).await?;
    let bounds = Bounds::of(&facts, &pairs)?;
    let assignments = rows::assignments(&facts, &rows::object("body", &body)?)?;
    let sql = rows::update(&database, &table, &assignments, &bounds.condition);
    engine
        .change(&call, async |transaction| {
            bounds.run(&call, transaction, sql).await
        })
        .await
}
