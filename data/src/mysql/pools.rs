//! The pools: one for each role, made when first used.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, MySql, MySqlPool, Row as _,
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode},
    pool::PoolConnection,
    raw_sql,
};

use super::error;
use crate::{
    access::Role,
    problem::{Kind, Problem},
};

/// How long a request waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);
/// An unused connection is closed after this time.
const IDLE: Duration = Duration::from_mins(1);

/// How MySQL is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's socket.
    pub socket: PathBuf,
    /// Directory with a file for each role, named after it, that holds its password.
    pub accounts: PathBuf,
    /// Connections for each role at most.
    pub connections: u32,
    /// How long one statement may take.
    pub statement: Duration,
}

/// All connections to the node's MySQL server.
#[derive(Debug)]
pub struct Pools {
    settings: Settings,
    open: Mutex<[Option<MySqlPool>; 3]>,
}

impl Pools {
    /// Connects to nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            open: Mutex::default(),
        }
    }

    /// How long one statement may take.
    pub fn limit(&self) -> Duration {
        self.settings.statement
    }

    /// A connection of a role's account.
    pub async fn acquire(&self, role: Role) -> Result<PoolConnection<MySql>, Problem> {
        let pool = self.pool(role)?;
        match pool.acquire().await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                if error::code(&error) == Some(error::ACCESS_DENIED) {
                    // The password may have changed: read it anew next time.
                    self.forget(role);
                }
                Err(error::problem(&error))
            }
        }
    }

    /// Ends a statement of a connection that is not waited for any more.
    pub async fn kill(&self, role: Role, thread: u64) {
        let Ok(mut connection) = self.acquire(role).await else {
            return;
        };
        // An unknown thread has ended already, which is what is wanted.
        let _ = raw_sql(AssertSqlSafe(format!("KILL {thread}")))
            .execute(&mut *connection)
            .await;
    }

    fn pool(&self, role: Role) -> Result<MySqlPool, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut open[role.index()];
        if let Some(pool) = place {
            return Ok(pool.clone());
        }
        let file = self.settings.accounts.join(role.name());
        let password = std::fs::read_to_string(file).map_err(|error| {
            tracing::warn!(%error, role = role.name(), "the password of a role's account cannot be read");
            Problem::new(
                Kind::NotServing,
                "the accounts of the data API are not settled on this node yet",
            )
            .again()
        })?;
        let made = self.make(role, password.trim());
        *place = Some(made.clone());
        Ok(made)
    }

    fn forget(&self, role: Role) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open[role.index()] = None;
    }

    fn make(&self, role: Role, password: &str) -> MySqlPool {
        let options = MySqlConnectOptions::new()
            .socket(&self.settings.socket)
            .username(role.account())
            .password(password)
            // The driver sends a password over TLS only, even though the socket never leaves the pod.
            .ssl_mode(MySqlSslMode::Required)
            .disable_statement_logging();
        let limit = self.settings.statement;
        MySqlPoolOptions::new()
            .max_connections(self.settings.connections)
            .min_connections(0)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(IDLE)
            // A statement on a dead connection fails before anything is changed, and is tried again.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    // The mode decides how text is read, so it is ours and not the server's.
                    let sql = format!(
                        "SET SESSION sql_mode = 'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,\
                         NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
                         SESSION max_execution_time = {}, SESSION lock_wait_timeout = {seconds}, \
                         SESSION innodb_lock_wait_timeout = {seconds}",
                        limit.as_millis(),
                        seconds = limit.as_secs().max(1),
                    );
                    raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options)
    }
}

/// The first column of the first row, as text.
pub(super) fn first_text(row: &sqlx::mysql::MySqlRow) -> Result<String, sqlx::Error> {
    row.try_get_unchecked::<String, _>(0)
}
