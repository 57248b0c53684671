//! `DELETE /v1/databases/{db}/tables/{table}/rows/{key}`

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};

use super::{change::Affected, key};
use crate::{
    access::Role,
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
    params(("db" = String, Path), ("table" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = Affected), Problems))]
pub async fn remove(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table, key)): Path<(Name, Name, String)>,
    headers: HeaderMap,
) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    call.reach_table(&database, &table)?;
    let facts = engine.table(&call, &database, &table).await?;
    let condition = key::condition(&facts, &key)?;
    let sql = rows::delete(&database, &table, &condition);
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
