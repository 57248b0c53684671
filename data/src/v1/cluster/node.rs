//! `GET /v1/cluster/nodes/{node}`

use std::sync::Arc;

use axum::extract::State;

use crate::{
    engine::Engine,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
    view::NodeFacts,
};

/// One node
#[utoipa::path(get, path = "/v1/cluster/nodes/{node}", tag = "cluster", params(("node" = String, Path)),
    responses((status = 200, body = NodeFacts), Problems))]
pub async fn node(State(engine): State<Arc<Engine>>, Path(name): Path<String>) -> Result<Reply, Problem> {
    let nodes = engine.nodes();
    let found = nodes.iter().find(|node| node.name == name);
    let found = found
        .ok_or_else(|| Problem::not_found("there is no node of this name; /v1/cluster names all of them"))?;
    Reply::ok(found)
}
