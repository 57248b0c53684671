//! `GET /v1/export/{db}/{table}`

use std::{io, sync::Arc};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};

use super::{Options, begin, every_row};
use crate::{
    call::Call,
    engine::Engine,
    format::{self, Format},
    input::{Path, Query},
    mysql::{Out, Transaction, stream},
    problem::{Problem, Problems},
    sql::{Name, Sql},
    table::TableFacts,
};

/// Streams all rows of a table, as lines of JSON or as CSV
///
/// All lines are of one moment. The last line is `{"end":true,"rows":…}` and stands for completeness: without it the
/// stream was broken off. In CSV, the first record names the columns, `\N` is NULL, and the last record is
/// `\end rows=…`.
#[utoipa::path(get, path = "/v1/export/{db}/{table}", tag = "streams",
    params(("db" = inline(Name), Path, example = "shop"),
        ("table" = inline(Name), Path, example = "users"), Options),
    responses((status = 200, content((String = "application/x-ndjson"), (String = "text/csv"))), Problems))]
pub async fn table(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    Query(options): Query<Options>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    call.reach_table(&database, &table)?;
    let format = options.format(&headers);
    let (place, mut transaction) = begin(&engine, &call).await?;
    let facts = engine.table(&call, &database, &table).await?;
    let sql = every_row(&database, &table, &facts)?;
    let (mut out, body) = stream();
    tokio::spawn(async move {
        let written = write(&mut transaction, &mut out, sql, format, &facts).await;
        transaction.end(out, written).await;
        drop(place);
    });
    Ok((format::headers(format.content_type()), body).into_response())
}

async fn write(
    transaction: &mut Transaction,
    out: &mut Out,
    sql: Sql,
    format: Format,
    facts: &TableFacts,
) -> io::Result<()> {
    let names = facts.columns.iter().map(|column| column.name.as_str());
    format.head(out.part(), names);
    let rows = transaction
        .write(sql, out, |part, row| format.rows(part, row))
        .await?;
    format.end(out.part(), facts.columns.len(), rows);
    Ok(())
}
