//! A transaction of one request, with a deadline after which the server really stops.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, Either, MySql, mysql::MySqlArguments, query::Query, raw_sql};
use tokio::{runtime::Handle, time::timeout};

use super::{
    Pools, Rows, error,
    pools::{Held, Purpose, first_text},
};
use crate::{
    access::Account,
    clock,
    problem::{Kind, Outcome, Problem},
    sql::{Sql, Value},
};

/// A result of more bytes than this is refused.
const LARGEST_RESULT: usize = 32 << 20;
/// The server's own word that a query took too long is waited for so much longer.
const GRACE: Duration = Duration::from_millis(500);
/// A statement of more bytes is kept prepared no longer than its transaction.
const LONG: usize = 2048;
/// Of a statement no more bytes are noted, and no more statements of one transaction.
const NOTED: (usize, usize) = (2048, 20);

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
    /// Everything that the server had executed just after the commit; it contains the change. None where the server
    /// could not be asked any more: an empty set would be every node's.
    pub set: Option<String>,
}

/// A transaction. Dropping it closes its connection, and the server rolls back.
pub struct Transaction {
    connection: Option<Held>,
    account: Account,
    pools: Arc<Pools>,
    deadline: Instant,
    statements: Vec<String>,
    /// Its connection keeps long statements prepared.
    is_stuffed: bool,
    /// The one of them that is for many rows.
    kept: Option<String>,
    /// Its connection is for nothing else.
    is_last: bool,
    /// The server works for it.
    is_busy: bool,
}

impl Transaction {
    /// With an account, to change something or only to read. The server begins it with the first statement; where
    /// it only reads, every statement is a transaction of its own.
    pub async fn begin(pools: &Arc<Pools>, account: Account, write: bool) -> Result<Self, Problem> {
        let purpose = if write { Purpose::Change } else { Purpose::Read };
        Self::with(pools, account, purpose, pools.limit()).await
    }

    /// The rows of one query, which is a transaction that can only read; `limit` at most.
    pub async fn read(pools: &Arc<Pools>, account: Account, sql: Sql, limit: usize) -> Result<Rows, Problem> {
        // The server itself stops a query at the limit; what it says then is waited for.
        let mut this = Self::with(pools, account, Purpose::Read, pools.limit() + GRACE).await?;
        let rows = this.found(sql, limit).await;
        if let Some(connection) = this.connection.take() {
            pools.give_back(connection);
        }
        rows
    }

    /// Begins to read the state of this moment, without a deadline for the whole. Its connection is for nothing else.
    pub async fn snapshot(pools: &Arc<Pools>, account: Account) -> Result<Self, Problem> {
        let mut this = Self::with(pools, account, Purpose::Read, pools.limit()).await?;
        this.is_last = true;
        let sql = "SET SESSION max_execution_time = 0; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
        this.bounded(async |connection| raw_sql(sql).execute(connection).await)
            .await?;
        Ok(this)
    }

    async fn with(
        pools: &Arc<Pools>,
        account: Account,
        purpose: Purpose,
        limit: Duration,
    ) -> Result<Self, Problem> {
        let deadline = clock::now() + limit;
        Ok(Self {
            connection: Some(pools.acquire(account, purpose).await?),
            account,
            pools: Arc::clone(pools),
            deadline,
            statements: Vec::new(),
            is_stuffed: false,
            kept: None,
            is_last: false,
            is_busy: false,
        })
    }

    /// Carries out a statement.
    pub async fn run(&mut self, sql: Sql) -> Result<Done, Problem> {
        self.noted(self.pools.noted(&sql));
        self.quietly(sql).await
    }

    /// Carries out a statement of the agent's own, which no record shows.
    pub async fn quietly(&mut self, sql: Sql) -> Result<Done, Problem> {
        let (text, values) = sql.into_parts();
        if text.len() > LONG {
            self.is_stuffed = true;
        }
        self.execute(bind(text, values)).await
    }

    /// Carries out a statement for many rows. Records show only what `noted` says, and only one such statement is kept
    /// prepared, the first that may come `again`: otherwise both would take as much memory as the rows.
    pub async fn bulk(&mut self, sql: Sql, noted: &str, again: bool) -> Result<Done, Problem> {
        self.noted(format!("{noted}, …"));
        let (text, values) = sql.into_parts();
        if again && self.kept.is_none() {
            self.kept = Some(text.clone());
            self.is_stuffed = true;
        }
        let is_kept = self.kept.as_ref() == Some(&text);
        self.execute(bind(text, values).persistent(is_kept)).await
    }

    async fn execute(&mut self, query: Query<'_, MySql, MySqlArguments>) -> Result<Done, Problem> {
        let done = self
            .bounded(async |connection| query.execute(connection).await)
            .await?;
        Ok(Done {
            rows: done.rows_affected(),
            key: done.last_insert_id(),
        })
    }

    /// The one row of a query of the agent's own.
    pub async fn quiet_rows(&mut self, sql: Sql) -> Result<Rows, Problem> {
        self.found(sql, 1).await
    }

    /// Carries out a statement that MySQL commits by itself (`CREATE`, `DROP`, `ALTER`). A connection that breaks
    /// leaves the outcome unknown.
    pub async fn define(&mut self, sql: Sql) -> Result<(), Problem> {
        self.noted(sql.as_text().to_owned());
        let (text, _) = sql.into_parts();
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
        self.noted(self.pools.noted(&sql));
        self.found(sql, limit).await
    }

    async fn found(&mut self, sql: Sql, limit: usize) -> Result<Rows, Problem> {
        let (text, values) = sql.into_parts();
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

    /// Commits, and names a set that contains the change where it can.
    pub async fn commit(mut self) -> Result<Committed, Problem> {
        let Some(mut connection) = self.connection.take() else {
            return Err(Problem::new(Kind::NotServing, "the connection was closed"));
        };
        let mut applied = false;
        let attempt = async {
            let mut results = raw_sql("COMMIT; SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')")
                .fetch_many(connection.connection());
            let mut set = None;
            while let Some(result) = results.try_next().await? {
                match result {
                    Either::Left(_) => applied = true,
                    Either::Right(row) => set = Some(first_text(&row)?),
                }
            }
            Ok::<Option<String>, sqlx::Error>(set)
        };
        let ended = timeout(clock::left(self.deadline), attempt).await;
        match ended {
            Ok(Ok(set)) => {
                self.give_back(connection).await;
                Ok(Committed { set })
            }
            // Committed; only what else there was to say is missing.
            _ if applied => Ok(Committed { set: None }),
            Ok(Err(error)) => {
                self.pools.distrust(self.account);
                Err(error::at_commit(&error))
            }
            Err(_) => {
                tokio::spawn(connection.wait());
                let waits = "the commit waits for slaves longer than a statement may take; it may still be \
                             carried out";
                let problem = Problem::new(Kind::OutcomeUnknown, waits);
                Err(problem.with_outcome(Outcome::Unknown).again())
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
            if connection.purpose() == Purpose::Read {
                self.give_back(connection).await;
                return;
            }
            let undo = raw_sql("ROLLBACK").execute(connection.connection());
            if matches!(timeout(Duration::from_secs(1), undo).await, Ok(Ok(_))) {
                self.give_back(connection).await;
            }
        }
    }

    async fn give_back(&self, mut connection: Held) {
        if self.is_last {
            return;
        }
        // Many rows of many clients would leave no two statements alike.
        if !self.is_stuffed || connection.connection().clear_cached_statements().await.is_ok() {
            self.pools.give_back(connection);
        }
    }

    fn noted(&mut self, mut text: String) {
        let (longest, most) = NOTED;
        if text.len() > longest {
            text.truncate(text.floor_char_boundary(longest));
            text.push('…');
        }
        if self.statements.len() < most && self.statements.last() != Some(&text) {
            self.statements.push(text);
        }
    }

    /// The statements so far, with `?` for every value unless values are to be noted.
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
        self.is_busy = true;
        let ended = timeout(clock::left(self.deadline), work(connection.connection())).await;
        self.is_busy = false;
        match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if error.as_database_error().is_none() {
                    self.abandon();
                    self.pools.distrust(self.account);
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
        self.connection.as_mut().map(Held::connection)
    }

    /// Closes the connection and has the server stop what it does for it.
    pub(super) fn stop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let pools = Arc::clone(&self.pools);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { pools.kill(connection).await });
        }
    }

    /// Closes the connection; the server rolls back.
    pub(super) fn abandon(&mut self) {
        self.connection = None;
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // Who asked went away in the middle of a statement: nobody waits for what the server does.
        if self.is_busy {
            self.stop();
        }
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
