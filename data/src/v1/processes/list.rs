//! `GET /v1/processes`

use std::sync::Arc;

use axum::{extract::State, http::Method};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    host::Process,
    input::Query,
    problem::{Problem, Problems},
    reply::Reply,
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only of this node.
    node: Option<String>,
}

/// The connections to one node's server.
#[derive(Serialize, Deserialize, ToSchema)]
struct OfNode {
    /// The node.
    node: String,
    /// Its connections, those that are longest in their state first; null where it does not answer.
    processes: Option<Vec<Process>>,
    /// Why it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
struct Processes {
    /// Every node that was asked.
    nodes: Vec<OfNode>,
}

/// Lists the connections to MySQL on every node, and what they do
///
/// Statements are shown to `admin` only, because they hold values. A token that is limited to databases is shown the
/// connections that use these.
#[utoipa::path(get, path = "/v1/processes", tag = "cluster", params(Filter),
    responses((status = 200, body = inline(Processes)), Problems))]
pub async fn list(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(filter): Query<Filter>,
) -> Result<Reply, Problem> {
    if let Some(node) = &filter.node {
        let of_node = one(&engine, &call, node).await?;
        return Reply::ok(&Processes { nodes: vec![of_node] });
    }
    let names: Vec<String> = engine.nodes().into_iter().map(|node| node.name).collect();
    let asked = names.iter().map(async |node| {
        one(&engine, &call, node).await.unwrap_or_else(|problem| OfNode {
            node: node.clone(),
            processes: None,
            problem: Some(problem.detail.clone()),
        })
    });
    Reply::ok(&Processes {
        nodes: join_all(asked).await,
    })
}

async fn one(engine: &Arc<Engine>, call: &Call, node: &str) -> Result<OfNode, Problem> {
    if node == engine.node {
        return Ok(OfNode {
            node: node.to_owned(),
            processes: Some(own(engine, call).await?),
            problem: None,
        });
    }
    let way = engine.way(node)?;
    let path = format!("/v1/processes?node={node}");
    let answer = engine.peers.ask(engine, &way, call, Method::GET, &path).await?;
    let answered = answer
        .read::<Processes>()
        .and_then(|all| all.nodes.into_iter().next());
    answered.ok_or_else(|| {
        Problem::new(
            crate::problem::Kind::NotServing,
            format!("the node {node} does not answer this at the moment"),
        )
    })
}

async fn own(engine: &Engine, call: &Call) -> Result<Vec<Process>, Problem> {
    let caller = call.caller();
    let mut all = engine.host.processes().await?;
    all.retain(|process| {
        caller.databases.is_none()
            || process
                .database
                .as_ref()
                .is_some_and(|database| caller.reaches(database))
    });
    // They hold values.
    if caller.role < Role::Admin || !caller.reads {
        for process in &mut all {
            process.statement = None;
        }
    }
    Ok(all)
}
