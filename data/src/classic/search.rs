//! `GET /search`

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    call::Call,
    clock,
    engine::Engine,
    input::Query,
    mysql::Rows,
    problem::{Problem, Problems},
    reply::Reply,
    rows,
    search::{Bounds, Wanted},
    sql::{Name, Sql},
};

/// A search ends after this time, with what it has found.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// The database; all where it is left out.
    #[param(inline, example = "shop")]
    pub dbname: Option<Name>,
    /// The table; all where it is left out.
    #[param(inline, example = "users")]
    pub table: Option<Name>,
    /// The column; all where it is left out.
    #[param(inline)]
    pub column: Option<Name>,
    /// What is searched: a part of a text, or a whole number.
    pub value: Option<String>,
    /// A JSON object of columns with the values that they must have, in place of `value`; `dbname` and `table` must
    /// be given with it.
    pub condition: Option<String>,
    /// How many rows at most.
    pub limit: Option<usize>,
}

/// Rows of one table.
#[derive(Serialize, ToSchema)]
struct Found {
    /// The database.
    database: String,
    /// The table.
    table: String,
    /// The columns that were searched.
    columns: Vec<String>,
    /// The rows, each an object of columns with values.
    #[schema(value_type = Vec<Object>)]
    rows: Rows,
}

#[derive(Serialize, ToSchema)]
struct Search {
    ok: bool,
    /// How many rows there are here.
    count: usize,
    /// Everything was searched; false where the time or the limit was reached before.
    complete: bool,
    /// Where something was found.
    found: Vec<Found>,
}

/// Finds a value in one column, or in all columns, tables and databases
#[utoipa::path(get, path = "/search", tag = "classic", params(SearchQuery),
    responses((status = 200, body = Search), Problems))]
pub async fn search(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<SearchQuery>,
) -> Result<Reply, Problem> {
    carry_out(&engine, &call, query).await
}

pub async fn carry_out(engine: &Engine, call: &Call, query: SearchQuery) -> Result<Reply, Problem> {
    let limit = engine.page(query.limit)?;
    if let Some(database) = &query.dbname {
        call.reach(database)?;
    }
    match (&query.value, &query.condition) {
        (Some(value), None) => by_value(engine, call, &query, value, limit).await,
        (None, Some(condition)) => by_condition(engine, call, &query, condition, limit).await,
        _ => Err(Problem::bad_request("give either `value` or `condition`")),
    }
}

async fn by_condition(
    engine: &Engine,
    call: &Call,
    query: &SearchQuery,
    condition: &str,
    limit: usize,
) -> Result<Reply, Problem> {
    let (Some(database), Some(table), None) = (&query.dbname, &query.table, &query.column) else {
        return Err(Problem::bad_request(
            "condition: `dbname` and `table` must be given with it, and not `column`",
        ));
    };
    let raw = RawValue::from_string(condition.to_owned())
        .map_err(|error| Problem::bad_request(format!("condition: {error}")))?;
    call.reach_table(database, table)?;
    let facts = engine.table(call, database, table).await?;
    let object = rows::object("condition", &raw)?;
    let sql = Sql::new("SELECT * FROM ")
        .table(database, table)
        .text(" WHERE ")
        .part(&rows::condition(&facts, &raw)?)
        .text(" LIMIT ")
        .number(limit as u64 + 1);
    let rows = engine.rows(call, sql, limit).await?;
    let complete = !rows.more;
    let columns = object.keys().map(|name| name.as_str().to_owned()).collect();
    answer(
        vec![found((database.as_str(), table.as_str()), columns, rows)],
        complete,
    )
}

async fn by_value(
    engine: &Engine,
    call: &Call,
    query: &SearchQuery,
    value: &str,
    limit: usize,
) -> Result<Reply, Problem> {
    let bounds = Bounds {
        rows: limit,
        per_table: limit,
        until: clock::now() + PATIENCE,
    };
    let wanted = Wanted {
        value: value.to_owned(),
        databases: query.dbname.clone().into_iter().collect(),
        tables: query.table.clone().into_iter().collect(),
        columns: query.column.clone().into_iter().collect(),
    };
    let mut search = crate::search::Search::begin(engine, call, wanted, bounds).await?;
    let (mut all, mut complete) = (Vec::new(), true);
    while let Some(one) = search.next(engine, call).await? {
        complete &= one.cut.is_none();
        all.push(found((&one.database, &one.table), one.columns, one.rows));
    }
    answer(all, complete && search.unreached() == 0)
}

fn found((database, table): (&str, &str), columns: Vec<String>, rows: Rows) -> Found {
    Found {
        database: database.to_owned(),
        table: table.to_owned(),
        columns,
        rows,
    }
}

fn answer(found: Vec<Found>, complete: bool) -> Result<Reply, Problem> {
    Reply::ok(&Search {
        ok: true,
        count: found.iter().map(|found| found.rows.len()).sum(),
        complete,
        found: found.into_iter().filter(|found| !found.rows.is_empty()).collect(),
    })
}
