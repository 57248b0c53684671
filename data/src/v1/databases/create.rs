//! `POST /v1/databases`

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    call::Call,
    classic::createdb,
    engine::Engine,
    input::Json,
    problem::{Problem, Problems},
    reply::Reply,
    sql::Name,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDatabase {
    /// Its name.
    name: Name,
}

#[derive(Serialize, ToSchema)]
struct Created<'a> {
    /// Its name.
    name: &'a str,
}

/// Makes a database
#[utoipa::path(post, path = "/v1/databases", tag = "databases",
    extensions(("x-role" = json!("writer"))), request_body = NewDatabase,
    responses((status = 201, body = inline(Created)), Problems))]
pub async fn create(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<NewDatabase>,
) -> Result<Reply, Problem> {
    let reply = Reply::created(&Created {
        name: body.name.as_str(),
    })?;
    createdb::create(&engine, &call, &body.name, reply).await
}
