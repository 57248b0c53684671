//! `PATCH /v1/databases/{db}/tables/{table}/rows/{key}`

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::key;
use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    input::{Json, Path},
    problem::{Problem, Problems},
    reply::Reply,
    rows,
    sql::Name,
};

/// Rows that were reached.
#[derive(Serialize, ToSchema)]
pub struct Affected {
    /// How many.
    pub rows: u64,
}

/// Changes columns of one row
#[utoipa::path(patch, path = "/v1/databases/{db}/tables/{table}/rows/{key}", tag = "rows",
    params(("db" = String, Path), ("table" = String, Path), ("key" = String, Path)), request_body = Object,
    responses((status = 200, body = Affected), Problems))]
pub async fn change(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table, key)): Path<(Name, Name, String)>,
    headers: HeaderMap,
    Json(body): Json<Box<RawValue>>,
) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    call.reach_table(&database, &table)?;
    let facts = engine.table(&call, &database, &table).await?;
    let condition = key::condition(&facts, &key)?;
    let assignments = rows::assignments(&facts, &rows::object("body", &body)?)?;
    let sql = rows::update(&database, &table, &assignments, &condition);
    engine
        .change(&call, async |transaction| {
            key::check(transaction, &headers, &database, &table, &condition).await?;
            let done = transaction.run(sql).await?;
            call.note().rows = Some(done.rows);
            if done.rows == 0 {
                return Err(key::missing());
            }
            Reply::ok(&Affected { rows: done.rows })
        })
        .await
}
