//! `GET /createdb?name=`

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

/// Makes a database
#[utoipa::path(get, path = "/createdb", tag = "classic",
    extensions(("x-role" = json!("writer"))), params(DatabaseQuery),
    responses((status = 200, body = DatabaseReply), Problems))]
pub async fn createdb(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<DatabaseQuery>,
) -> Result<Reply, Problem> {
    let reply = DatabaseReply::of(&query.name)?;
    create(&engine, &call, &query.name, reply).await
}

pub async fn create(engine: &Engine, call: &Call, name: &Name, reply: Reply) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    call.reach(name)?;
    let sql = Sql::new("CREATE DATABASE ").name(name);
    engine
        .define(call, sql, |problem| problem.code == Some(1007), reply)
        .await
}
