//! A client of MySQL as an application has it: sqlx over TCP and TLS, statements prepared once.

use anyhow::Result;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, MySql, QueryBuilder,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
    raw_sql,
};

use crate::support::{Node, PASSWORD};

/// The database and its tables.
pub const SCHEMA: &str = "CREATE DATABASE bench; \
    CREATE TABLE bench.points (id BIGINT PRIMARY KEY, name VARCHAR(64) NOT NULL, age INT NOT NULL, at DATETIME NOT NULL); \
    CREATE TABLE bench.writes (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(64) NOT NULL, age INT NOT NULL); \
    CREATE TABLE bench.bulk (id BIGINT PRIMARY KEY, name VARCHAR(64) NOT NULL, age INT NOT NULL)";

/// Rows of `bench.points`.
pub const POINTS: u64 = 10_000;

/// A connection of the application's account.
pub async fn connect(node: &Node) -> Result<MySqlConnection> {
    let options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(node.mysql_port)
        .username("app")
        .password(PASSWORD)
        .ssl_mode(MySqlSslMode::Required);
    Ok(options.disable_statement_logging().connect().await?)
}

/// Reads a row by its key, all columns. The server prepares a statement anew when a value has another type than its
/// column, so each has the column's own.
pub async fn read(connection: &mut MySqlConnection, id: u64) -> Result<()> {
    let sql = "SELECT * FROM bench.points WHERE id = ?";
    sqlx::query(sql)
        .bind(i64::try_from(id)?)
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// Inserts a row, which commits by itself.
pub async fn write(connection: &mut MySqlConnection, number: u64) -> Result<()> {
    sqlx::query("INSERT INTO bench.writes (name, age) VALUES (?, ?)")
        .bind(format!("somebody number {number}"))
        .bind(i64::try_from(number % 100)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Inserts rows in one transaction, so many with each statement.
pub async fn bulk(connection: &mut MySqlConnection, rows: i64, each: i64) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let mut next = 1;
    while next <= rows {
        let last = (next + each - 1).min(rows);
        let mut sql = QueryBuilder::<MySql>::new("INSERT INTO bench.bulk (id, name, age) ");
        sql.push_values(next..=last, |mut row, id| {
            row.push_bind(id)
                .push_bind(format!("somebody number {id}"))
                .push_bind(id % 100);
        });
        sql.build().execute(&mut *transaction).await?;
        next = last + 1;
    }
    transaction.commit().await?;
    Ok(())
}

/// The tables and the rows that are read.
pub async fn prepare(node: &Node) -> Result<()> {
    let mut connection = connect(node).await?;
    raw_sql(SCHEMA).execute(&mut connection).await?;
    for first in (1..=POINTS).step_by(1000) {
        let sql = format!(
            "INSERT INTO bench.points WITH RECURSIVE s (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s \
             WHERE n < {first} + 999) SELECT n, CONCAT('somebody number ', n), n % 100, '2026-01-01 12:00:00' FROM s"
        );
        raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    Ok(())
}

/// Empties the table that rows are put into.
pub async fn empty_bulk(node: &Node) -> Result<()> {
    raw_sql("TRUNCATE TABLE bench.bulk")
        .execute(&mut connect(node).await?)
        .await?;
    Ok(())
}
