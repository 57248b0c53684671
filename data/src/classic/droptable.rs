//! `GET /droptable?dbname=&table=`

use std::sync::Arc;

use axum::extract::State;

use super::body::{TableQuery, TableReply};
use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    input::Query,
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Name, Sql},
};

/// Drops a table
#[utoipa::path(get, path = "/droptable", tag = "classic",
    extensions(("x-role" = json!("admin"))), params(TableQuery),
    responses((status = 200, body = TableReply), Problems))]
pub async fn droptable(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<TableQuery>,
) -> Result<Reply, Problem> {
    drop(&engine, &call, &query.dbname, &query.table).await
}

pub async fn drop(engine: &Engine, call: &Call, database: &Name, table: &Name) -> Result<Reply, Problem> {
    call.require(Role::Admin)?;
    call.reach_table(database, table)?;
    let reply = TableReply::of(database, table)?;
    let sql = Sql::new("DROP TABLE ").table(database, table);
    engine
        .define(call, sql, |problem| problem.code == Some(1051), reply)
        .await
}
