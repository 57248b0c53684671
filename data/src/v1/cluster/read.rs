//! `GET /v1/cluster`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    engine::Engine,
    problem::{Problem, Problems},
    reply::Reply,
    view::{NodeFacts, NodeRole},
};

/// The database as the node that was asked knows it.
#[derive(Serialize, ToSchema)]
struct Cluster {
    /// The node that answers.
    node: String,
    /// The highest term that it knows of.
    term: u64,
    /// The master's node; null while there is none.
    master: Option<String>,
    /// What the node that answers does, in a word.
    phase: &'static str,
    /// Every node.
    nodes: Vec<NodeFacts>,
}

/// Term, master, and every node
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster), Problems))]
pub async fn read(State(engine): State<Arc<Engine>>) -> Result<Reply, Problem> {
    let nodes = engine.nodes();
    let view = engine.view.borrow().clone();
    let master = match view.role {
        Some(NodeRole::Master) if view.serving => Some(engine.node.clone()),
        _ => view.master.map(|way| way.node),
    };
    Reply::ok(&Cluster {
        node: engine.node.clone(),
        term: view.term,
        master,
        phase: view.phase,
        nodes,
    })
}
