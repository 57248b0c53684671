//! `GET /dropdb?name=`

use std::sync::Arc;

use axum::extract::State;

use super::body::{DatabaseQuery, DatabaseReply};
use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    input::Query,
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Name, Sql},
};

/// Drops a database with all that is in it
#[utoipa::path(get, path = "/dropdb", tag = "classic",
    extensions(("x-role" = json!("admin"))), params(DatabaseQuery),
    responses((status = 200, body = DatabaseReply), Problems))]
pub async fn dropdb(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<DatabaseQuery>,
) -> Result<Reply, Problem> {
    drop(&engine, &call, &query.name).await
}

pub async fn drop(engine: &Engine, call: &Call, name: &Name) -> Result<Reply, Problem> {
    call.require(Role::Admin)?;
    call.reach(name)?;
    let reply = DatabaseReply::of(name)?;
    let sql = Sql::new("DROP DATABASE ").name(name);
    let dropped = engine
        .define(call, sql, |problem| problem.code == Some(1008), reply)
        .await;
    dropped.map_err(|problem| match problem.code {
        Some(1008) => {
            Problem::not_found(format!("there is no database {}", name.as_str())).with_code(1008, None)
        }
        _ => problem,
    })
}
