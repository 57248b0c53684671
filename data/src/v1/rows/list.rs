//! `GET /v1/databases/{db}/tables/{table}/rows`

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::filter;
use crate::{
    call::Call,
    engine::Engine,
    format::{self, Format},
    input::{Pairs, Path},
    mysql::Rows,
    problem::{Kind, Problem, Problems},
    reply::Reply,
    sql::{Name, Sql, Value},
    table::{ColumnFacts, TableFacts},
};

/// How many rows the filter reaches, where the reply is not a JSON document.
const COUNT: HeaderName = HeaderName::from_static("row-count");

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
/// A page begins behind the last row of the one before, by its place in the order: rows that come and go meanwhile
/// neither repeat nor hide others. Without a primary key, or in the order of a column of type ENUM, SET, FLOAT, BIT, TEXT,
/// BLOB, JSON or of shapes, rows have no such place and are counted off.
///
/// Filters are `column=op.value`, where `op` is eq, ne, lt, lte, gt, gte, like, `in.(a,b)`, `between.low,high`,
/// `null.true`, `null.false` or match (a full-text index); `select` names columns, `order` is `column.asc` or
/// `column.desc`, `count` is none, estimated or exact.
///
/// With `Accept: application/x-ndjson` or `text/csv` the page is lines or CSV as an export has them, with the end that
/// proves it whole; the next page is then named by the header `Link`, and the count by `Row-Count`.
#[utoipa::path(get, path = "/v1/databases/{db}/tables/{table}/rows", tag = "rows",
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("select" = Option<String>, Query),
        ("order" = Option<String>, Query), ("limit" = Option<usize>, Query), ("after" = Option<String>, Query),
        ("count" = inline(Option<Count>), Query), ("or" = Option<String>, Query)),
    responses((status = 200, content((Page = "application/json"), (String = "application/x-ndjson"),
        (String = "text/csv"))), Problems))]
pub async fn list(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    pairs: Pairs,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    call.reach_table(&database, &table)?;
    let facts = engine.table(&call, &database, &table).await?;
    let limit = pairs.get("limit").map(str::parse).transpose();
    let limit = engine.page(limit.map_err(|_| Problem::bad_request("limit: must be a number"))?)?;
    let steps = order(&facts, pairs.get("order"))?;
    let selected = select(&facts, pairs.get("select"))?;
    let condition = filter::condition(&facts, &pairs.0)?;
    let mut sql = Sql::new("SELECT ").list(", ", &selected, Sql::name);
    let by_key = has_places(&facts, &steps);
    if by_key {
        // What the cursor is made of must be read, too; it is not shown.
        for step in &steps {
            sql = sql.text(", ").name(&step.name);
        }
    }
    sql = sql.text(" FROM ").table(&database, &table).text(" WHERE TRUE");
    if let Some(condition) = &condition {
        sql = sql.text(" AND ").part(condition);
    }
    let after = pairs.get("after").map(|text| after(text, by_key)).transpose()?;
    if let Some(After::Row(values)) = &after {
        sql = sql.text(" AND ").part(&behind(&facts, &steps, values)?);
    }
    if !steps.is_empty() {
        sql = sql.text(" ORDER BY ").list(", ", &steps, |sql, step| {
            sql.name(&step.name)
                .text(if step.down { " DESC" } else { " ASC" })
        });
    }
    let mut sql = sql.text(" LIMIT ").number(limit as u64 + 1);
    let passed = match after {
        Some(After::Rows(passed)) => passed,
        _ => 0,
    };
    if passed > 0 {
        sql = sql.text(" OFFSET ").number(passed);
    }
    let mut rows = engine.rows(&call, sql, limit).await?;
    let next = match rows.cells.last() {
        Some(last) if rows.more && by_key => Some(cursor(&last[selected.len()..])?),
        Some(_) if rows.more => Some(cursor(&(passed + rows.len() as u64))?),
        _ => None,
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
    let page = Page { rows, next, count };
    match Format::accepted(&headers) {
        None => Ok(Reply::ok(&page)?.into_response()),
        Some(format) => written(&page, &selected, format, &uri),
    }
}

/// A page as lines or as CSV.
fn written(page: &Page, selected: &[Name], format: Format, uri: &Uri) -> Result<Response, Problem> {
    let mut out = Vec::new();
    format.head(&mut out, selected.iter().map(Name::as_str));
    format.rows(&mut out, &page.rows).map_err(|error| {
        tracing::error!(%error, "a page could not be written");
        Problem::new(Kind::Internal, "the node could not write the reply")
    })?;
    format.end(&mut out, selected.len(), page.rows.len() as u64);
    let mut response = (format::headers(format.content_type()), out).into_response();
    let headers = response.headers_mut();
    let next = page.next.as_deref().map(|next| link(uri, next));
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        headers.insert(header::LINK, next);
    }
    if let Some(count) = page.count {
        headers.insert(COUNT, count.into());
    }
    Ok(response)
}

/// The same request for the page that begins behind this one.
fn link(uri: &Uri, next: &str) -> String {
    // The first of its name counts, and a cursor has only signs that stand for themselves in a URL.
    let mut query = format!("after={next}");
    let same = uri.query().unwrap_or_default().split('&');
    for pair in same.filter(|pair| !pair.is_empty() && !pair.starts_with("after=")) {
        query.push('&');
        query.push_str(pair);
    }
    format!("<?{query}>; rel=\"next\"")
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

/// The wanted order, and then the key, so that every row has its place. Without a key, rows are told apart by all of
/// their columns.
fn order(facts: &TableFacts, text: Option<&str>) -> Result<Vec<Step>, Problem> {
    let mut steps: Vec<Step> = Vec::new();
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
        // A second mention orders nothing.
        if !steps.iter().any(|step| step.name == name) {
            steps.push(Step { name, down });
        }
    }
    // In the direction of the last one, so that an index on it serves for the key as well.
    let down = steps.last().is_some_and(|step| step.down);
    let mut last = facts.key_names();
    if last.is_empty() && !steps.is_empty() {
        // Equal rows in an order of their own on each page would be missing on all of them.
        last = facts
            .columns
            .iter()
            .map(ColumnFacts::sql_name)
            .collect::<Result<_, _>>()?;
    }
    for name in last {
        if !steps.iter().any(|step| step.name == name) {
            steps.push(Step { name, down });
        }
    }
    Ok(steps)
}

/// Whether a row's values say where it stands in the order. Not without a key; and not of types whose order is another one
/// than that of comparing with a value.
fn has_places(facts: &TableFacts, steps: &[Step]) -> bool {
    // Texts without a bound may be too long for the next request.
    const OTHERWISE: [&str; 19] = [
        "enum",
        "set",
        "float",
        "json",
        "geom",
        "point",
        "line",
        "poly",
        "multi",
        "vector",
        "bit",
        "tinytext",
        "text",
        "mediumtext",
        "longtext",
        "tinyblob",
        "blob",
        "mediumblob",
        "longblob",
    ];
    let compares = |step: &Step| {
        facts
            .column(step.name.as_str())
            .is_some_and(|column| !OTHERWISE.iter().any(|kind| column.kind.starts_with(kind)))
    };
    !facts.key.is_empty() && steps.iter().all(compares)
}

/// Where the page before ended.
enum After {
    /// With the row that has these values in the columns of the order.
    Row(Vec<Box<RawValue>>),
    /// With so many rows passed.
    Rows(u64),
}

fn cursor(after: &(impl Serialize + ?Sized)) -> Result<String, Problem> {
    let bytes = serde_json::to_vec(after).map_err(|error| {
        tracing::error!(%error, "a cursor could not be written");
        Problem::new(
            Kind::Internal,
            "the node could not write where the next page begins",
        )
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn wrong() -> Problem {
    Problem::bad_request("after: must be the `next` of an earlier reply with the same order")
}

fn after(text: &str, by_key: bool) -> Result<After, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let read = if by_key {
        serde_json::from_slice(&bytes).map(After::Row)
    } else {
        serde_json::from_slice(&bytes).map(After::Rows)
    };
    read.map_err(|_| wrong())
}

/// The rows behind one: greater in the first column of the order, or equal there and greater in the next. MySQL takes NULL
/// for less than every value.
fn behind(facts: &TableFacts, steps: &[Step], last: &[Box<RawValue>]) -> Result<Sql, Problem> {
    if last.len() != steps.len() {
        return Err(wrong());
    }
    let mut equal = Sql::default();
    let mut sql = Sql::new("(FALSE");
    for (step, raw) in steps.iter().zip(last) {
        let value = crate::rows::value(facts, &step.name, raw)?;
        let or = sql.text(" OR (").part(&equal);
        let name = &step.name;
        sql = match (&value, step.down) {
            (Value::Null, false) => or.name(name).text(" IS NOT NULL"),
            (Value::Null, true) => or.text("FALSE"),
            (_, false) => or.name(name).text(" > ").value(value.clone()),
            (_, true) => {
                let less = or.text("(").name(name).text(" < ").value(value.clone());
                less.text(" OR ").name(name).text(" IS NULL)")
            }
        }
        .text(")");
        equal = match value {
            Value::Null => equal.name(name).text(" IS NULL AND "),
            value => equal.name(name).text(" = ").value(value).text(" AND "),
        };
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
