//! `GET /nodes`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    engine::Engine,
    problem::{Problem, Problems},
    reply::Reply,
    view::NodeFacts,
};

#[derive(Serialize, ToSchema)]
struct Nodes {
    ok: bool,
    /// Every node, as the operator saw it last; the one that answers knows itself best.
    nodes: Vec<NodeFacts>,
}

/// Every node: its name, address, role, whether it serves, and how far it is behind
#[utoipa::path(get, path = "/nodes", tag = "classic", responses((status = 200, body = Nodes), Problems))]
pub async fn nodes(State(engine): State<Arc<Engine>>) -> Result<Reply, Problem> {
    Reply::ok(&Nodes {
        ok: true,
        nodes: engine.nodes(),
    })
}

impl Engine {
    /// Every node; what this node knows of itself and of the master is newer than what the operator said.
    pub fn nodes(&self) -> Vec<NodeFacts> {
        let view = self.view.borrow();
        let mut nodes = view.nodes.to_vec();
        let mut at = |name: &str| -> usize {
            nodes
                .iter()
                .position(|node| node.name == name)
                .unwrap_or_else(|| {
                    nodes.push(NodeFacts {
                        name: name.to_owned(),
                        address: None,
                        role: None,
                        alive: false,
                        lag: None,
                        message: String::new(),
                    });
                    nodes.len() - 1
                })
        };
        let own = at(&self.node);
        let master = view.master.as_ref().map(|way| (at(&way.node), way));
        (nodes[own].role, nodes[own].alive) = (view.role, view.serving);
        if let Some((master, way)) = master {
            nodes[master].address.get_or_insert_with(|| way.host.clone());
            nodes[master].role.get_or_insert(crate::view::NodeRole::Master);
        }
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        nodes
    }
}
