//! `GET /v1/import/{id}`

use std::sync::Arc;

use axum::extract::State;

use super::{Import, record};
use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
};

/// How far an import is, on any node
///
/// Only the token that began it sees it. It is kept for a day.
#[utoipa::path(get, path = "/v1/import/{id}", tag = "streams",
    extensions(("x-role" = json!("writer"))), params(("id" = String, Path)),
    responses((status = 200, body = Import), Problems))]
pub async fn read(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path(id): Path<String>,
) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    Reply::ok(&record::find(&engine, &call, &id).await?)
}
