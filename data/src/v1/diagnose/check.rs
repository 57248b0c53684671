//! `GET /v1/diagnose`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    age,
    engine::Engine,
    host::Step,
    problem::{Problem, Problems},
    reply::Reply,
};

#[derive(Serialize, ToSchema)]
struct Diagnosis {
    /// The node that looked.
    node: String,
    /// Every step works.
    ok: bool,
    /// The steps, in their order.
    steps: Vec<Step>,
}

/// Checks step by step whether an application could connect from the asked node and write
///
/// The Secret of the application's account, DNS, TCP, TLS, login, the server's role; and at the end a row of the
/// database's own is committed on the master, with as many slaves as must acknowledge.
#[utoipa::path(get, path = "/v1/diagnose", tag = "cluster",
    responses((status = 200, body = inline(Diagnosis)), Problems))]
pub async fn check(State(engine): State<Arc<Engine>>) -> Result<Reply, Problem> {
    let mut steps = engine.host.diagnose().await;
    steps.push(age::write_probe(&engine).await);
    Reply::ok(&Diagnosis {
        node: engine.node.clone(),
        ok: steps.iter().all(|step| step.ok == Some(true)),
        steps,
    })
}
