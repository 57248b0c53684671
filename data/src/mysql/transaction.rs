//! A transaction of one request, with a deadline after which the server really stops.

use std::{sync::Arc, time::Instant};

use futures::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Either, MySql, mysql::MySqlArguments, pool::PoolConnection, query::Query, raw_sql,
};
use tokio::time::timeout;

use super::{Pools, Rows, error, pools::first_text};
use crate::{
    access::Role,
    clock,
    problem::{Kind, Outcome, Problem},
    sql::{Sql, Value},
};

/// A result of more bytes than this is refused.
const LARGEST_RESULT: usize = 32 << 20;

/// Statements for many rows are no longer noted behind so many others.
const NOTED: usize = 20;

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Rows that were reached.
    pub rows: u64,
    /// The first key that the server made, 0 where it made none.
    pub key: u64,
}

impl Done {
    /// The first key that the server made, where it made one.
    pub fn made_key(&self) -> Option<u64> {
        Some(self.key).filter(|key| *key != 0)
    }
}

/// A committed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Everything that the server had executed just after the commit; it contains the change.
    pub set: String,
}

/// An open transaction. Dropping it closes its connection, and the server rolls back.
pub struct Transaction {
    connection: Option<PoolConnection<MySql>>,
    thread: u64,
    role: Role,
    pools: Arc<Pools>,
    deadline: Instant,
    statements: Vec<String>,
}

impl Transaction {
    /// Begins with a role's account; `kind` is `READ WRITE` or `READ ONLY`.
    pub async fn begin(pools: &Arc<Pools>, role: Role, write: bool) -> Result<Self, Problem> {
        let sql = if write {
            "START TRANSACTION READ WRITE; SELECT CAST(CONNECTION_ID() AS CHAR)"
        } else {
            "START TRANSACTION READ ONLY; SELECT CAST(CONNECTION_ID() AS CHAR)"
        };
        Self::open(pools, role, sql).await
    }

    /// Begins to read the state of this moment, without a deadline for the whole. Its connection is for nothing else.
    pub async fn snapshot(pools: &Arc<Pools>, role: Role) -> Result<Self, Problem> {
        let sql = "SET SESSION max_execution_time = 0; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY; \
                   SELECT CAST(CONNECTION_ID() AS CHAR)";
        Self::open(pools, role, sql).await
    }

    async fn open(pools: &Arc<Pools>, role: Role, sql: &'static str) -> Result<Self, Problem> {
        let connection = pools.acquire(role).await?;
        let mut this = Self {
            connection: Some(connection),
            thread: 0,
            role,
            pools: Arc::clone(pools),
            deadline: clock::now() + pools.limit(),
            statements: Vec::new(),
        };
        let row = this
            .bounded(async |connection| raw_sql(sql).fetch_one(connection).await)
            .await?;
        let thread = first_text(&row).map_err(|error| error::problem(&error))?;
        this.thread = thread.parse().unwrap_or(0);
        Ok(this)
    }

    /// Carries out a statement.
    pub async fn run(&mut self, sql: Sql) -> Result<Done, Problem> {
        let (text, values) = sql.into_parts();
        self.statements.push(text.clone());
        let query = bind(text, values);
        let done = self
            .bounded(async |connection| query.execute(connection).await)
            .await?;
        Ok(Done {
            rows: done.rows_affected(),
            key: done.last_insert_id(),
        })
    }

    /// Carries out a statement for many rows. It is not kept prepared, and records show only what `noted` says, and
    /// not of every such statement: otherwise both would take as much memory as the rows.
    pub async fn bulk(&mut self, sql: Sql, noted: &str) -> Result<Done, Problem> {
        let noted = format!("{noted}, …");
        if self.statements.len() < NOTED && self.statements.last() != Some(&noted) {
            self.statements.push(noted);
        }
        let (text, values) = sql.into_parts();
        let query = bind(text, values).persistent(false);
        let done = self
            .bounded(async |connection| query.execute(connection).await)
            .await?;
        Ok(Done {
            rows: done.rows_affected(),
            key: done.last_insert_id(),
        })
    }

    /// Carries out a statement of the agent's own, which no record shows.
    pub async fn quietly(&mut self, sql: Sql) -> Result<Done, Problem> {
        let done = self.run(sql).await;
        self.statements.pop();
        done
    }

    /// The one row of a query of the agent's own.
    pub async fn quiet_rows(&mut self, sql: Sql) -> Result<Rows, Problem> {
        let rows = self.rows(sql, 1).await;
        self.statements.pop();
        rows
    }

    /// Carries out a statement that MySQL commits by itself (`CREATE`, `DROP`, `ALTER`). A connection that breaks
    /// leaves the outcome unknown.
    pub async fn define(&mut self, sql: Sql) -> Result<(), Problem> {
        let (text, _) = sql.into_parts();
        self.statements.push(text.clone());
        let outcome = self
            .bounded(async |connection| raw_sql(AssertSqlSafe(text)).execute(connection).await)
            .await;
        match outcome {
            Ok(_) => Ok(()),
            Err(problem) if problem.code.is_none() && problem.is_again() => Err(Problem::new(
                Kind::OutcomeUnknown,
                "the connection broke while the definition was changed; look whether it was",
            )
            .with_outcome(Outcome::Unknown)
            .again()),
            Err(problem) if problem.kind() == Kind::Timeout => Err(problem.with_outcome(Outcome::Unknown)),
            Err(problem) => Err(problem),
        }
    }

    /// The rows of a query, `limit` at most; whether there were more is said in the result.
    pub async fn rows(&mut self, sql: Sql, limit: usize) -> Result<Rows, Problem> {
        let (text, values) = sql.into_parts();
        self.statements.push(text.clone());
        let query = bind(text, values);
        let rows = self
            .bounded(async |connection| {
                let mut stream = query.fetch(connection);
                let mut rows = Rows::default();
                let mut size = 0;
                while let Some(row) = stream.try_next().await? {
                    if rows.len() == limit {
                        rows.more = true;
                        continue;
                    }
                    size += rows.push(&row)?;
                    if size > LARGEST_RESULT {
                        return Ok(None);
                    }
                }
                Ok(Some(rows))
            })
            .await?;
        if let Some(rows) = rows {
            Ok(rows)
        } else {
            self.abandon();
            Err(Problem::new(
                Kind::TooLarge,
                format!(
                    "the result has more than {} MiB; ask for fewer rows or columns",
                    LARGEST_RESULT >> 20
                ),
            ))
        }
    }

    /// Commits and returns a set that contains the change.
    pub async fn commit(mut self) -> Result<Committed, Problem> {
        let Some(mut connection) = self.connection.take() else {
            return Err(Problem::new(Kind::NotServing, "the connection was closed"));
        };
        let mut applied = false;
        let attempt = async {
            let mut results = raw_sql("COMMIT; SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')")
                .fetch_many(&mut *connection);
            let mut set = String::new();
            while let Some(result) = results.try_next().await? {
                match result {
                    Either::Left(_) => applied = true,
                    Either::Right(row) => set = first_text(&row)?,
                }
            }
            Ok::<String, sqlx::Error>(set)
        };
        let ended = timeout(clock::left(self.deadline), attempt).await;
        match ended {
            Ok(Ok(set)) => Ok(Committed { set }),
            // Committed; only what else there was to say is missing.
            _ if applied => {
                drop(connection.detach());
                Ok(Committed { set: String::new() })
            }
            Ok(Err(error)) => {
                drop(connection.detach());
                Err(error::at_commit(&error))
            }
            Err(_) => {
                drop(connection.detach());
                Err(Problem::new(
                    Kind::OutcomeUnknown,
                    "the commit waits for slaves longer than a statement may take; it may still be carried out",
                )
                .with_outcome(Outcome::Unknown)
                .again())
            }
        }
    }

    /// Gives what comes next as much time as a statement may take: the rows that it waited for came in time.
    pub fn go_on(&mut self) {
        self.deadline = clock::now() + self.pools.limit();
    }

    /// Undoes everything.
    pub async fn rollback(mut self) {
        if let Some(mut connection) = self.connection.take() {
            let undone = timeout(
                std::time::Duration::from_secs(1),
                raw_sql("ROLLBACK").execute(&mut *connection),
            )
            .await;
            if !matches!(undone, Ok(Ok(_))) {
                drop(connection.detach());
            }
        }
    }

    /// The statements so far, with `?` for every value.
    pub fn statements(&self) -> String {
        self.statements.join("; ")
    }

    /// Runs something on the connection until the deadline; past it, the server is told to stop.
    async fn bounded<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut sqlx::mysql::MySqlConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Problem> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(Problem::new(Kind::NotServing, "the connection was closed").again());
        };
        match timeout(clock::left(self.deadline), work(connection)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if error.as_database_error().is_none() {
                    self.abandon();
                }
                Err(error::problem(&error))
            }
            Err(_) => {
                self.stop();
                Err(Problem::new(
                    Kind::Timeout,
                    "the statement took longer than allowed and was stopped; narrow it, or add an index",
                ))
            }
        }
    }

    /// The pools it came from.
    pub(super) fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// Its connection while it has one.
    pub(super) fn connection(&mut self) -> Option<&mut sqlx::mysql::MySqlConnection> {
        self.connection.as_deref_mut()
    }

    /// Closes the connection and has the server stop what it does for it.
    pub(super) fn stop(&mut self) {
        self.abandon();
        let (pools, role, thread) = (Arc::clone(&self.pools), self.role, self.thread);
        if thread != 0 {
            tokio::spawn(async move { pools.kill(role, thread).await });
        }
    }

    /// Closes the connection; the server rolls back.
    pub(super) fn abandon(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// A statement with its values.
pub(super) fn bind<'q>(text: String, values: Vec<Value>) -> Query<'q, MySql, MySqlArguments> {
    let mut query = sqlx::query(AssertSqlSafe(text));
    for value in values {
        query = match value {
            Value::Null => query.bind(None::<i64>),
            Value::Int(value) => query.bind(value),
            Value::Unsigned(value) => query.bind(value),
            Value::Float(value) => query.bind(value),
            Value::Decimal(value) | Value::Text(value) | Value::Json(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        };
    }
    query
}
