//! Every SQL statement of this crate, one a function, each with its own deadline. Callers know tables and rows, never
//! statements.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use sqlx::{
    AssertSqlSafe, Connection, Row,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode},
    raw_sql,
};
use tokio::time::{sleep, timeout};

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub struct Address {
    /// An IP address: names of the cluster are not resolvable where this runs.
    pub host: String,
    /// The account's name.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Statements that move or read much.
const LONG: Duration = Duration::from_mins(1);
/// Everything else that is not the writers' own deadline.
const SHORT: Duration = Duration::from_secs(10);

/// A connection within `deadline`, from the first packet to the accepted login.
pub async fn connect(address: &Address, deadline: Duration) -> Result<MySqlConnection> {
    // No session settings are sent after the login: each would cost a round trip in the middle of an outage.
    let options = MySqlConnectOptions::new()
        .host(&address.host)
        .port(api::wire::MYSQL_PORT)
        .username(&address.user)
        .password(&address.password)
        .ssl_mode(MySqlSslMode::Preferred)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false);
    let connected = timeout(deadline, MySqlConnection::connect_with(&options)).await;
    connected
        .context("no login within the deadline")?
        .with_context(|| format!("connecting to {}", address.host))
}

/// The number of the error with which MySQL refused, where it was MySQL that did.
pub fn refusal(error: &anyhow::Error) -> Option<u16> {
    let sqlx::Error::Database(error) = error.downcast_ref()? else {
        return None;
    };
    let error = error.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// A connection over a socket, without a password.
pub async fn connect_socket(socket: &Path, user: &str) -> Result<MySqlConnection> {
    let options = MySqlConnectOptions::new()
        .socket(socket)
        .username(user)
        .ssl_mode(MySqlSslMode::Disabled)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false);
    let connected = timeout(SHORT, MySqlConnection::connect_with(&options)).await;
    connected
        .context("no login within the deadline")?
        .with_context(|| format!("connecting to {}", socket.display()))
}

async fn execute(connection: &mut MySqlConnection, sql: String, deadline: Duration) -> Result<()> {
    let done = timeout(deadline, raw_sql(AssertSqlSafe(sql)).execute(connection)).await;
    done.context("the statement's deadline passed")??;
    Ok(())
}

/// An empty table for writers. `id` is deliberately not unique there: a row written twice must be seen, not refused.
pub async fn create_writes(connection: &mut MySqlConnection, table: &str) -> Result<()> {
    let schema = table.split('.').next().unwrap_or(table);
    execute(
        connection,
        format!("CREATE DATABASE IF NOT EXISTS {schema}"),
        SHORT,
    )
    .await?;
    let columns =
        "pk BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL, note VARCHAR(64) NOT NULL, KEY (id)";
    execute(
        connection,
        format!("CREATE TABLE IF NOT EXISTS {table} ({columns})"),
        SHORT,
    )
    .await
}

/// One write, autocommitted; the error is sqlx's own, because its kind decides the outcome.
pub async fn insert_write(connection: &mut MySqlConnection, table: &str, id: i64) -> Result<(), sqlx::Error> {
    let sql = format!("INSERT INTO {table} (id, note) VALUES ({id}, 'row {id}')");
    raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// The row with this key, which must be there.
pub async fn read_by_key(connection: &mut MySqlConnection, table: &str, key: u64) -> Result<()> {
    let sql = format!("SELECT note FROM {table} WHERE pk = {key}");
    raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(())
}

/// One write that takes so long to execute.
pub async fn insert_slowly(
    connection: &mut MySqlConnection,
    table: &str,
    id: i64,
    seconds: u64,
) -> Result<(), sqlx::Error> {
    let sql = format!("INSERT INTO {table} (id, note) SELECT {id}, SLEEP({seconds})");
    raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Begins a transaction.
pub async fn begin(connection: &mut MySqlConnection) -> Result<()> {
    execute(connection, "BEGIN".to_owned(), SHORT).await
}

/// Ends a transaction.
pub async fn commit(connection: &mut MySqlConnection) -> Result<()> {
    execute(connection, "COMMIT".to_owned(), SHORT).await
}

/// Removes a table.
pub async fn drop_table(connection: &mut MySqlConnection, table: &str) -> Result<()> {
    execute(connection, format!("DROP TABLE IF EXISTS {table}"), SHORT).await
}

/// Makes an account that may log in and nothing else. The administrator's.
pub async fn create_account(connection: &mut MySqlConnection, user: &str, password: &str) -> Result<()> {
    let sql = format!("CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{password}'");
    execute(connection, sql, SHORT).await
}

/// Removes an account. The administrator's.
pub async fn drop_account(connection: &mut MySqlConnection, user: &str) -> Result<()> {
    execute(connection, format!("DROP USER IF EXISTS {user}"), SHORT).await
}

/// Lets nobody else write to a table until the session ends. The administrator's.
pub async fn lock_table(connection: &mut MySqlConnection, table: &str) -> Result<()> {
    execute(connection, format!("LOCK TABLES {table} READ"), SHORT).await
}

/// Writes a transaction on a slave that its master does not have, and gives what the slave has executed then. The
/// administrator's.
pub async fn write_errant(connection: &mut MySqlConnection, schema: &str) -> Result<String> {
    execute(connection, "SET GLOBAL super_read_only = OFF".to_owned(), SHORT).await?;
    execute(connection, format!("CREATE DATABASE {schema}"), SHORT).await?;
    // At once, because the operator has the data replaced.
    let executed = executed(connection).await?;
    execute(connection, "SET GLOBAL super_read_only = ON".to_owned(), SHORT).await?;
    Ok(executed)
}

/// Empties a table on a slave without a trace in its binary log. The administrator's.
pub async fn delete_unlogged(connection: &mut MySqlConnection, table: &str) -> Result<()> {
    execute(connection, "SET SESSION sql_log_bin = OFF".to_owned(), SHORT).await?;
    execute(connection, "SET GLOBAL super_read_only = OFF".to_owned(), SHORT).await?;
    execute(connection, format!("DELETE FROM {table}"), SHORT).await?;
    execute(connection, "SET GLOBAL super_read_only = ON".to_owned(), SHORT).await
}

/// Removes all rows.
pub async fn delete_all(connection: &mut MySqlConnection, table: &str) -> Result<()> {
    execute(connection, format!("DELETE FROM {table}"), SHORT).await
}

/// Removes every binary log but the current one, whoever may still be sent one of them: the server keeps a log that it
/// sends, also where nobody hears it. Ends what is sent to `deaf` for that. The administrator's.
pub async fn purge_logs(connection: &mut MySqlConnection, deaf: &str) -> Result<()> {
    let sending = format!(
        "SELECT CAST(id AS CHAR) FROM performance_schema.processlist WHERE command LIKE 'Binlog Dump%' AND host LIKE '{deaf}:%'"
    );
    let rows = timeout(SHORT, raw_sql(AssertSqlSafe(sending)).fetch_all(&mut *connection));
    for row in rows.await.context("looking for slaves")?? {
        execute(connection, format!("KILL {}", text(&row, 0)?), SHORT).await?;
    }
    execute(connection, "FLUSH BINARY LOGS".to_owned(), SHORT).await?;
    let row = timeout(
        SHORT,
        raw_sql("SHOW BINARY LOG STATUS").fetch_one(&mut *connection),
    );
    let current = text(&row.await.context("SHOW BINARY LOG STATUS")??, 0)?;
    for _ in 0..20 {
        execute(connection, format!("PURGE BINARY LOGS TO '{current}'"), SHORT).await?;
        let rows = timeout(SHORT, raw_sql("SHOW BINARY LOGS").fetch_all(&mut *connection));
        let first = rows.await.context("SHOW BINARY LOGS")??;
        if first.first().map(|row| text(row, 0)).transpose()?.as_ref() == Some(&current) {
            return Ok(());
        }
        // What sent them ends in a moment.
        sleep(Duration::from_millis(250)).await;
    }
    bail!("older binary logs than {current} are still there")
}

/// Whether the server has a schema of this name.
pub async fn has_schema(connection: &mut MySqlConnection, schema: &str) -> Result<bool> {
    let sql = format!("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '{schema}'");
    let row = timeout(SHORT, raw_sql(AssertSqlSafe(sql)).fetch_one(connection))
        .await
        .context("looking for a schema")??;
    Ok(row.try_get::<i64, _>(0)? > 0)
}

/// Removes a schema with all its tables.
pub async fn drop_schema(connection: &mut MySqlConnection, schema: &str) -> Result<()> {
    execute(connection, format!("DROP DATABASE IF EXISTS {schema}"), SHORT).await
}

/// One read that touches a table.
pub async fn read_one(connection: &mut MySqlConnection, table: &str) -> Result<()> {
    execute(
        connection,
        format!("SELECT id FROM {table} LIMIT 1"),
        Duration::from_secs(1),
    )
    .await
}

/// How many rows of each id.
pub async fn ids(connection: &mut MySqlConnection, table: &str) -> Result<BTreeMap<i64, u64>> {
    let sql = format!("SELECT id FROM {table}");
    let rows = timeout(LONG, raw_sql(AssertSqlSafe(sql)).fetch_all(connection))
        .await
        .context("reading ids")??;
    let mut found = BTreeMap::new();
    for row in rows {
        *found.entry(row.try_get(0)?).or_insert(0) += 1;
    }
    Ok(found)
}

/// All tables that clients made, as `schema.table`.
pub async fn tables(connection: &mut MySqlConnection, schemas: &[&str]) -> Result<Vec<String>> {
    if schemas.is_empty() {
        return Ok(Vec::new());
    }
    let list = schemas
        .iter()
        .map(|schema| format!("'{schema}'"))
        .collect::<Vec<_>>()
        .join(",");
    let sql = format!(
        "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables \
         WHERE table_schema IN ({list}) ORDER BY 1"
    );
    let rows = timeout(SHORT, raw_sql(AssertSqlSafe(sql)).fetch_all(connection))
        .await
        .context("listing tables")??;
    rows.iter().map(|row| text(row, 0)).collect()
}

/// The server's own checksum over all rows of a table.
pub async fn checksum(connection: &mut MySqlConnection, table: &str) -> Result<i64> {
    let sql = format!("CHECKSUM TABLE {table}");
    let row = timeout(LONG, raw_sql(AssertSqlSafe(sql)).fetch_one(connection))
        .await
        .context("CHECKSUM TABLE")??;
    row.try_get::<Option<i64>, _>(1)?
        .with_context(|| format!("{table} has no checksum: it is not there"))
}

/// How many rows a table has.
pub async fn count(connection: &mut MySqlConnection, table: &str) -> Result<i64> {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    let row = timeout(LONG, raw_sql(AssertSqlSafe(sql)).fetch_one(connection))
        .await
        .context("counting rows")??;
    Ok(row.try_get(0)?)
}

/// The value of a setting of the whole server.
pub async fn setting(connection: &mut MySqlConnection, name: &str) -> Result<String> {
    let sql = format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)");
    let row = timeout(SHORT, raw_sql(AssertSqlSafe(sql)).fetch_one(connection))
        .await
        .with_context(|| format!("reading {name}"))??;
    text(&row, 0)
}

/// What the server has executed.
pub async fn executed(connection: &mut MySqlConnection) -> Result<String> {
    let row = timeout(
        SHORT,
        raw_sql("SELECT @@GLOBAL.gtid_executed").fetch_one(connection),
    );
    text(&row.await.context("reading gtid_executed")??, 0)
}

/// Whether the server executed all of `set` within `seconds`.
pub async fn wait_executed(connection: &mut MySqlConnection, set: &str, seconds: u64) -> Result<bool> {
    let set = set.replace('\n', "");
    let sql = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', {seconds})");
    // Longer than the server itself waits: what it says then tells more than no answer.
    let patience = Duration::from_secs(seconds) + SHORT;
    let row = timeout(patience, raw_sql(AssertSqlSafe(sql)).fetch_one(connection))
        .await
        .context("waiting for GTIDs")??;
    Ok(row.try_get::<i64, _>(0)? == 0)
}

/// What of `set` the server has not executed.
pub async fn not_executed(connection: &mut MySqlConnection, set: &str) -> Result<String> {
    let set = set.replace('\n', "");
    let sql = format!("SELECT GTID_SUBTRACT('{set}', @@GLOBAL.gtid_executed)");
    let row = timeout(SHORT, raw_sql(AssertSqlSafe(sql)).fetch_one(connection));
    text(&row.await.context("comparing GTIDs")??, 0)
}

/// How many sessions wait for slaves to acknowledge what they commit.
pub async fn waiting_sessions(connection: &mut MySqlConnection) -> Result<u64> {
    let sql = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
               WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_wait_sessions'";
    let row = timeout(SHORT, raw_sql(sql).fetch_one(connection));
    Ok(text(&row.await.context("looking for commits that wait")??, 0)?.parse()?)
}

/// A table of text columns, empty, the first column first in its key.
pub async fn create_text_table(
    connection: &mut MySqlConnection,
    table: &str,
    columns: &[&str],
) -> Result<()> {
    let schema = table.split('.').next().unwrap_or(table);
    execute(
        connection,
        format!("CREATE DATABASE IF NOT EXISTS {schema} CHARACTER SET utf8mb4"),
        SHORT,
    )
    .await?;
    let others = columns[1..]
        .iter()
        .map(|column| format!("{column} VARCHAR(255)"))
        .collect::<Vec<_>>()
        .join(", ");
    let first = columns[0];
    let sql = format!("CREATE TABLE IF NOT EXISTS {table} ({first} VARCHAR(32) PRIMARY KEY, {others})");
    execute(connection, sql, SHORT).await
}

/// Many rows in one statement. Texts travel as hexadecimal, so that no quoting rule can be got wrong.
pub async fn insert_texts(
    connection: &mut MySqlConnection,
    table: &str,
    rows: &[Vec<Option<String>>],
) -> Result<()> {
    let value = |field: &Option<String>| match field {
        Some(text) if text.is_empty() => "''".to_owned(),
        Some(text) => {
            let digits = text
                .bytes()
                .map(|byte| format!("{byte:02x}"))
                .collect::<Vec<_>>()
                .concat();
            format!("_utf8mb4 0x{digits}")
        }
        None => "NULL".to_owned(),
    };
    let tuple =
        |row: &Vec<Option<String>>| format!("({})", row.iter().map(value).collect::<Vec<_>>().join(","));
    let tuples = rows.iter().map(tuple).collect::<Vec<_>>().join(",");
    execute(connection, format!("INSERT INTO {table} VALUES {tuples}"), LONG).await
}

fn text(row: &sqlx::mysql::MySqlRow, column: usize) -> Result<String> {
    // Some columns of the server's own tables have a binary collation and arrive as bytes.
    if let Ok(text) = row.try_get_unchecked::<String, _>(column) {
        return Ok(text);
    }
    Ok(String::from_utf8(row.try_get_unchecked::<Vec<u8>, _>(column)?)?)
}
