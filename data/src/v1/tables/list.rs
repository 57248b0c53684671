//! `GET /v1/databases/{db}/tables`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    call::Call,
    classic,
    engine::Engine,
    input::Path,
    problem::{Problem, Problems},
    reply::Reply,
    sql::Name,
};

#[derive(Serialize, ToSchema)]
struct Tables {
    /// Their names, in order.
    tables: Vec<String>,
}

/// Lists the tables of a database
#[utoipa::path(get, path = "/v1/databases/{db}/tables", tag = "tables",
    params(("db" = inline(Name), Path, example = "shop"))
        ,
    responses((status = 200, body = inline(Tables)), Problems))]
pub async fn list(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path(database): Path<Name>,
) -> Result<Reply, Problem> {
    let tables = classic::tables::list(&engine, &call, &database).await?;
    Reply::ok(&Tables { tables })
}
