//! Whole tables and whole databases as streams.

pub mod database;
pub mod table;

use axum::http::HeaderMap;
use serde::Deserialize;

use crate::{
    call::Call,
    engine::Engine,
    format::Format,
    mysql::Transaction,
    problem::Problem,
    sql::{Name, Sql},
    table::{ColumnFacts, TableFacts},
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Options {
    /// `ndjson` or `csv`; it counts for more than `Accept`.
    #[param(inline)]
    format: Option<Format>,
}

impl Options {
    fn format(&self, headers: &HeaderMap) -> Format {
        self.format
            .or_else(|| Format::accepted(headers))
            .unwrap_or(Format::Ndjson)
    }
}

/// Every row of a table, in the order in which they are stored, so that nothing is sorted.
fn every_row(database: &Name, table: &Name, facts: &TableFacts) -> Result<Sql, Problem> {
    let names: Vec<Name> = facts
        .columns
        .iter()
        .map(ColumnFacts::sql_name)
        .collect::<Result<_, _>>()?;
    let sql = Sql::new("SELECT ")
        .list(", ", &names, Sql::name)
        .text(" FROM ")
        .table(database, table);
    if facts.key.is_empty() {
        return Ok(sql);
    }
    Ok(sql.text(" ORDER BY ").list(", ", &facts.key_names(), Sql::name))
}

/// A place among the streams, and the state of this moment. Definitions are to be read after it: MySQL refuses to read
/// a table that was changed since, so that no column is missed.
async fn begin(
    engine: &Engine,
    call: &Call,
) -> Result<(tokio::sync::OwnedSemaphorePermit, Transaction), Problem> {
    let place = engine.place_for_a_stream()?;
    let transaction = Transaction::snapshot(&engine.pools, call.caller().account).await?;
    engine.tables.forget();
    Ok((place, transaction))
}
