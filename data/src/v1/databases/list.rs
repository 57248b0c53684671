//! `GET /v1/databases`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    call::Call,
    classic,
    engine::Engine,
    problem::{Problem, Problems},
    reply::Reply,
};

#[derive(Serialize, ToSchema)]
struct Databases {
    /// Their names, in order.
    databases: Vec<String>,
}

/// Lists the databases that the token reaches
#[utoipa::path(get, path = "/v1/databases", tag = "databases",
    responses((status = 200, body = inline(Databases)), Problems))]
pub async fn list(State(engine): State<Arc<Engine>>, call: Call) -> Result<Reply, Problem> {
    let databases = classic::databases::list(&engine, &call).await?;
    Reply::ok(&Databases { databases })
}
