//! `GET /v1/cluster/position`

use std::sync::Arc;

use axum::extract::State;

use crate::{
    call::Call,
    engine::Engine,
    position::Position,
    problem::{Problem, Problems},
    reply::Reply,
};

/// What the node that was asked has executed
#[utoipa::path(get, path = "/v1/cluster/position", tag = "cluster",
    responses((status = 200, body = Position), Problems))]
pub async fn position(State(engine): State<Arc<Engine>>, call: Call) -> Result<Reply, Problem> {
    Reply::ok(&engine.position(&call).await?)
}
