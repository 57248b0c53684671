//! `GET /databases`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    call::Call,
    engine::Engine,
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Sql, is_system},
};

/// More databases than this are not listed.
const MOST: usize = 100_000;

#[derive(Serialize, ToSchema)]
struct Databases {
    ok: bool,
    /// Their names, in order.
    databases: Vec<String>,
}

/// Lists the databases that the token reaches
#[utoipa::path(get, path = "/databases", tag = "classic", responses((status = 200, body = Databases), Problems))]
pub async fn databases(State(engine): State<Arc<Engine>>, call: Call) -> Result<Reply, Problem> {
    let databases = list(&engine, &call).await?;
    Reply::ok(&Databases { ok: true, databases })
}

/// The databases that the caller reaches, in order.
pub async fn list(engine: &Engine, call: &Call) -> Result<Vec<String>, Problem> {
    let sql = Sql::new("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY SCHEMA_NAME");
    let mut names = engine.rows(call, sql, MOST).await?.texts();
    names.retain(|name| !is_system(name) && call.caller().reaches(name));
    Ok(names)
}
