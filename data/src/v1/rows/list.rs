//! `GET /v1/databases/{db}/tables/{table}/rows`

use std::sync::Arc;

use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use utoipa::ToSchema;

use super::filter;
use crate::{
    call::Call,
    engine::Engine,
    input::{Pairs, Path},
    mysql::{Cell, Rows},
    problem::{Problem, Problems},
    reply::Reply,
    sql::{Name, Sql, Value},
    table::TableFacts,
};

#[derive(Serialize, ToSchema)]
struct Page {
    /// The rows, each an object of columns with values.
    #[schema(value_type = Vec<Object>)]
    rows: Rows,
    /// Ask with `after=` this for the rows behind these; null where there are none.
    next: Option<String>,
    /// How many rows the filter reaches, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// Whether the rows are counted that a filter reaches.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only the document tells of it")]
enum Count {
    None,
    Estimated,
    Exact,
}

/// One column of the order.
struct Step {
    name: Name,
    down: bool,
}

/// Reads rows, a page at a time
///
/// Filters are `column=op.value`, where `op` is eq, ne, lt, lte, gt, gte, like, `in.(a,b)`, `between.low,high`,
/// `null.true`, `null.false` or match (a full-text index); `select` names columns, `order` is `column.asc` or
/// `column.desc`, `count` is none, estimated or exact.
#[utoipa::path(get, path = "/v1/databases/{db}/tables/{table}/rows", tag = "rows",
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("select" = Option<String>, Query),
        ("order" = Option<String>, Query), ("limit" = Option<usize>, Query), ("after" = Option<String>, Query),
        ("count" = inline(Option<Count>), Query), ("or" = Option<String>, Query)),
    responses((status = 200, body = Page), Problems))]
pub async fn list(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    pairs: Pairs,
) -> Result<Reply, Problem> {
    call.reach_table(&database, &table)?;
    let facts = engine.table(&call, &database, &table).await?;
    let limit = pairs.get("limit").map(str::parse).transpose();
    let limit = engine.page(limit.map_err(|_| Problem::bad_request("limit: must be a number"))?)?;
    let steps = order(&facts, pairs.get("order"))?;
    let selected = select(&facts, pairs.get("select"))?;
    let condition = filter::condition(&facts, &pairs.0)?;
    let mut sql = Sql::new("SELECT ").list(", ", &selected, Sql::name);
    // What the cursor is made of must be read, too; it is not shown.
    for step in &steps {
        sql = sql.text(", ").name(&step.name);
    }
    sql = sql.text(" FROM ").table(&database, &table).text(" WHERE TRUE");
    if let Some(condition) = &condition {
        sql = sql.text(" AND ").part(condition);
    }
    if let Some(cursor) = pairs.get("after") {
        sql = sql.text(" AND ").part(&behind(&facts, &steps, cursor)?);
    }
    if !steps.is_empty() {
        sql = sql.text(" ORDER BY ").list(", ", &steps, |sql, step| {
            sql.name(&step.name)
                .text(if step.down { " DESC" } else { " ASC" })
        });
    }
    let sql = sql.text(" LIMIT ").number(limit as u64 + 1);
    let mut rows = engine.rows(&call, sql, limit).await?;
    let next = if rows.more {
        cursor(&facts, &rows, selected.len())
    } else {
        None
    };
    rows.cut(selected.len());
    let count = count(
        &engine,
        &call,
        (&database, &table),
        condition.as_ref(),
        pairs.get("count"),
    )
    .await?;
    Reply::ok(&Page { rows, next, count })
}

fn select(facts: &TableFacts, text: Option<&str>) -> Result<Vec<Name>, Problem> {
    let wanted: Vec<&str> = match text {
        None | Some("*") => facts.columns.iter().map(|column| column.name.as_str()).collect(),
        Some(text) => text.split(',').map(str::trim).collect(),
    };
    wanted
        .into_iter()
        .map(|name| match facts.column(name) {
            Some(column) => column.sql_name(),
            None => Err(Problem::bad_request(format!(
                "select: there is no column `{name}`"
            ))),
        })
        .collect()
}

/// The wanted order, and then the key, so that every row has its place.
fn order(facts: &TableFacts, text: Option<&str>) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    for part in text.into_iter().flat_map(|text| text.split(',')) {
        let (name, down) = match part.trim().rsplit_once('.') {
            Some((name, "desc")) => (name, true),
            Some((name, "asc")) => (name, false),
            _ => (part.trim(), false),
        };
        let column = facts
            .column(name)
            .ok_or_else(|| Problem::bad_request(format!("order: there is no column `{name}`")))?;
        let name = column.sql_name()?;
        steps.push(Step { name, down });
    }
    for name in facts.key_names() {
        if !steps.iter().any(|step| step.name == name) {
            steps.push(Step { name, down: false });
        }
    }
    Ok(steps)
}

/// Where the next page begins. An order by a column that may be NULL, or without a key, has no such place.
fn cursor(facts: &TableFacts, rows: &Rows, shown: usize) -> Option<String> {
    let last = rows.cells.last()?.get(shown..)?;
    if last.is_empty() || facts.key.is_empty() || last.iter().any(|cell| matches!(cell, Cell::Null)) {
        return None;
    }
    Some(URL_SAFE_NO_PAD.encode(serde_json::to_vec(last).ok()?))
}

/// The rows behind a cursor: greater in the first column of the order, or equal there and greater in the next.
fn behind(facts: &TableFacts, steps: &[Step], cursor: &str) -> Result<Sql, Problem> {
    let wrong = || Problem::bad_request("after: must be the `next` of an earlier reply with the same order");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
    let values: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    if values.len() != steps.len() || steps.is_empty() {
        return Err(wrong());
    }
    if steps.iter().any(|step| {
        facts
            .column(step.name.as_str())
            .is_some_and(|column| column.nullable)
    }) {
        return Err(Problem::bad_request(
            "order: a column that may be NULL has no pages; order by another one",
        ));
    }
    let values: Vec<Value> = steps
        .iter()
        .zip(&values)
        .map(|(step, raw)| crate::rows::value(facts, &step.name, raw))
        .collect::<Result<_, _>>()?;
    let mut sql = Sql::new("(");
    for (at, step) in steps.iter().enumerate() {
        sql = sql.text(if at > 0 { " OR (" } else { "(" });
        for before in 0..at {
            sql = sql
                .name(&steps[before].name)
                .text(" = ")
                .value(values[before].clone())
                .text(" AND ");
        }
        sql = sql
            .name(&step.name)
            .text(if step.down { " < " } else { " > " })
            .value(values[at].clone())
            .text(")");
    }
    Ok(sql.text(")"))
}

async fn count(
    engine: &Engine,
    call: &Call,
    (database, table): (&Name, &Name),
    condition: Option<&Sql>,
    how: Option<&str>,
) -> Result<Option<u64>, Problem> {
    let sql = match how {
        None | Some("none") => return Ok(None),
        Some("exact") => {
            let sql = Sql::new("SELECT COUNT(*) FROM ").table(database, table);
            match condition {
                None => sql,
                Some(condition) => sql.text(" WHERE ").part(condition),
            }
        }
        Some("estimated") => {
            Sql::new("SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = ")
                .name_value(database)
                .text(" AND TABLE_NAME = ")
                .name_value(table)
        }
        Some(other) => {
            return Err(Problem::bad_request(format!(
                "count: `{other}` is not known; it is none, estimated or exact"
            )));
        }
    };
    let rows = engine.rows(call, sql, 1).await?;
    Ok(rows.number())
}
