//! `PATCH /v1/databases/{db}/tables/{table}/rows/{key}`

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::key::{self, Target};
use crate::{
    call::Call,
    engine::Engine,
    input::{Json, Path},
    mysql::Done,
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

impl Affected {
    /// The reply to a change of one row, which must be there.
    pub fn of_one(done: Done) -> Result<Reply, Problem> {
        if done.rows == 0 {
            return Err(key::missing());
        }
        Reply::ok(&Self { rows: done.rows })
    }
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
    let row = Target::of(&engine, &call, &database, &table, &key).await?;
    let assignments = rows::assignments(&row.facts, &rows::object("body", &body)?)?;
    let sql = rows::update(&database, &table, &assignments, &row.condition);
    row.change(&headers, sql, Affected::of_one).await
}
