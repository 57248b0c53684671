//! Statements about connections and the statements of all accounts, which no account of a role may see or end.

use std::time::Duration;

use data::host::{Digest, Process};
use sqlx::mysql::MySqlRow;

use super::{Error, Lane, number, text};

/// A server with hundreds of connections answers well within this.
const LOOK: Duration = Duration::from_secs(2);
/// Of a longer statement only the beginning is shown.
const LONGEST: u32 = 4096;
/// Connections that are shown at most.
const MOST: u32 = 10_000;

impl Lane {
    /// All connections of clients, and what the server does for itself.
    pub async fn processes(&mut self) -> Result<Vec<Process>, Error> {
        let sql = processes("TRUE");
        let rows = self.rows("list the connections", LOOK, sql).await?;
        rows.iter().map(process).collect()
    }

    /// One connection, where it is still there.
    pub async fn process(&mut self, id: u64) -> Result<Option<Process>, Error> {
        let sql = processes(&format!("ID = {id}"));
        let rows = self.rows("look for a connection", LOOK, sql).await?;
        rows.first().map(process).transpose()
    }

    /// Ends a connection.
    pub async fn end_process(&mut self, id: u64) -> Result<(), Error> {
        self.run("end a connection", LOOK, format!("KILL {id}")).await
    }

    /// True where the server collects the forms of statements.
    pub async fn collects_statements(&mut self) -> Result<bool, Error> {
        const WHAT: &str = "ask whether statements are collected";
        let sql = "SELECT @@global.performance_schema_digests_size > 0 AND EXISTS (SELECT 1 FROM \
                   performance_schema.setup_instruments WHERE NAME = 'statement/sql/select' AND ENABLED = 'YES')"
            .to_owned();
        let collects: u8 = self.count(WHAT, LOOK, sql).await?;
        Ok(collects != 0)
    }

    /// The forms of statements that took most time together.
    pub async fn statements(&mut self, limit: usize) -> Result<Vec<Digest>, Error> {
        let sql = format!(
            "SELECT SCHEMA_NAME, DIGEST_TEXT, COUNT_STAR, SUM_ERRORS, SUM_TIMER_WAIT / 1e9, AVG_TIMER_WAIT / 1e9, \
             MAX_TIMER_WAIT / 1e9, SUM_ROWS_EXAMINED, SUM_ROWS_SENT, SUM_ROWS_AFFECTED, SUM_NO_INDEX_USED, LAST_SEEN \
             FROM performance_schema.events_statements_summary_by_digest WHERE DIGEST_TEXT IS NOT NULL \
             ORDER BY SUM_TIMER_WAIT DESC LIMIT {limit}"
        );
        let rows = self.rows("list the forms of statements", LOOK, sql).await?;
        rows.iter().map(digest).collect()
    }
}

fn processes(condition: &str) -> String {
    format!(
        "SELECT ID, USER, HOST, DB, COMMAND, TIME, STATE, LEFT(INFO, {LONGEST}) FROM performance_schema.processlist \
         WHERE {condition} ORDER BY TIME DESC, ID LIMIT {MOST}"
    )
}

fn process(row: &MySqlRow) -> Result<Process, Error> {
    const WHAT: &str = "read a connection";
    let some = |at| text(row, at, WHAT).map(|text| Some(text).filter(|text| !text.is_empty()));
    Ok(Process {
        id: number(row, 0, WHAT)?,
        user: text(row, 1, WHAT)?,
        host: text(row, 2, WHAT)?,
        database: some(3)?,
        command: text(row, 4, WHAT)?,
        seconds: number(row, 5, WHAT)?,
        state: some(6)?,
        statement: some(7)?,
    })
}

fn digest(row: &MySqlRow) -> Result<Digest, Error> {
    const WHAT: &str = "read a form of statements";
    let database = text(row, 0, WHAT)?;
    Ok(Digest {
        database: Some(database).filter(|name| !name.is_empty()),
        statement: text(row, 1, WHAT)?,
        count: number(row, 2, WHAT)?,
        errors: number(row, 3, WHAT)?,
        total_milliseconds: number(row, 4, WHAT)?,
        average_milliseconds: number(row, 5, WHAT)?,
        longest_milliseconds: number(row, 6, WHAT)?,
        rows_examined: number(row, 7, WHAT)?,
        rows_sent: number(row, 8, WHAT)?,
        rows_changed: number(row, 9, WHAT)?,
        without_index: number(row, 10, WHAT)?,
        last: text(row, 11, WHAT)?,
    })
}
