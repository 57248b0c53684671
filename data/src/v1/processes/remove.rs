//! `DELETE /v1/processes/{node}/{id}`

use std::sync::Arc;

use axum::{
    extract::State,
    http::Method,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    call::Call,
    engine::Engine,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
};

#[derive(Serialize, ToSchema)]
struct Ended {
    /// The node.
    node: String,
    /// The connection that was ended.
    id: u64,
}

/// Ends a connection to a node's MySQL
///
/// What it was changing is undone, unless it was being committed: then its client does not know, and the change may
/// stay. The database's own connections are not ended.
#[utoipa::path(delete, path = "/v1/processes/{node}/{id}", tag = "cluster",
    extensions(("x-role" = json!("admin"))), params(("node" = String, Path), ("id" = u64, Path)),
    responses((status = 200, body = inline(Ended)), Problems))]
pub async fn remove(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((node, id)): Path<(String, u64)>,
) -> Result<Response, Problem> {
    call.require_whole()?;
    call.note().object = format!("{node} connection {id}");
    if node == engine.node {
        engine.host.end_process(id).await?;
        return Ok(Reply::ok(&Ended { node, id })?.into_response());
    }
    let way = engine.way(&node)?;
    let path = format!("/v1/processes/{node}/{id}");
    let answered = engine
        .peers
        .ask(&engine, &way, &call, Method::DELETE, &path)
        .await?;
    Ok(answered.into_response())
}
