//! `GET /tables?dbname=`

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    call::Call,
    engine::Engine,
    input::Query,
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Name, Sql},
};

/// More tables than this are not listed.
const MOST: usize = 100_000;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TablesQuery {
    /// The database.
    #[param(inline, example = "shop")]
    dbname: Name,
}

#[derive(Serialize, ToSchema)]
struct Listed {
    ok: bool,
    /// The database.
    database: String,
    /// Their names, in order.
    tables: Vec<String>,
}

/// Lists the tables of a database
#[utoipa::path(get, path = "/tables", tag = "classic", params(TablesQuery),
    responses((status = 200, body = Listed), Problems))]
pub async fn tables(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<TablesQuery>,
) -> Result<Reply, Problem> {
    let tables = list(&engine, &call, &query.dbname).await?;
    Reply::ok(&Listed {
        ok: true,
        database: query.dbname.as_str().to_owned(),
        tables,
    })
}

/// The tables of a database, in order.
pub async fn list(engine: &Engine, call: &Call, database: &Name) -> Result<Vec<String>, Problem> {
    call.reach(database)?;
    let sql = Sql::new(
        "SELECT COALESCE(t.TABLE_NAME, '') FROM information_schema.SCHEMATA s \
        LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME WHERE s.SCHEMA_NAME = ",
    )
    .name_value(database)
    .text(" ORDER BY 1");
    let mut names = engine.rows(call, sql, MOST).await?.texts();
    if names.is_empty() {
        return Err(Problem::not_found(format!(
            "there is no database {}",
            database.as_str()
        )));
    }
    names.retain(|name| !name.is_empty());
    Ok(names)
}
