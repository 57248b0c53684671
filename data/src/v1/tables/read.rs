//! `GET /v1/databases/{db}/tables/{table}`

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    call::Call,
    engine::Engine,
    input::Path,
    mysql::{Cell, Rows},
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Name, Sql},
    table::ColumnFacts,
};

/// More keys than a table can have.
const MOST: usize = 5000;

/// Enough of a table to draw a form of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Table {
    /// Its name.
    name: String,
    /// Its columns, in order.
    columns: Vec<ColumnFacts>,
    /// The columns of its primary key, in order.
    key: Vec<String>,
    /// Its indexes.
    indexes: Vec<Index>,
    /// What its columns refer to.
    foreign_keys: Vec<ForeignKey>,
    /// About how many rows it has.
    rows_estimate: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct Index {
    name: String,
    unique: bool,
    columns: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct ForeignKey {
    column: String,
    /// The table that is referred to.
    table: String,
    /// Its column.
    refers: String,
}

/// A table: columns, types, keys, foreign keys, indexes, about how many rows
#[utoipa::path(get, path = "/v1/databases/{db}/tables/{table}", tag = "tables",
    params(("db" = inline(Name), Path, example = "shop"),
        ("table" = inline(Name), Path, example = "users")), responses((status = 200, body = Table), Problems))]
pub async fn read(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
) -> Result<Reply, Problem> {
    call.reach_table(&database, &table)?;
    let facts = engine.table(&call, &database, &table).await?;
    let text = |cell: Option<&Cell>| cell.map(|cell| cell.as_text().to_owned()).unwrap_or_default();
    let ask = async |sql: Sql| -> Result<Rows, Problem> {
        let sql = sql
            .text(" WHERE TABLE_SCHEMA = ")
            .name_value(&database)
            .text(" AND TABLE_NAME = ")
            .name_value(&table);
        engine.rows(&call, sql, MOST).await
    };
    let mut indexes: BTreeMap<String, Index> = BTreeMap::new();
    let mut parts = ask(Sql::new(
        "SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SEQ_IN_INDEX FROM information_schema.STATISTICS",
    ))
    .await?
    .cells;
    parts.sort_by_key(|row| row.get(3).and_then(Cell::as_unsigned));
    for row in &parts {
        let index = indexes.entry(text(row.first())).or_insert_with(|| Index {
            name: text(row.first()),
            unique: row.get(1).and_then(Cell::as_unsigned) == Some(0),
            columns: Vec::new(),
        });
        index.columns.push(text(row.get(2)));
    }
    let references = ask(Sql::new(
        "SELECT COLUMN_NAME, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE",
    ))
    .await?;
    let foreign_keys = references
        .cells
        .iter()
        .filter(|row| !matches!(row.get(1), None | Some(Cell::Null)))
        .map(|row| ForeignKey {
            column: text(row.first()),
            table: text(row.get(1)),
            refers: text(row.get(2)),
        })
        .collect();
    let estimate = ask(Sql::new("SELECT TABLE_ROWS FROM information_schema.TABLES")).await?;
    Reply::ok(&Table {
        name: table.as_str().to_owned(),
        columns: facts.columns.clone(),
        key: facts.key.clone(),
        indexes: indexes.into_values().collect(),
        foreign_keys,
        rows_estimate: estimate.number(),
    })
}
