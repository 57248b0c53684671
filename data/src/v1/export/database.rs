//! `GET /v1/export/{db}`

use std::{io, sync::Arc};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{Options, begin, every_row};
use crate::{
    call::Call,
    classic,
    engine::Engine,
    format::{self, Format, line},
    input::{Path, Query},
    mysql::{Out, Transaction, stream},
    problem::{Kind, Problem, Problems},
    sql::{Name, Sql, Value},
};

/// Tables of one export at most; their definitions are in memory while it lasts.
const MOST: usize = 10_000;

/// One row and where it is from.
#[derive(Serialize)]
struct Line<'a, R: Serialize> {
    table: &'a str,
    row: R,
}

/// The proof that these were all rows of a table.
#[derive(Serialize)]
struct LastOfTable<'a> {
    table: &'a str,
    end: bool,
    rows: u64,
}

/// The proof that these were all tables and all rows.
#[derive(Serialize)]
struct Last {
    end: bool,
    tables: usize,
    rows: u64,
}

/// Streams all rows of all tables of a database, as lines of JSON
///
/// All tables are of one moment. Each line is `{"table":…,"row":{…}}`; `{"table":…,"end":true,"rows":…}` ends a table.
/// The last line is `{"end":true,"tables":…,"rows":…}` and stands for completeness: without it the stream was broken
/// off. Views are left out, because their rows are those of tables.
#[utoipa::path(get, path = "/v1/export/{db}", tag = "streams",
    params(("db" = inline(Name), Path, example = "shop"),
        Options),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), Problems))]
pub async fn database(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path(database): Path<Name>,
    Query(options): Query<Options>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    call.reach(&database)?;
    let format = options.format(&headers);
    if format == Format::Csv {
        return Err(Problem::bad_request(
            "tables have different columns, so a database is exported as application/x-ndjson only; ask for each \
             table as text/csv",
        ));
    }
    let (place, mut transaction) = begin(&engine, &call).await?;
    let mut tables = Vec::new();
    for name in tables_of(&engine, &call, &database).await? {
        let facts = engine.table(&call, &database, &name).await?;
        let sql = every_row(&database, &name, &facts)?;
        tables.push((name, sql));
    }
    let (mut out, body) = stream();
    tokio::spawn(async move {
        let written = write(&mut transaction, &mut out, tables).await;
        transaction.end(out, written).await;
        drop(place);
    });
    Ok((format::headers(format.content_type()), body).into_response())
}

/// The tables of a database, in order, without views.
async fn tables_of(engine: &Engine, call: &Call, database: &Name) -> Result<Vec<Name>, Problem> {
    // It says which databases there are not.
    classic::tables::list(engine, call, database).await?;
    let sql = Sql::new(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA = ",
    )
    .value(Value::Text(database.as_str().to_owned()))
    .text(" ORDER BY 1");
    let names = engine.rows(call, sql, MOST).await?;
    if names.more {
        return Err(Problem::new(
            Kind::TooLarge,
            format!("the database has more than {MOST} tables; export them one by one"),
        ));
    }
    // MySQL's own names are valid.
    Ok(names
        .texts()
        .into_iter()
        .filter_map(|name| Name::new(name).ok())
        .collect())
}

async fn write(transaction: &mut Transaction, out: &mut Out, tables: Vec<(Name, Sql)>) -> io::Result<()> {
    let (count, mut all) = (tables.len(), 0);
    for (name, sql) in tables {
        let table = name.as_str();
        let rows = transaction
            .write(sql, out, |part, row| {
                line(
                    part,
                    &Line {
                        table,
                        row: row.first(),
                    },
                )
            })
            .await?;
        all += rows;
        line(
            out.part(),
            &LastOfTable {
                table,
                end: true,
                rows,
            },
        )?;
    }
    line(
        out.part(),
        &Last {
            end: true,
            tables: count,
            rows: all,
        },
    )
}
