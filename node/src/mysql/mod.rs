//! All SQL of the agent, one statement a function, each with its own deadline.
//!
//! A [`Lane`] is one connection, to mysqld's socket but for the one that asks a donor. The agent opens its lanes as
//! soon as a server answers, before anybody else may connect, so that a full `max_connections` cannot lock it out. A
//! statement whose deadline passed leaves its connection behind; the lane kills that connection before it is used
//! again, so that a late statement cannot take effect behind the back of the next one.

pub mod account;
pub mod clients;
pub mod clone;
pub mod guard;
pub mod replica;
pub mod role;
pub mod source;
pub mod status;

use std::{path::Path, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Row,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode},
    raw_sql,
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};
use tracing::trace;

use crate::clock;

/// The deadline of a statement that only changes a variable.
pub const QUICK: Duration = Duration::from_millis(500);

/// Why a statement did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There was no answer in time; whether the statement took effect is unknown.
    #[error("{what}: no answer within {ms} ms")]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// The deadline in milliseconds.
        ms: u128,
    },
    /// The server refused.
    #[error("{what}: {message} (MySQL error {code})")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The server's error number.
        code: u16,
        /// The server's message.
        message: String,
    },
    /// The connection could not be made or broke.
    #[error("{what}: no connection to mysqld")]
    Broken {
        /// What was asked.
        what: &'static str,
        /// The driver's error.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// The answer was not of the expected form.
    #[error("{what}: unexpected answer {answer:?}")]
    Strange {
        /// What was asked.
        what: &'static str,
        /// The part that was not understood.
        answer: String,
    },
}

impl Error {
    /// The server's error number, where it answered with one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// What the server remembers of its source does not fit its relay logs: it was killed while it threw them away.
    pub fn is_broken_replica(&self) -> bool {
        matches!(self.code(), Some(1871 | 1872))
    }

    fn of(what: &'static str, error: sqlx::Error) -> Self {
        let answer = error
            .as_database_error()
            .and_then(|database| database.try_downcast_ref::<MySqlDatabaseError>());
        match answer {
            Some(refused) => Self::Refused {
                what,
                code: refused.number(),
                message: refused.message().to_owned(),
            },
            None => Self::Broken {
                what,
                source: Box::new(error),
            },
        }
    }
}

/// The agent's connections.
#[derive(Debug)]
pub struct Mysql {
    probe: Mutex<Lane>,
    command: Mutex<Lane>,
    side: Mutex<Lane>,
}

impl Mysql {
    /// Lanes to the server behind `socket`, not yet connected.
    pub fn new(socket: &Path) -> Self {
        let lane = || Mutex::new(Lane::root(socket));
        Self {
            probe: lane(),
            command: lane(),
            side: lane(),
        }
    }

    /// The probe's own lane.
    pub async fn probe(&self) -> MutexGuard<'_, Lane> {
        self.probe.lock().await
    }

    /// The lane of the running command.
    pub async fn command(&self) -> MutexGuard<'_, Lane> {
        self.command.lock().await
    }

    /// The lane for looking and helping while the command's lane waits.
    pub async fn side(&self) -> MutexGuard<'_, Lane> {
        self.side.lock().await
    }

    /// Connects the lanes that are free and not connected to the current server.
    pub async fn connect_all(&self) {
        for lane in [&self.command, &self.side] {
            if let Ok(mut lane) = lane.try_lock() {
                // The next statement tries again and then reports the error.
                let _ = lane.ping().await;
            }
        }
    }
}

/// One connection and what is known about it.
#[derive(Debug)]
pub struct Lane {
    options: MySqlConnectOptions,
    open: Option<(MySqlConnection, u64)>,
    /// The connection whose statement had no answer in time.
    abandoned: Option<u64>,
    /// How many connections were made.
    made: u64,
}

impl Lane {
    /// As the server's administrator.
    pub fn root(socket: &Path) -> Self {
        Self::new(socket, "root", None)
    }

    /// As another account.
    pub fn new(socket: &Path, user: &str, password: Option<&str>) -> Self {
        let mut options = options()
            .socket(socket)
            .username(user)
            .ssl_mode(MySqlSslMode::Disabled);
        if let Some(password) = password {
            // The driver sends a password over TLS only, even though the socket never leaves the pod.
            options = options.password(password).ssl_mode(MySqlSslMode::Required);
        }
        Self::with(options)
    }

    fn with(options: MySqlConnectOptions) -> Self {
        Self {
            options,
            open: None,
            abandoned: None,
            made: 0,
        }
    }

    /// Forgets the connection; the server it led to is gone.
    pub fn forget(&mut self) {
        (self.open, self.abandoned) = (None, None);
    }

    /// Which connection is open; another number is another connection, perhaps to another life of the server. While
    /// it stays the same, the next statement goes to the server that answered the last one, or fails.
    pub fn connection(&self) -> Option<u64> {
        self.open.is_some().then_some(self.made)
    }

    /// Makes sure that there is a live connection.
    pub async fn ping(&mut self) -> Result<(), Error> {
        self.run("ping", Duration::from_millis(300), "DO 0".to_owned())
            .await
    }

    /// Carries out one statement without a result. `sql` must hold no text of unknown origin but through
    /// [`quote`].
    async fn run(&mut self, what: &'static str, deadline: Duration, sql: String) -> Result<(), Error> {
        self.rows(what, deadline, sql).await.map(|_| ())
    }

    /// Carries out one statement and returns its rows. Dropping the future abandons the statement.
    async fn rows(
        &mut self,
        what: &'static str,
        deadline: Duration,
        sql: String,
    ) -> Result<Vec<MySqlRow>, Error> {
        let attempt = async {
            let (mut connection, id) = match self.open.take() {
                Some(open) => open,
                None => self.connect(what).await?,
            };
            self.abandoned = Some(id);
            let rows = raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await;
            self.abandoned = None;
            let rows = rows.map_err(|error| Error::of(what, error));
            if !matches!(rows, Err(Error::Broken { .. })) {
                self.open = Some((connection, id));
            }
            rows
        };
        let begun = clock::now();
        match timeout(deadline, attempt).await {
            Ok(rows) => {
                trace!(what, took_ms = clock::millis_since(begun), "statement");
                rows
            }
            Err(_) => Err(Error::Timeout {
                what,
                ms: deadline.as_millis(),
            }),
        }
    }

    /// The one number that a statement counts; 0 where it answers with no row.
    async fn count<N: std::str::FromStr + Default>(
        &mut self,
        what: &'static str,
        deadline: Duration,
        sql: String,
    ) -> Result<N, Error> {
        let rows = self.rows(what, deadline, sql).await?;
        rows.first()
            .map_or_else(|| Ok(N::default()), |row| number(row, 0, what))
    }

    async fn connect(&mut self, what: &'static str) -> Result<(MySqlConnection, u64), Error> {
        let broken = |error| Error::of(what, error);
        let mut connection = self.options.connect().await.map_err(broken)?;
        self.made += 1;
        if let Some(late) = self.abandoned {
            kill_and_await_end(&mut connection, late).await.map_err(broken)?;
            self.abandoned = None;
        }
        let row = raw_sql("SELECT CONNECTION_ID()")
            .fetch_one(&mut connection)
            .await
            .map_err(broken)?;
        let id = row.try_get_unchecked::<u64, _>(0).map_err(broken)?;
        Ok((connection, id))
    }

    /// Closes the connection in an orderly way.
    pub async fn close(&mut self) {
        if let Some((connection, _)) = self.open.take() {
            let _ = timeout(Duration::from_millis(200), connection.close()).await;
        }
    }
}

/// A statement that was given up may still be waiting inside the server; it must not act later on.
async fn kill_and_await_end(connection: &mut MySqlConnection, late: u64) -> Result<(), sqlx::Error> {
    // An unknown thread has ended already, which is what is wanted.
    let _ = raw_sql(AssertSqlSafe(format!("KILL {late}")))
        .fetch_all(&mut *connection)
        .await;
    let sql = format!("SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_ID = {late}");
    for _ in 0..20 {
        let row = raw_sql(AssertSqlSafe(sql.clone()))
            .fetch_one(&mut *connection)
            .await?;
        if row.try_get_unchecked::<i64, _>(0)? == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// What every lane is opened with: nothing is sent but what is asked for, and nothing of it is logged.
fn options() -> MySqlConnectOptions {
    MySqlConnectOptions::new()
        .statement_cache_capacity(0)
        .set_names(false)
        .timezone(None)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .disable_statement_logging()
}

/// A text as an SQL string literal.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for letter in text.chars() {
        match letter {
            '\'' | '\\' => quoted.extend(['\\', letter]),
            '\0' => quoted.push_str("\\0"),
            '\n' => quoted.push_str("\\n"),
            _ => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

/// Column `at` as text; SQL's NULL is the empty text.
fn text(row: &MySqlRow, at: usize, what: &'static str) -> Result<String, Error> {
    row.try_get_unchecked::<Option<String>, _>(at)
        .map(Option::unwrap_or_default)
        .map_err(|error| Error::Strange {
            what,
            answer: error.to_string(),
        })
}

/// Column `at` as whole number.
fn number<N: std::str::FromStr>(row: &MySqlRow, at: usize, what: &'static str) -> Result<N, Error> {
    let text = text(row, at, what)?;
    text.parse().map_err(|_| Error::Strange { what, answer: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_stays_one_literal() {
        assert_eq!(quote(r"it's \ here"), r"'it\'s \\ here'");
    }
}
