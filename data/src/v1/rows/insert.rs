//! `POST /v1/databases/{db}/tables/{table}/rows`

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::representation;
use crate::{
    call::Call,
    engine::Engine,
    input::{Json, Path, Query},
    mysql::Done,
    problem::{Problem, Problems},
    reply::Reply,
    rows,
    sql::{Name, Sql},
    table::TableFacts,
};

/// What happens to a row whose key is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Nothing is inserted.
    #[default]
    Error,
    /// It stays as it is.
    Ignore,
    /// It takes the new values.
    Merge,
}

/// What is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Return {
    /// How many rows.
    Minimal,
    /// And the first key that MySQL made.
    #[default]
    Keys,
    /// The rows as they are then, with all that MySQL made.
    Representation,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct Options {
    /// What happens to a row whose key is there already.
    #[serde(default)]
    #[param(inline)]
    on_conflict: OnConflict,
    /// What is answered.
    #[serde(default)]
    #[param(inline)]
    r#return: Return,
}

#[derive(Serialize, ToSchema)]
pub struct Inserted {
    /// Rows that were inserted; a merged one counts twice, as in MySQL.
    pub rows: u64,
    /// The key that MySQL made for the first row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
}

/// Inserts one row or several
///
/// With `return=representation` the reply has the rows in the list `representation`, with all that MySQL made.
#[utoipa::path(post, path = "/v1/databases/{db}/tables/{table}/rows", tag = "rows",
    params(("db" = String, Path), ("table" = String, Path), Options), request_body = Object,
    responses((status = 201, body = Inserted), Problems))]
pub async fn insert(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    Query(options): Query<Options>,
    Json(body): Json<Box<RawValue>>,
) -> Result<Reply, Problem> {
    let facts = engine.changed_table(&call, &database, &table).await?;
    let statement = |rows: &[rows::Object]| statement(&database, &table, &facts, rows, options.on_conflict);
    if options.r#return == Return::Representation {
        let rows = rows::objects("body", &body)?;
        let place = (&database, &table);
        let overwrites = options.on_conflict != OnConflict::Error;
        return representation::insert(&engine, &call, place, &facts, &rows, statement, overwrites).await;
    }
    let rows = rows::list("body", &body)?;
    let parts = rows::in_parts("body", &facts, &rows, statement);
    let reply = |done: Done| {
        Reply::created(&Inserted {
            rows: done.rows,
            id: done.made_key().filter(|_| options.r#return == Return::Keys),
        })
    };
    engine.change_in_parts(&call, parts, reply).await
}

fn statement(
    database: &Name,
    table: &Name,
    facts: &TableFacts,
    rows: &[rows::Object],
    on_conflict: OnConflict,
) -> Result<Sql, Problem> {
    let columns = rows::columns(rows);
    let sql = rows::insert_columns(database, table, facts, &columns, rows)?;
    Ok(match (on_conflict, columns.first()) {
        (OnConflict::Error, _) | (_, None) => sql,
        // A column set to itself changes nothing and hides no other error, as INSERT IGNORE would.
        (OnConflict::Ignore, Some(column)) => sql
            .text(" ON DUPLICATE KEY UPDATE ")
            .name(column)
            .text(" = ")
            .table(table, column),
        (OnConflict::Merge, Some(_)) => merged(sql, &columns),
    })
}

/// An `INSERT` whose row takes the place of one with the same key.
pub fn merged(sql: Sql, columns: &[&Name]) -> Sql {
    sql.text(" AS `new row` ON DUPLICATE KEY UPDATE ")
        .list(", ", columns.iter().copied(), |sql, column| {
            sql.name(column).text(" = `new row`.").name(column)
        })
}
