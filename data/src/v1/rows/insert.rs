//! `POST /v1/databases/{db}/tables/{table}/rows`

use std::{sync::Arc, time::Instant};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::task::yield_now;
use utoipa::ToSchema;

use super::representation;
use crate::{
    call::Call,
    clock,
    engine::Engine,
    input::{Path, Query},
    load::{self, Chunk, Incoming, Insert, Objects, OnConflict, Reader, Row, TURN},
    mysql::{Done, Transaction},
    problem::{Kind, Problem, Problems},
    reply::Reply,
    shapes::Rows,
    sql::Name,
    table::TableFacts,
};

/// A transaction whose rows come as a stream lasts so many times as long as a statement may take, at most: other
/// transactions wait for the rows that it changed.
const LONGEST: u32 = 10;

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
    /// The field that stands for NULL in CSV, in place of `\N`; it may be empty.
    null: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Inserted {
    /// Rows that were inserted; a merged one counts twice, as in MySQL.
    pub rows: u64,
    /// The key that MySQL made for the first row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
}

/// Inserts one row or several, all or none
///
/// The body is one object, an array of objects, lines of JSON, or CSV whose first record names the columns. Lines and
/// CSV are taken as they come and may be larger than other bodies; an export of a table is understood as it is. With
/// `return=representation` the reply to objects has the rows in the list `representation`, with all that MySQL made.
#[utoipa::path(post, path = "/v1/databases/{db}/tables/{table}/rows", tag = "rows",
    extensions(("x-role" = json!("writer"))),
    params(("db" = inline(Name), Path, example = "shop"),
        ("table" = inline(Name), Path, example = "users"), Options),
    request_body(content((Rows = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"))),
    responses((status = 201, body = Inserted), Problems))]
pub async fn insert(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    Query(options): Query<Options>,
    incoming: Incoming,
) -> Result<Reply, Problem> {
    let facts = engine.changed_table(&call, &database, &table).await?;
    let insert = Insert::new(&database, &table, &facts, options.on_conflict)?;
    match incoming {
        Incoming::Json(raw) => {
            let objects = Objects::read("body", &raw, &facts)?;
            if options.r#return == Return::Representation {
                let place = (&database, &table);
                return representation::insert(&engine, &call, place, &facts, &objects, &insert).await;
            }
            let work = async |transaction: &mut Transaction| insert.each(transaction, &objects).await;
            engine.change_by(&call, work, |done| options.answer(done)).await
        }
        Incoming::Stream(..) if options.r#return == Return::Representation => Err(Problem::bad_request(
            "return=representation: for rows as JSON only; a stream of rows is not kept",
        )),
        Incoming::Stream(format, body) => {
            let limit = engine.limits.body;
            let mut reader = Reader::new(Arc::clone(&facts), body, format, limit, options.null.clone());
            let work = async |transaction: &mut Transaction| {
                let until = clock::now() + LONGEST * engine.limits.statement;
                all(&mut reader, &insert, &facts, transaction, until).await
            };
            engine.change_by(&call, work, |done| options.answer(done)).await
        }
    }
}

impl Options {
    fn answer(&self, done: Done) -> Result<Reply, Problem> {
        Reply::created(&Inserted {
            rows: done.rows,
            id: done.made_key().filter(|_| self.r#return == Return::Keys),
        })
    }
}

/// Inserts every row of a stream, a chunk at a time; a row that cannot be inserted is named and undoes all. The rows of a
/// chunk are read while MySQL inserts those of the one before.
async fn all(
    reader: &mut Reader,
    insert: &Insert,
    facts: &TableFacts,
    transaction: &mut Transaction,
    until: Instant,
) -> Result<Done, Problem> {
    let mut all = Done { rows: 0, key: 0 };
    let mut left = None;
    let mut next = chunk(reader, &mut left, insert, facts, until).await?;
    while let Some((rows, first)) = next {
        transaction.go_on();
        let (done, following) = tokio::join!(
            insert.run(transaction, rows.rows(), rows.is_full(facts.columns.len())),
            chunk(reader, &mut left, insert, facts, until)
        );
        load::add(&mut all, done.map_err(|problem| behind(problem, first))?);
        next = following?;
    }
    if reader.rows() == 0 {
        return Err(Problem::bad_request("body: there must be one row at least"));
    }
    Ok(all)
}

/// The rows of the next statement, and the line of the first one; none behind the last one. What was read and did not
/// fit is `left` for the next call.
async fn chunk(
    reader: &mut Reader,
    left: &mut Option<Row>,
    insert: &Insert,
    facts: &TableFacts,
    until: Instant,
) -> Result<Option<(Chunk, u64)>, Problem> {
    let (mut chunk, mut first) = (Chunk::default(), 1);
    loop {
        let row = match left.take() {
            Some(row) => Some(row),
            None => reader.next().await?,
        };
        if clock::left(until).is_zero() {
            return Err(Problem::new(
                Kind::Timeout,
                "the rows come for longer than one transaction may last; send them in parts, or to /v1/import",
            ));
        }
        let Some(row) = row else { break };
        let fits = row.cells.as_ref().is_ok_and(|cells| {
            !chunk.is_full(facts.columns.len())
                && chunk
                    .rows()
                    .first()
                    .is_none_or(|first| insert.goes_with(first, cells))
        });
        if !fits && !chunk.is_empty() {
            *left = Some(row);
            break;
        }
        let Row { line, cells, size } = row;
        let cells = cells.map_err(|reason| {
            Problem::new(
                Kind::BadValue,
                format!("line {line}: {reason}; nothing was changed"),
            )
        })?;
        if chunk.is_empty() {
            first = line;
        }
        chunk.push(cells, size);
        if chunk.rows().len().is_multiple_of(TURN) {
            yield_now().await;
        }
    }
    Ok((!chunk.is_empty()).then_some((chunk, first)))
}

/// MySQL counts the rows of a statement from 1; it says where the statement begins.
fn behind(mut problem: Problem, line: u64) -> Problem {
    problem.detail = format!(
        "among the rows from line {line} on: {}; nothing was changed",
        problem.detail
    );
    problem
}
