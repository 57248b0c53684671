//! The SQL of the long run, one statement a function. Errors are sqlx's own where their kind decides the outcome; the
//! deadlines of those are the callers'.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, MySqlConnection, Row, raw_sql};
use tokio::time::timeout;

const LONG: Duration = Duration::from_mins(2);

/// The schema of everything here.
pub const SCHEMA: &str = "chaos";
/// Single rows. Ids are deliberately not unique: a row written twice must be seen, not refused.
pub const SINGLES: &str = "chaos.singles";
/// The first table of the pairs.
pub const FIRST: &str = "chaos.first_halves";
/// The second table of the pairs.
pub const SECOND: &str = "chaos.second_halves";

type Outcome<T> = Result<T, sqlx::Error>;

async fn execute(connection: &mut MySqlConnection, sql: String) -> Outcome<()> {
    raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// All tables, where they are missing.
pub async fn create_tables(connection: &mut MySqlConnection) -> Outcome<()> {
    execute(connection, format!("CREATE DATABASE IF NOT EXISTS {SCHEMA}")).await?;
    let ids = "pk BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL, KEY (id)";
    for (table, columns) in [
        (SINGLES, ids),
        (FIRST, ids),
        (SECOND, ids),
        (
            "chaos.counters",
            "name VARCHAR(16) PRIMARY KEY, value BIGINT NOT NULL",
        ),
        ("chaos.lists", "list BIGINT PRIMARY KEY, elements TEXT NOT NULL"),
        (
            "chaos.registers",
            "register BIGINT PRIMARY KEY, value BIGINT NOT NULL",
        ),
    ] {
        execute(
            connection,
            format!("CREATE TABLE IF NOT EXISTS {table} ({columns})"),
        )
        .await?;
    }
    Ok(())
}

/// The name of the pod that the connection leads to.
pub async fn node(connection: &mut MySqlConnection) -> Outcome<String> {
    let row = raw_sql("SELECT @@hostname").fetch_one(connection).await?;
    row.try_get_unchecked(0)
}

/// Whether the node takes writes.
pub async fn takes_writes(connection: &mut MySqlConnection) -> Outcome<bool> {
    let row = raw_sql("SELECT NOT @@global.read_only")
        .fetch_one(connection)
        .await?;
    row.try_get::<i64, _>(0).map(|takes| takes != 0)
}

/// A row with this id.
pub async fn insert(connection: &mut MySqlConnection, table: &str, id: i64) -> Outcome<()> {
    execute(connection, format!("INSERT INTO {table} (id) VALUES ({id})")).await
}

/// Begins a transaction.
pub async fn begin(connection: &mut MySqlConnection) -> Outcome<()> {
    raw_sql("START TRANSACTION").execute(connection).await.map(drop)
}

/// Ends it.
pub async fn commit(connection: &mut MySqlConnection) -> Outcome<()> {
    raw_sql("COMMIT").execute(connection).await.map(drop)
}

/// One more.
pub async fn count(connection: &mut MySqlConnection, counter: &str) -> Outcome<()> {
    let sql = format!(
        "INSERT INTO chaos.counters VALUES ('{counter}', 1) ON DUPLICATE KEY UPDATE value = value + 1"
    );
    execute(connection, sql).await
}

/// An element at the end of a list.
pub async fn append(connection: &mut MySqlConnection, list: i64, element: i64) -> Outcome<()> {
    let sql = format!(
        "INSERT INTO chaos.lists VALUES ({list}, '{element}') \
         ON DUPLICATE KEY UPDATE elements = CONCAT(elements, ',', '{element}')"
    );
    execute(connection, sql).await
}

/// A list's elements, none where it does not exist.
pub async fn list(connection: &mut MySqlConnection, list: i64) -> Outcome<Vec<i64>> {
    let sql = format!("SELECT elements FROM chaos.lists WHERE list = {list}");
    let row = raw_sql(AssertSqlSafe(sql)).fetch_optional(connection).await?;
    let text: Option<String> = row.map(|row| row.try_get_unchecked(0)).transpose()?;
    text.as_deref().map_or(Ok(Vec::new()), elements)
}

/// A new value of a register.
pub async fn set(connection: &mut MySqlConnection, register: i64, value: i64) -> Outcome<()> {
    let sql = format!(
        "INSERT INTO chaos.registers VALUES ({register}, {value}) ON DUPLICATE KEY UPDATE value = {value}"
    );
    execute(connection, sql).await
}

/// A register's value.
pub async fn get(connection: &mut MySqlConnection, register: i64) -> Outcome<Option<i64>> {
    let sql = format!("SELECT value FROM chaos.registers WHERE register = {register}");
    let row = raw_sql(AssertSqlSafe(sql)).fetch_optional(connection).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// How many single rows have this id.
pub async fn found(connection: &mut MySqlConnection, id: i64) -> Outcome<u64> {
    let sql = format!("SELECT COUNT(*) FROM {SINGLES} WHERE id = {id}");
    let row = raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
}

/// Keeps others, the applier too, from changing a table until the connection ends.
pub async fn hold_still(connection: &mut MySqlConnection, table: &str) -> Outcome<()> {
    execute(connection, format!("LOCK TABLES {table} READ")).await
}

/// All ids of a table, each as often as it is there.
pub async fn ids(connection: &mut MySqlConnection, table: &str) -> Result<Vec<i64>> {
    let sql = format!("SELECT id FROM {table} ORDER BY id");
    let rows = timeout(LONG, raw_sql(AssertSqlSafe(sql)).fetch_all(connection)).await;
    let rows = rows.with_context(|| format!("reading {table}"))??;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// All counters.
pub async fn counters(connection: &mut MySqlConnection) -> Result<BTreeMap<String, i64>> {
    let rows = raw_sql("SELECT name, value FROM chaos.counters").fetch_all(connection);
    let rows = timeout(LONG, rows).await.context("reading the counters")??;
    rows.iter()
        .map(|row| Ok((row.try_get_unchecked(0)?, row.try_get(1)?)))
        .collect()
}

/// All lists.
pub async fn lists(connection: &mut MySqlConnection) -> Result<BTreeMap<i64, Vec<i64>>> {
    let rows = raw_sql("SELECT list, elements FROM chaos.lists").fetch_all(connection);
    let rows = timeout(LONG, rows).await.context("reading the lists")??;
    rows.iter()
        .map(|row| {
            let text: String = row.try_get_unchecked(1)?;
            Ok((row.try_get(0)?, elements(&text)?))
        })
        .collect()
}

/// All registers.
pub async fn registers(connection: &mut MySqlConnection) -> Result<BTreeMap<i64, i64>> {
    let rows = raw_sql("SELECT register, value FROM chaos.registers").fetch_all(connection);
    let rows = timeout(LONG, rows).await.context("reading the registers")??;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

fn elements(text: &str) -> Outcome<Vec<i64>> {
    let number = |text: &str| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)));
    text.split(',').map(number).collect()
}
