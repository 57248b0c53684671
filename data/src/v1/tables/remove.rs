//! `DELETE /v1/databases/{db}/tables/{table}`

use std::sync::Arc;

use axum::extract::State;

use crate::{
    call::Call,
    classic::{self, body::TableReply},
    engine::Engine,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
    sql::Name,
};

/// Drops a table
#[utoipa::path(delete, path = "/v1/databases/{db}/tables/{table}", tag = "tables",
    extensions(("x-role" = json!("admin"))),
    params(("db" = inline(Name), Path, example = "shop"),
        ("table" = inline(Name), Path, example = "users")), responses((status = 200, body = TableReply), Problems))]
pub async fn remove(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
) -> Result<Reply, Problem> {
    classic::droptable::drop(&engine, &call, &database, &table).await
}
