//! `POST /v1/cluster/beat`

use std::sync::Arc;

use axum::{Extension, extract::State};

use crate::{
    call::Peer,
    engine::Engine,
    position::Position,
    problem::{Kind, Problem, Problems},
    reply::Reply,
};

/// Writes the heartbeat row on the master, for its nodes only, and answers what the master has executed with it
#[utoipa::path(post, path = "/v1/cluster/beat", tag = "cluster", security(()),
    responses((status = 200, body = Position), Problems))]
pub async fn beat(
    State(engine): State<Arc<Engine>>,
    Extension(peer): Extension<Peer>,
) -> Result<Reply, Problem> {
    if !peer.is_node {
        return Err(Problem::new(
            Kind::Forbidden,
            "this is for the database's own nodes; read with `Consistency: bounded=250ms` instead",
        ));
    }
    engine.beat().await?;
    Reply::ok(&engine.own_position().await?)
}
