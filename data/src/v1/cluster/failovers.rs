//! `GET /v1/cluster/failovers` and `GET /v1/cluster/failovers/{id}`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    engine::Engine,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
    view::Failover,
};

#[derive(Serialize, ToSchema)]
struct Failovers {
    /// The one under way, where there is one, and the last ten, newest first.
    failovers: Vec<Failover>,
}

/// The last changes of master, each with the milliseconds of its steps and the proof of what was kept
#[utoipa::path(get, path = "/v1/cluster/failovers", tag = "cluster",
    responses((status = 200, body = inline(Failovers)), Problems))]
pub async fn list(State(engine): State<Arc<Engine>>) -> Result<Reply, Problem> {
    Reply::ok(&Failovers {
        failovers: all(&engine),
    })
}

/// One change of master, named by its term
#[utoipa::path(get, path = "/v1/cluster/failovers/{id}", tag = "cluster", params(("id" = u64, Path)),
    responses((status = 200, body = Failover), Problems))]
pub async fn read(State(engine): State<Arc<Engine>>, Path(term): Path<u64>) -> Result<Reply, Problem> {
    let all = all(&engine);
    let found = all.iter().find(|failover| failover.term == term);
    let found = found.ok_or_else(|| {
        Problem::not_found(format!(
            "no change of master of term {term} is remembered; /v1/cluster/failovers names those that are"
        ))
    })?;
    Reply::ok(found)
}

fn all(engine: &Engine) -> Vec<Failover> {
    let whole = Arc::clone(&engine.view.borrow().whole);
    whole.change.iter().chain(&whole.failovers).cloned().collect()
}
