//! `PATCH /v1/databases/{db}/tables/{table}/rows/{key}`

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    key::{self, Change, Target},
    representation::{Options, Return, keeps_key},
};
use crate::{
    call::Call,
    engine::Engine,
    input::{Json, Path, Query},
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
///
/// With `return=representation` the reply has the row in the list `representation`.
#[utoipa::path(patch, path = "/v1/databases/{db}/tables/{table}/rows/{key}", tag = "rows",
    extensions(("x-role" = json!("writer"))),
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("key" = String, Path, example = "1"), Options),
    request_body(content = Object, example = json!({"name": "Jane", "age": 31})),
    responses((status = 200, body = Affected), Problems))]
pub async fn change(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table, key)): Path<(Name, Name, String)>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    Json(body): Json<Box<RawValue>>,
) -> Result<Reply, Problem> {
    let row = Target::of(&engine, &call, &database, &table, &key).await?;
    let object = rows::object("body", &body)?;
    let assignments = rows::assignments(&row.facts, &object)?;
    let change = Change::Statement(rows::update(&database, &table, &assignments, &row.condition));
    if options.r#return == Return::Representation {
        keeps_key(&row.facts, &object)?;
        return row.change_and_show(&headers, change).await;
    }
    row.change(&headers, change, Affected::of_one).await
}
