//! The pools: one for each role. The driver's own pool is not used because it knows neither what the server calls a
//! connection, which is needed to stop a statement, nor how a connection was prepared; both would be asked for anew
//! with every request, and that would take longer than the request.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
    raw_sql,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::error;
use crate::{
    access::{Account, Roles},
    clock,
    problem::{Kind, Problem},
    sql::Sql,
};

/// How long a request waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);
/// An unused connection is closed after this time.
const IDLE: Duration = Duration::from_mins(1);
/// A connection is used for no longer than this: it keeps the privileges that its account had when it logged in.
const LONGEST: Duration = Duration::from_mins(5);
/// How often unused connections are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// Statements that a connection keeps prepared.
const PREPARED: usize = 50;

/// How MySQL is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's socket.
    pub socket: PathBuf,
    /// Directory with a file for each role, named after it, that holds its password.
    pub accounts: PathBuf,
    /// The roles.
    pub roles: Roles,
    /// Connections for each role at most.
    pub connections: u32,
    /// How long one statement may take.
    pub statement: Duration,
    /// What is noted of statements has their values.
    pub notes_values: bool,
}

/// What a connection is prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Every statement is a transaction that can only read.
    Read,
    /// The first statement begins a transaction, which ends with `COMMIT` or `ROLLBACK`.
    Change,
}

/// All connections to the node's MySQL server.
#[derive(Debug)]
pub struct Pools {
    settings: Settings,
    /// One for each role.
    pools: Vec<Pool>,
}

#[derive(Debug)]
struct Pool {
    places: Arc<Semaphore>,
    /// Fewer, so that reads go on while changes wait for slaves.
    places_of_changes: Arc<Semaphore>,
    /// The one that was used last is the last one.
    idle: Mutex<Vec<(Instant, Open)>>,
}

#[derive(Debug)]
struct Open {
    connection: MySqlConnection,
    since: Instant,
    thread: u64,
    purpose: Purpose,
}

/// A connection in use. Dropping it closes it, and the server undoes what is not committed; only one that is as it
/// was is given back.
#[derive(Debug)]
pub struct Held {
    open: Open,
    account: Account,
    _place: Place,
}

/// A place among the connections of a role, and one among those that change something.
#[derive(Debug)]
struct Place {
    _any: OwnedSemaphorePermit,
    _change: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// The driver's connection.
    pub fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.open.connection
    }

    /// What it is prepared for.
    pub fn purpose(&self) -> Purpose {
        self.open.purpose
    }

    /// Keeps its place until the server answers or is gone. A commit that waits for slaves cannot be ended: while its
    /// client leaves, its thread stays, and others in its place would take all connections that the server has, the one
    /// that the missing slave needs among them.
    pub async fn wait(mut self) {
        let _ = self.open.connection.ping().await;
    }
}

impl Pools {
    /// Connects to nothing yet.
    pub fn new(settings: Settings) -> Self {
        let places = usize::try_from(settings.connections).unwrap_or(1);
        let pool = || Pool {
            places: Arc::new(Semaphore::new(places)),
            places_of_changes: Arc::new(Semaphore::new(places - places / 4)),
            idle: Mutex::default(),
        };
        Self {
            pools: std::iter::repeat_with(pool)
                .take(settings.roles.count())
                .collect(),
            settings,
        }
    }

    /// The server's socket.
    pub fn socket(&self) -> &Path {
        &self.settings.socket
    }

    /// How long one statement may take.
    pub fn limit(&self) -> Duration {
        self.settings.statement
    }

    /// What is noted of a statement.
    pub fn noted(&self, sql: &Sql) -> String {
        if self.settings.notes_values {
            sql.with_values()
        } else {
            sql.as_text().to_owned()
        }
    }

    /// A connection of an account, in no transaction.
    pub async fn acquire(&self, account: Account, purpose: Purpose) -> Result<Held, Problem> {
        let pool = &self.pools[account.index()];
        let place = Place {
            _change: match purpose {
                Purpose::Change => Some(wait_for(&pool.places_of_changes).await?),
                Purpose::Read => None,
            },
            _any: wait_for(&pool.places).await?,
        };
        self.hold(account, purpose, place).await
    }

    async fn hold(&self, account: Account, purpose: Purpose, place: Place) -> Result<Held, Problem> {
        let pool = &self.pools[account.index()];
        let mut open = match pool.take(purpose) {
            Some(open) => open,
            None => timeout(ACQUIRE, Box::pin(self.connect(account)))
                .await
                .map_err(|_| error::no_answer())??,
        };
        if open.purpose != purpose {
            let attempt = timeout(ACQUIRE, Box::pin(self.prepare(&mut open.connection, purpose))).await;
            attempt
                .map_err(|_| error::no_answer())?
                .map_err(|error| error::problem(&error))?;
            open.purpose = purpose;
        }
        Ok(Held {
            open,
            account,
            _place: place,
        })
    }

    /// Takes a connection back that is in no transaction.
    pub fn give_back(&self, held: Held) {
        let Held {
            open,
            account,
            _place,
        } = held;
        if clock::since(open.since) >= LONGEST {
            return;
        }
        self.pools[account.index()].idle().push((clock::now(), open));
    }

    /// One connection of an account broke: the others lead to the same server, and are closed as far as nobody uses them.
    pub fn distrust(&self, account: Account) {
        self.pools[account.index()].idle().clear();
    }

    /// Closes what was not used for long.
    fn sweep(&self) {
        let now = clock::now();
        for pool in &self.pools {
            pool.idle()
                .retain(|(since, _)| now.saturating_duration_since(*since) < IDLE);
        }
    }

    /// Ends the statement of a connection that is not waited for any more, whose place is not free before.
    pub async fn kill(&self, held: Held) {
        let Held {
            open,
            account,
            _place: place,
        } = held;
        let thread = open.thread;
        drop(open);
        let Ok(mut held) = self.hold(account, Purpose::Read, place).await else {
            return;
        };
        let sql = AssertSqlSafe(format!("KILL {thread}"));
        let killed = raw_sql(sql).execute(held.connection()).await;
        // An unknown thread has ended already, which is what is wanted.
        if killed.is_err_and(|error| error.as_database_error().is_none()) {
            return;
        }
        // One that waits for slaves loses its client only, and would be one of ever more.
        let mut pause = Duration::from_millis(10);
        loop {
            let there = format!("SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {thread}");
            match raw_sql(AssertSqlSafe(there))
                .fetch_optional(held.connection())
                .await
            {
                Ok(None) => return self.give_back(held),
                Ok(Some(_)) => sleep(pause).await,
                Err(_) => return,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn connect(&self, account: Account) -> Result<Open, Problem> {
        let role = self.settings.roles.of(account);
        let file = self.settings.accounts.join(role.like.name());
        let secret = std::fs::read_to_string(file).map_err(|error| {
            tracing::warn!(%error, role = &*role.name, "the password of a role's account cannot be read");
            Problem::new(
                Kind::NotServing,
                "the accounts of the data API are not settled on this node yet",
            )
            .again()
        })?;
        let options = MySqlConnectOptions::new()
            .socket(&self.settings.socket)
            .username(&role.account)
            .password(&role.password(&secret))
            .statement_cache_capacity(PREPARED)
            .disable_statement_logging();
        let mut connection = match options.clone().ssl_mode(MySqlSslMode::Disabled).connect().await {
            Ok(connection) => connection,
            Err(error) if error::code(&error) != Some(error::ACCESS_DENIED) => {
                return Err(error::problem(&error));
            }
            // A server that has not seen the account since it began wants the password itself, which the driver
            // sends over TLS only, even though the socket never leaves the pod. From then on a proof is enough.
            Err(_) => {
                let secured = options.clone().ssl_mode(MySqlSslMode::Required).connect().await;
                drop(secured.map_err(|error| error::problem(&error))?);
                let again = options.ssl_mode(MySqlSslMode::Disabled).connect().await;
                again.map_err(|error| error::problem(&error))?
            }
        };
        let thread = async {
            self.prepare(&mut connection, Purpose::Read).await?;
            let row = raw_sql("SELECT CAST(CONNECTION_ID() AS CHAR)")
                .fetch_one(&mut connection)
                .await?;
            first_text(&row)
        };
        let thread = thread.await.map_err(|error| error::problem(&error))?;
        Ok(Open {
            connection,
            since: clock::now(),
            thread: thread.parse().unwrap_or(0),
            purpose: Purpose::Read,
        })
    }

    async fn prepare(&self, connection: &mut MySqlConnection, purpose: Purpose) -> Result<(), sqlx::Error> {
        let (automatic, only) = match purpose {
            Purpose::Read => (1, "ONLY"),
            Purpose::Change => (0, "WRITE"),
        };
        let limit = self.settings.statement;
        // The mode decides how text is read, so it is ours and not the server's.
        let sql = format!(
            "SET SESSION sql_mode = 'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
             ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', autocommit = {automatic}, \
             SESSION max_execution_time = {}, SESSION lock_wait_timeout = {seconds}, \
             SESSION innodb_lock_wait_timeout = {seconds}; SET SESSION TRANSACTION READ {only}",
            limit.as_millis(),
            seconds = limit.as_secs().max(1),
        );
        raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
        Ok(())
    }
}

impl Pool {
    /// Rather one that is prepared for the purpose, and rather one that was used lately.
    fn take(&self, purpose: Purpose) -> Option<Open> {
        let mut idle = self.idle();
        let at = idle
            .iter()
            .rposition(|(_, open)| open.purpose == purpose)
            .or_else(|| idle.len().checked_sub(1))?;
        Some(idle.remove(at).1)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Open)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes unused connections for ever.
pub async fn sweep(pools: Arc<Pools>) {
    loop {
        sleep(SWEEP).await;
        pools.sweep();
    }
}

async fn wait_for(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Ok(place);
    }
    let place = timeout(ACQUIRE, Arc::clone(places).acquire_owned()).await;
    place.ok().and_then(Result::ok).ok_or_else(busy)
}

fn busy() -> Problem {
    Problem::new(
        Kind::Busy,
        "every connection to MySQL is in use; try again, or send fewer requests at a time",
    )
}

/// The first column of the first row, as text.
pub(super) fn first_text(row: &sqlx::mysql::MySqlRow) -> Result<String, sqlx::Error> {
    row.try_get_unchecked::<String, _>(0)
}
