//! Rows of the log as they are told.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{feed::End, tell};
use crate::{
    access::Account,
    engine::Engine,
    mysql::{
        Cell, Transaction,
        binlog::{Change, Decoded, Error, Event, Image, Rows, Table},
    },
    problem::Problem,
    sql::{Sql, Value},
};

/// Tells the rows of an event.
pub async fn shown(engine: &Engine, table: &Table, event: &Event, out: &mut Vec<u8>) -> Result<(), End> {
    let begun = out.len();
    let mut rows = Rows::of(event, table)?;
    loop {
        // The library has parts that panic at values that MySQL allows.
        let next = catch_unwind(AssertUnwindSafe(|| rows.next()));
        let change = match next.unwrap_or(Err(Error::Malformed("a value that the library fails at"))) {
            Ok(Some(Change { before, after })) => (before, after),
            Ok(None) => return Ok(()),
            Err(error) => {
                out.truncate(begun);
                return Err(error.into());
            }
        };
        let before = match change.0 {
            Some(image) => Some(values(engine, image).await?),
            None => None,
        };
        let after = match change.1 {
            Some(image) => Some(values(engine, image).await?),
            None => None,
        };
        tell::row(out, table, before.as_ref(), after.as_ref())?;
    }
}

/// The values of a row, with what only the server can translate translated.
async fn values(engine: &Engine, image: Image) -> Result<tell::Values, End> {
    let mut values = Vec::with_capacity(image.len());
    for (column, decoded) in image {
        let cell = match decoded {
            Decoded::Cell(cell) => cell,
            Decoded::Foreign(charset, texts) => match engine.translated(charset, texts).await {
                Ok(text) => Cell::Text(text),
                Err(problem) => {
                    tracing::info!(detail = problem.detail, charset, "a text is not translated");
                    return Err(End::Over);
                }
            },
        };
        values.push((column, cell));
    }
    Ok(values)
}

impl Engine {
    /// Texts in another set of characters than UTF-8, with commas between them.
    async fn translated(&self, charset: &'static str, texts: Vec<Vec<u8>>) -> Result<String, Problem> {
        if texts.is_empty() {
            return Ok(String::new());
        }
        let sql = Sql::new("SELECT CONCAT_WS(',', ")
            .list(", ", texts, |sql, text| {
                sql.text("CONVERT(CAST(")
                    .value(Value::Bytes(text))
                    .text(" AS CHAR CHARACTER SET ")
                    .text(charset)
                    .text(") USING utf8mb4)")
            })
            .text(")");
        let mut transaction = Transaction::begin(&self.pools, Account::READER, false).await?;
        let rows = transaction.quiet_rows(sql).await;
        transaction.rollback().await;
        Ok(rows?.texts().into_iter().next().unwrap_or_default())
    }
}
