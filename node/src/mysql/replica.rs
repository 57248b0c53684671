//! Statements about a slave's receiver and applier.

use std::{path::Path, time::Duration};

use failover::GtidSet;

use super::{Error, Lane, QUICK, number, quote, status::set, text};
use api::names::REPLICATION_USER;

/// What the thread that hands transactions to the applier's workers is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// The transaction that it hands over now; empty where there is none.
    pub processing: String,
    /// The one before.
    pub processed: String,
    /// How many workers execute a transaction.
    pub busy: u64,
    /// The thread's state in the server's words.
    pub state: String,
}

impl Coordinator {
    /// No worker works, and it neither waits for a lock nor for something to be received.
    pub fn seems_idle(&self) -> bool {
        let waits = self.state.ends_with("lock") || self.state.starts_with("Replica has read all relay log");
        self.busy == 0 && !waits
    }
}

/// The deadline for stopping a replication thread politely.
pub const STOP: Duration = Duration::from_millis(300);

impl Lane {
    /// Whether the receiver acknowledges, from its next start on.
    pub async fn set_replica_enabled(&mut self, enabled: bool) -> Result<(), Error> {
        let sql = format!(
            "SET GLOBAL rpl_semi_sync_replica_enabled = {}",
            if enabled { "ON" } else { "OFF" }
        );
        self.run("semi-sync replica on or off", QUICK, sql).await
    }

    /// Stops the receiver; it may not have stopped when the deadline passes.
    pub async fn stop_receiver(&mut self) -> Result<(), Error> {
        self.run("stop the receiver", STOP, "STOP REPLICA IO_THREAD".to_owned())
            .await
    }

    /// Stops the applier; a half-received transaction can hold it up for a minute, unless its threads are killed.
    pub async fn stop_applier(&mut self, deadline: Duration) -> Result<(), Error> {
        self.run("stop the applier", deadline, "STOP REPLICA SQL_THREAD".to_owned())
            .await
    }

    /// Starts the receiver.
    pub async fn start_receiver(&mut self) -> Result<(), Error> {
        self.run("start the receiver", QUICK, "START REPLICA IO_THREAD".to_owned())
            .await
    }

    /// Starts the applier.
    pub async fn start_applier(&mut self) -> Result<(), Error> {
        self.run(
            "start the applier",
            Duration::from_secs(2),
            "START REPLICA SQL_THREAD".to_owned(),
        )
        .await
    }

    /// Forgets source and relay logs. Only when all that was received is executed, or is to be thrown away.
    pub async fn reset_replica_all(&mut self) -> Result<(), Error> {
        self.run(
            "forget the source",
            Duration::from_secs(2),
            "RESET REPLICA ALL".to_owned(),
        )
        .await
    }

    /// What the server has written to its log: what it has executed and what waits for acknowledgements.
    pub async fn logged(&mut self, deadline: Duration) -> Result<GtidSet, Error> {
        const WHAT: &str = "ask what the server has in its log";
        // In this order, as what waits now may be executed a moment later.
        let sql = "SELECT @@global.gtid_owned; SELECT @@global.gtid_executed";
        let rows = self.rows(WHAT, deadline, sql.to_owned()).await?;
        let [owned, executed] = rows.as_slice() else {
            return Err(Error::Strange {
                what: WHAT,
                answer: format!("{} rows", rows.len()),
            });
        };
        let owned = without_owners(&text(owned, 0, WHAT)?);
        Ok(set(&owned)?.union(&set(&text(executed, 0, WHAT)?)?))
    }

    /// Waits up to `slice` until `wanted` is executed; true when it is.
    pub async fn wait_executed(&mut self, wanted: &GtidSet, slice: Duration) -> Result<bool, Error> {
        const WHAT: &str = "wait for execution";
        let sql = format!(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET({}, {:.3})",
            quote(&wanted.to_string()),
            slice.as_secs_f64()
        );
        let rows = self.rows(WHAT, slice + QUICK, sql).await?;
        rows.first()
            .map_or(Ok(false), |row| number::<u8>(row, 0, WHAT).map(|late| late == 0))
    }

    /// Names the source of a server whose applier stands. It purges the relay logs: everything received must be
    /// executed before.
    pub async fn change_source(&mut self, host: &str, port: u16, tls: &Path) -> Result<(), Error> {
        let sql = format!("{}, SOURCE_AUTO_POSITION = 1", source(host, port, tls));
        self.run("name the source", Duration::from_secs(2), sql).await
    }

    /// Names another source while the applier runs, which keeps the relay logs; MySQL refuses it otherwise than that
    /// the positions are found by GTID as before.
    pub async fn change_source_beside_applier(
        &mut self,
        host: &str,
        port: u16,
        tls: &Path,
    ) -> Result<(), Error> {
        let sql = source(host, port, tls);
        self.run("name another source", Duration::from_secs(2), sql).await
    }

    /// What the applier's coordinator is at; `None` where the applier has none.
    pub async fn coordinator(&mut self) -> Result<Option<Coordinator>, Error> {
        const WHAT: &str = "look at the applier";
        const SQL: &str = "SELECT c.PROCESSING_TRANSACTION, c.LAST_PROCESSED_TRANSACTION, \
            (SELECT COUNT(*) FROM performance_schema.replication_applier_status_by_worker w \
                WHERE w.CHANNEL_NAME = '' AND w.APPLYING_TRANSACTION <> ''), COALESCE(t.PROCESSLIST_STATE, '') \
            FROM performance_schema.replication_applier_status_by_coordinator c \
            JOIN performance_schema.threads t ON t.THREAD_ID = c.THREAD_ID WHERE c.CHANNEL_NAME = ''";
        let rows = self.rows(WHAT, QUICK, SQL.to_owned()).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Coordinator {
            processing: text(row, 0, WHAT)?,
            processed: text(row, 1, WHAT)?,
            busy: number(row, 2, WHAT)?,
            state: text(row, 3, WHAT)?,
        }))
    }

    /// The connection ids of the receiver's thread.
    pub async fn receiver_threads(&mut self) -> Result<Vec<u64>, Error> {
        self.threads("'thread/sql/replica_io'").await
    }

    /// The connection ids of the applier's threads.
    pub async fn applier_threads(&mut self) -> Result<Vec<u64>, Error> {
        self.threads("'thread/sql/replica_sql', 'thread/sql/replica_worker'")
            .await
    }

    async fn threads(&mut self, names: &str) -> Result<Vec<u64>, Error> {
        const WHAT: &str = "find replication threads";
        let sql = format!(
            "SELECT PROCESSLIST_ID FROM performance_schema.threads \
             WHERE NAME IN ({names}) AND PROCESSLIST_ID IS NOT NULL"
        );
        let rows = self.rows(WHAT, QUICK, sql).await?;
        rows.iter().map(|row| number(row, 0, WHAT)).collect()
    }

    /// Kills a thread; one that has ended already is no error.
    pub async fn kill(&mut self, thread: u64) -> Result<(), Error> {
        const NO_SUCH_THREAD: u16 = 1094;
        match self.run("kill a thread", QUICK, format!("KILL {thread}")).await {
            Err(error) if error.code() == Some(NO_SUCH_THREAD) => Ok(()),
            result => result,
        }
    }
}

/// The set in `@@gtid_owned`, where `#` and the number of a thread follow each transaction.
fn without_owners(owned: &str) -> String {
    let mut parts = owned.split('#');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |set, part| {
        set + part.trim_start_matches(|it: char| it.is_ascii_digit())
    })
}

fn source(host: &str, port: u16, tls: &Path) -> String {
    let file = |name: &str| quote(&tls.join(name).to_string_lossy());
    // VERIFY_CA without a host name: the addresses are those of pods.
    format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = {}, SOURCE_PORT = {port}, SOURCE_USER = '{REPLICATION_USER}', \
         SOURCE_PASSWORD = '', SOURCE_SSL = 1, SOURCE_SSL_CA = {}, \
         SOURCE_SSL_CERT = {}, SOURCE_SSL_KEY = {}, SOURCE_SSL_VERIFY_SERVER_CERT = 0, \
         SOURCE_HEARTBEAT_PERIOD = 0.2, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 1000000, \
         GET_SOURCE_PUBLIC_KEY = 0",
        quote(host),
        file("ca.crt"),
        file("tls.crt"),
        file("tls.key"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_without_the_threads_that_own_it() {
        let owned =
            "00000000-0000-0000-0000-000000000001:5#12:7#13#2, 00000000-0000-0000-0000-000000000002:1#4";
        let set = "00000000-0000-0000-0000-000000000001:5:7, 00000000-0000-0000-0000-000000000002:1";
        assert_eq!(without_owners(owned), set);
        assert_eq!(without_owners(""), "");
    }
}
