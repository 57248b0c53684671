//! `GET /v1/cluster`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    engine::Engine,
    problem::{Problem, Problems},
    reply::Reply,
    view::{Failover, NodeFacts, NodeRole, Request},
};

/// The database as the node that was asked knows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The node that answers.
    node: String,
    /// The highest term that it knows of.
    term: u64,
    /// The master's node; null while there is none.
    master: Option<String>,
    /// What the node that answers does, in a word.
    phase: &'static str,
    /// The state of the database in one word, as the operator sees it; null as long as it has said nothing.
    database: Option<String>,
    /// Every node.
    pub nodes: Vec<NodeFacts>,
    /// The change of master under way.
    change: Option<Failover>,
    /// What came of the last wish of a person: a switchover, or a new copy of a node.
    last_request: Option<Request>,
}

impl Cluster {
    /// As of now.
    pub fn of(engine: &Engine) -> Self {
        let nodes = engine.nodes();
        let view = engine.view.borrow().clone();
        let master = match view.role {
            Some(NodeRole::Master) if view.serving => Some(engine.node.clone()),
            _ => view.master.map(|way| way.node),
        };
        Self {
            node: engine.node.clone(),
            term: view.term,
            master,
            phase: view.phase,
            database: view.whole.state.clone(),
            nodes,
            change: view.whole.change.clone(),
            last_request: view.whole.request.clone(),
        }
    }
}

/// Term, master, and every node
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster), Problems))]
pub async fn read(State(engine): State<Arc<Engine>>) -> Result<Reply, Problem> {
    Reply::ok(&Cluster::of(&engine))
}
