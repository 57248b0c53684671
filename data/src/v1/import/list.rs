//! `GET /v1/import`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Import, record};
use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    problem::{Problem, Problems},
    reply::Reply,
};

#[derive(Serialize, ToSchema)]
struct Imports {
    /// The newest first.
    imports: Vec<Import>,
}

/// The token's imports of the last day that were begun without an `Idempotency-Key`
#[utoipa::path(get, path = "/v1/import", tag = "streams",
    extensions(("x-role" = json!("writer"))), responses((status = 200, body = inline(Imports)), Problems))]
pub async fn list(State(engine): State<Arc<Engine>>, call: Call) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    let imports = record::list(&engine, &call).await?;
    Reply::ok(&Imports { imports })
}
