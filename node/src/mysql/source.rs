//! Statements about the source side of semi-synchronous replication.

use std::time::Duration;

use data::CHANGES_ACCOUNT;
use failover::Term;

use super::{Error, Lane, QUICK, quote, text};

/// The server waits for its thread that takes acknowledgements, which looks up once a second.
const SOURCE_OFF: Duration = Duration::from_secs(5);

impl Lane {
    /// Sessions that wait for an acknowledgement; of a group commit only the leader counts.
    pub async fn waiting_sessions(&mut self, deadline: Duration) -> Result<u32, Error> {
        let sql = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                   WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_wait_sessions'";
        self.count("count waiting sessions", deadline, sql.to_owned())
            .await
    }

    /// Slaves that are connected and acknowledge.
    pub async fn acknowledgers(&mut self) -> Result<u32, Error> {
        let sql = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                   WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_clients'";
        self.count("count acknowledging slaves", QUICK, sql.to_owned())
            .await
    }

    /// The hosts whose servers replicate from this one. A change feed reads the same log, and holds nothing.
    pub async fn attached(&mut self) -> Result<Vec<String>, Error> {
        const WHAT: &str = "ask who replicates from here";
        let sql = format!(
            "SELECT DISTINCT PROCESSLIST_HOST FROM performance_schema.threads \
             WHERE PROCESSLIST_COMMAND LIKE 'Binlog Dump%' AND PROCESSLIST_HOST <> '' AND PROCESSLIST_USER <> {}",
            quote(CHANGES_ACCOUNT)
        );
        let rows = self.rows(WHAT, QUICK, sql).await?;
        rows.iter().map(|row| text(row, 0, WHAT)).collect()
    }

    /// Threads of clients that are inside a commit.
    pub async fn committing(&mut self) -> Result<u32, Error> {
        let sql = "SELECT COUNT(*) FROM performance_schema.threads WHERE TYPE = 'FOREGROUND' \
                   AND (PROCESSLIST_STATE LIKE 'Waiting for semi-sync ACK%' \
                   OR PROCESSLIST_STATE LIKE 'waiting for handler commit%')";
        self.count("count waiting commits", QUICK, sql.to_owned()).await
    }

    /// Everything that must hold before [`Lane::source_on`]: no acknowledgements to anybody; a write waits for `acks`
    /// slaves (at least 1: MySQL takes 0 for 1), without end, also while no slave is there.
    pub async fn prepare_source(&mut self, acks: u32) -> Result<(), Error> {
        let sql = format!(
            "SET GLOBAL rpl_semi_sync_replica_enabled = OFF, \
             GLOBAL rpl_semi_sync_source_wait_for_replica_count = {}, \
             GLOBAL rpl_semi_sync_source_timeout = 4294967295, \
             GLOBAL rpl_semi_sync_source_wait_no_replica = ON, \
             GLOBAL rpl_semi_sync_source_wait_point = AFTER_SYNC",
            acks.max(1)
        );
        self.run("wait for acknowledgements without end", QUICK, sql)
            .await
    }

    /// Commits wait for acknowledgements from now on.
    pub async fn source_on(&mut self) -> Result<(), Error> {
        self.run(
            "semi-sync source on",
            QUICK,
            "SET GLOBAL rpl_semi_sync_source_enabled = ON".to_owned(),
        )
        .await
    }

    /// Commits wait no more. With waiters inside they would all be acknowledged: only on a server without any.
    pub async fn source_off(&mut self) -> Result<(), Error> {
        self.run(
            "semi-sync source off",
            SOURCE_OFF,
            "SET GLOBAL rpl_semi_sync_source_enabled = OFF".to_owned(),
        )
        .await
    }

    /// Writes a row of the agent's own, so that a commit whose acknowledgement was lost on the wire is freed.
    pub async fn beat(&mut self, row: u8, term: Term, deadline: Duration) -> Result<(), Error> {
        let sql = format!(
            "INSERT INTO ddb.beat (id, term, at) VALUES ({row}, {term}, NOW(6)) \
             ON DUPLICATE KEY UPDATE term = VALUES(term), at = VALUES(at)"
        );
        self.run("write the heartbeat row", deadline, sql).await
    }
}
