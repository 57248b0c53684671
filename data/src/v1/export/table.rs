//! `GET /v1/export/{db}/{table}`

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use futures::stream;
use tokio::sync::mpsc;

use crate::{
    call::Call,
    engine::Engine,
    input::Path,
    mysql::Transaction,
    problem::{Kind, Problem, Problems},
    sql::{Name, Sql},
};

/// Parts that wait for a client to take them.
const AHEAD: usize = 2;

/// Streams all rows of a table, one JSON object a line
///
/// All lines are of one moment. The last line is `{"end":true,"rows":…}` and stands for completeness: without it the
/// stream was broken off.
#[utoipa::path(get, path = "/v1/export/{db}/{table}", tag = "streams",
    params(("db" = String, Path), ("table" = String, Path)),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), Problems))]
pub async fn table(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
) -> Result<Response, Problem> {
    call.reach_table(&database, &table)?;
    let facts = engine.table(&call, &database, &table).await?;
    let Ok(place) = Arc::clone(&engine.streams).try_acquire_owned() else {
        return Err(Problem::new(
            Kind::Busy,
            "the node streams as much as it can at the moment; try again, or ask another node",
        ));
    };
    let names: Vec<Name> = facts
        .columns
        .iter()
        .map(|column| Name::new(column.name.clone()).map_err(Problem::bad_request))
        .collect::<Result<_, _>>()?;
    let mut sql = Sql::new("SELECT ")
        .list(", ", &names, Sql::name)
        .text(" FROM ")
        .table(&database, &table);
    // In the order in which they are stored, so that nothing is sorted.
    if !facts.key.is_empty() {
        sql = sql.text(" ORDER BY ").list(", ", &facts.key_names(), Sql::name);
    }
    let transaction = Transaction::snapshot(&engine.pools, call.caller().role).await?;
    let (parts, taken) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        transaction.stream(sql, parts).await;
        drop(place);
    });
    let body = stream::unfold(taken, |mut taken| async {
        let part = taken.recv().await?;
        Some((part, taken))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}
