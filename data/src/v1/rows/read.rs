//! `GET /v1/databases/{db}/tables/{table}/rows/{key}`

use std::sync::Arc;

use axum::{extract::State, http::header};

use super::key;
use crate::{
    call::Call,
    engine::Engine,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Name, Sql},
};

/// Reads one row by its key
#[utoipa::path(get, path = "/v1/databases/{db}/tables/{table}/rows/{key}", tag = "rows",
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("key" = String, Path, example = "1")),
    responses((status = 200, body = Object), Problems))]
pub async fn read(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table, key)): Path<(Name, Name, String)>,
) -> Result<Reply, Problem> {
    call.reach_table(&database, &table)?;
    let facts = engine.table(&call, &database, &table).await?;
    let sql = Sql::new("SELECT * FROM ")
        .table(&database, &table)
        .text(" WHERE ")
        .part(&key::condition(&facts, &key)?);
    let rows = engine.rows(&call, sql, 1).await?;
    if rows.is_empty() {
        return Err(key::missing());
    }
    let etag = key::etag(&rows);
    Ok(Reply::ok(&rows.first())?.header(header::ETAG, &etag))
}
