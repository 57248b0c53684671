//! `GET /search`

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    problem::{Kind, Problem, Problems},
    reply::Reply,
    rows,
    sql::{Name, Sql, Value, is_system},
};

/// A search ends after this time, with what it has found.
const PATIENCE: Duration = Duration::from_secs(10);
/// More columns than this are not searched.
const COLUMNS: usize = 20_000;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// The database; all where it is left out.
    #[param(value_type = Option<String>)]
    pub dbname: Option<Name>,
    /// The table; all where it is left out.
    #[param(value_type = Option<String>)]
    pub table: Option<Name>,
    /// The column; all where it is left out.
    #[param(value_type = Option<String>)]
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

type Places = BTreeMap<(String, String), Vec<(String, bool)>>;

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
    let until = clock::now() + PATIENCE;
    let number = Value::number(value);
    let places = places(engine, call, query, number.is_some()).await?;
    let named = query.table.is_some() && query.column.is_some();
    if places.is_empty() && named && number.is_none() {
        return answer(Vec::new(), true);
    }
    let (mut all, mut count, mut complete) = (Vec::new(), 0, true);
    for ((database, table), columns) in places {
        if clock::left(until).is_zero() || count == limit {
            complete = false;
            break;
        }
        let (Ok(database), Ok(table)) = (Name::new(database), Name::new(table)) else {
            continue;
        };
        let sql = statement(&database, &table, &columns, value, number.as_ref(), limit - count);
        let rows = match engine.rows(call, sql, limit - count).await {
            Ok(rows) => rows,
            // Dropped in between, or too slow to be searched.
            Err(problem) if matches!(problem.kind(), Kind::NotFound | Kind::Timeout) => {
                complete = false;
                continue;
            }
            Err(problem) => return Err(problem),
        };
        complete &= !rows.more;
        count += rows.len();
        if !rows.is_empty() {
            let columns = columns.into_iter().map(|(column, _)| column).collect();
            all.push(found((database.as_str(), table.as_str()), columns, rows));
        }
    }
    answer(all, complete)
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

/// The columns that can hold the value, by table; each with whether it holds numbers.
async fn places(engine: &Engine, call: &Call, query: &SearchQuery, numbers: bool) -> Result<Places, Problem> {
    let mut sql = Sql::new(
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, c.CHARACTER_SET_NAME IS NULL \
         FROM information_schema.COLUMNS c JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA \
         AND t.TABLE_NAME = c.TABLE_NAME AND t.TABLE_TYPE = 'BASE TABLE' WHERE (c.CHARACTER_SET_NAME IS NOT NULL",
    );
    if numbers {
        sql = sql.text(
            " OR c.DATA_TYPE IN ('tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal', 'float', 'double', \
             'year', 'bit')",
        );
    }
    sql = sql.text(")");
    for (column, name) in [
        (" AND c.TABLE_SCHEMA = ", &query.dbname),
        (" AND c.TABLE_NAME = ", &query.table),
        (" AND c.COLUMN_NAME = ", &query.column),
    ] {
        if let Some(name) = name {
            sql = sql.text(column).name_value(name);
        }
    }
    let sql = sql.text(" ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION");
    let mut places = Places::new();
    for row in engine.rows(call, sql, COLUMNS).await?.cells {
        let [database, table, column, number] = row.as_slice() else {
            continue;
        };
        let database = database.as_text();
        if is_system(database) || !call.caller().reaches(database) {
            continue;
        }
        places
            .entry((database.to_owned(), table.as_text().to_owned()))
            .or_default()
            .push((column.as_text().to_owned(), number.as_unsigned() == Some(1)));
    }
    Ok(places)
}

fn statement(
    database: &Name,
    table: &Name,
    columns: &[(String, bool)],
    value: &str,
    number: Option<&Value>,
    limit: usize,
) -> Sql {
    let escaped: String = value
        .chars()
        .flat_map(|letter| {
            let special = matches!(letter, '%' | '_' | '\\');
            special.then_some('\\').into_iter().chain([letter])
        })
        .collect();
    let pattern = format!("%{escaped}%");
    let mut sql = Sql::new("SELECT * FROM ")
        .table(database, table)
        .text(" WHERE FALSE");
    for (column, is_number) in columns {
        let Ok(column) = Name::new(column.clone()) else {
            continue;
        };
        sql = match (is_number, number) {
            (true, Some(number)) => sql.text(" OR ").name(&column).text(" = ").value(number.clone()),
            (true, None) => sql,
            (false, _) => sql
                .text(" OR ")
                .name(&column)
                .text(" LIKE ")
                .value(Value::Text(pattern.clone())),
        };
    }
    sql.text(" LIMIT ").number(limit as u64 + 1)
}
