//! `DELETE /v1/databases/{db}/tables/{table}/rows/{key}`

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};

use super::{
    change::Affected,
    key::{Change, Target},
};
use crate::{
    call::Call,
    engine::Engine,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
    rows,
    sql::Name,
};

/// Deletes one row
#[utoipa::path(delete, path = "/v1/databases/{db}/tables/{table}/rows/{key}", tag = "rows",
    extensions(("x-role" = json!("writer"))),
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("key" = String, Path, example = "1")),
    responses((status = 200, body = Affected), Problems))]
pub async fn remove(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table, key)): Path<(Name, Name, String)>,
    headers: HeaderMap,
) -> Result<Reply, Problem> {
    let row = Target::of(&engine, &call, &database, &table, &key).await?;
    let change = Change::Statement(rows::delete(&database, &table, &row.condition));
    row.change(&headers, change, Affected::of_one).await
}
