//! `GET /v1/search`

use std::{io, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    call::Call,
    clock,
    engine::Engine,
    format::{self, Format},
    input::Query,
    mysql::{Out, stream},
    problem::{Problem, Problems},
    search::{Bounds, Found, Search, Wanted, Why},
    sql::Name,
};

/// Seconds where the request says nothing.
const SECONDS: u64 = 10;
/// Seconds at most.
const MOST_SECONDS: u64 = 60;
/// Rows of one table where the request says nothing.
const PER_TABLE: usize = 20;
/// Tables that are listed as not read to their end; more are only counted.
const LISTED: usize = 100;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// What is searched: a part of a text, or a number.
    #[param(min_length = 1)]
    q: String,
    /// Only in these databases, with commas between them.
    databases: Option<String>,
    /// Only in tables of these names.
    tables: Option<String>,
    /// Only in columns of these names.
    columns: Option<String>,
    /// How many rows at most.
    limit: Option<usize>,
    /// How many rows of one table at most; 20 where it is left out.
    per_table: Option<usize>,
    /// How long at most; 10 where it is left out, 60 at most.
    #[param(minimum = 1, maximum = 60)]
    seconds: Option<u64>,
}

/// A row and where it was found.
#[derive(Serialize)]
struct Line<'a, R: Serialize> {
    database: &'a str,
    table: &'a str,
    columns: Vec<&'a str>,
    row: R,
}

/// A table that was not read to its end.
#[derive(Serialize, ToSchema)]
struct Cut {
    database: String,
    table: String,
    why: Why,
}

/// The last line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Last {
    end: bool,
    /// Every table was read to its end.
    complete: bool,
    rows: usize,
    /// Tables that were searched.
    tables: usize,
    /// Tables that the time or the limit did not suffice for.
    unreached: usize,
    /// Tables that were not read to their end.
    cut: Vec<Cut>,
}

/// Finds a value in every column of texts and numbers, across tables and databases
///
/// Each line is `{"database":…,"table":…,"columns":[…],"row":{…}}`, with the columns that hold the value. The last line
/// is `{"end":true,"complete":…,"rows":…,"tables":…,"unreached":…,"cut":[…]}`: where `complete` is false, there may be
/// more than was found, in the tables under `cut` and in as many as `unreached` says. A reply without it was broken off.
#[utoipa::path(get, path = "/v1/search", tag = "streams", params(SearchQuery),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), Problems))]
pub async fn find(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<SearchQuery>,
) -> Result<Response, Problem> {
    if query.q.is_empty() {
        return Err(Problem::bad_request("q: must not be empty"));
    }
    let seconds = query.seconds.unwrap_or(SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        return Err(Problem::bad_request(format!("seconds: from 1 to {MOST_SECONDS}")));
    }
    let bounds = Bounds {
        rows: engine.page(query.limit)?,
        per_table: engine.page(Some(query.per_table.unwrap_or(PER_TABLE)))?,
        until: clock::now() + Duration::from_secs(seconds),
    };
    let wanted = Wanted {
        value: query.q,
        databases: names("databases", query.databases.as_deref())?,
        tables: names("tables", query.tables.as_deref())?,
        columns: names("columns", query.columns.as_deref())?,
    };
    let place = engine.place_for_a_stream()?;
    let search = Search::begin(&engine, &call, wanted, bounds).await?;
    let (mut out, body) = stream();
    tokio::spawn(async move {
        let written = write(&engine, &call, search, &mut out).await;
        out.end(written).await;
        drop(place);
    });
    Ok((format::headers(Format::Ndjson.content_type()), body).into_response())
}

fn names(parameter: &str, list: Option<&str>) -> Result<Vec<Name>, Problem> {
    let list = list.unwrap_or_default();
    list.split(',')
        .filter(|_| !list.is_empty())
        .map(|name| {
            Name::new(name.trim()).map_err(|reason| Problem::bad_request(format!("{parameter}: {reason}")))
        })
        .collect()
}

async fn write(engine: &Engine, call: &Call, mut search: Search, out: &mut Out) -> io::Result<()> {
    let mut end = Last {
        end: true,
        complete: true,
        rows: 0,
        tables: 0,
        unreached: 0,
        cut: Vec::new(),
    };
    while let Some(found) = search
        .next(engine, call)
        .await
        .map_err(|problem| failed(&problem))?
    {
        end.tables += 1;
        end.rows += found.rows.len();
        lines(&found, out)?;
        if !found.rows.is_empty() {
            // Whoever waits sees it now and not when all is searched.
            out.flush().await?;
        }
        if let Some(why) = found.cut {
            end.complete = false;
            if end.cut.len() < LISTED {
                end.cut.push(Cut {
                    database: found.database,
                    table: found.table,
                    why,
                });
            }
        }
    }
    end.unreached = search.unreached();
    end.complete &= end.unreached == 0;
    format::line(out.part(), &end)
}

fn lines(found: &Found, out: &mut Out) -> io::Result<()> {
    for (row, hits) in found.rows.each().zip(&found.hits) {
        let hits = found.columns.iter().zip(hits).filter(|(_, hit)| **hit);
        let line = Line {
            database: &found.database,
            table: &found.table,
            columns: hits.map(|(column, _)| column.as_str()).collect(),
            row,
        };
        format::line(out.part(), &line)?;
    }
    Ok(())
}

/// The reply has begun; all that is left is to break it off.
fn failed(problem: &Problem) -> io::Error {
    io::Error::other(problem.detail.clone())
}
