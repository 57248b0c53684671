//! What the probe asks: nothing here may wait for a commit, a lock or the disk.

use std::time::Duration;

use failover::{GtidSet, Millis};
use sqlx::mysql::MySqlRow;

use super::{Error, Lane, number, text};

/// A server's own words about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a variable of the server")]
pub struct Status {
    /// `@@server_uuid`.
    pub uuid: String,
    /// `@@version`.
    pub version: String,
    /// `@@report_user`, in which the supervisor names each start of mysqld by another number.
    pub start: u32,
    /// `@@gtid_executed`.
    pub executed: GtidSet,
    /// `@@gtid_purged`.
    pub purged: GtidSet,
    /// Nobody writes here. While the statement that sets it has not returned, commits may still wait inside.
    pub super_read_only: bool,
    /// Ordinary clients are kept out.
    pub offline: bool,
    /// Commits wait for acknowledgements.
    pub source_on: bool,
    /// Of so many slaves.
    pub acks: u32,
    /// It acknowledges to its source once its receiver connects.
    pub replica_on: bool,
    /// Sessions that wait for an acknowledgement (group leaders only).
    pub waiting: u32,
    /// Its replication channel, where one is configured.
    pub channel: Option<Channel>,
}

impl Status {
    /// All that was executed or received.
    pub fn holds(&self) -> GtidSet {
        let received = self.channel.as_ref().map(|channel| &channel.received);
        received.map_or_else(
            || self.executed.clone(),
            |received| received.union(&self.executed),
        )
    }
}

/// The default replication channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The source's address.
    pub host: String,
    /// The source's port.
    pub port: u16,
    /// Received transactions, whole ones only.
    pub received: GtidSet,
    /// The receiver.
    pub receiver: Service,
    /// Its last error, empty where there is none.
    pub receiver_error: String,
    /// Milliseconds since something came from the source.
    pub age_ms: Millis,
    /// The applier.
    pub applier: Service,
    /// Its last error, empty where there is none.
    pub applier_error: String,
}

/// The state of a replication thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Running.
    On,
    /// Trying to connect.
    Connecting,
    /// Not running.
    Off,
}

const WHAT: &str = "ask for the server's state";

const VARIABLES: &str = "SELECT @@server_uuid, @@version, CAST(@@report_user AS UNSIGNED), @@global.gtid_executed, \
    @@global.gtid_purged, @@global.super_read_only, @@global.offline_mode, @@global.rpl_semi_sync_source_enabled, \
    @@global.rpl_semi_sync_source_wait_for_replica_count, @@global.rpl_semi_sync_replica_enabled";

const CHANNEL: &str = "SELECT c.HOST, c.PORT, s.RECEIVED_TRANSACTION_SET, s.SERVICE_STATE, s.LAST_ERROR_MESSAGE, \
    COALESCE(TIMESTAMPDIFF(MICROSECOND, GREATEST(s.LAST_HEARTBEAT_TIMESTAMP, \
        s.LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP, s.QUEUEING_TRANSACTION_START_QUEUE_TIMESTAMP), NOW(6)), 0), \
    a.SERVICE_STATE, \
    CONCAT(COALESCE((SELECT MAX(w.LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker w \
        WHERE w.CHANNEL_NAME = ''), ''), \
      COALESCE((SELECT MAX(k.LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_coordinator k \
        WHERE k.CHANNEL_NAME = ''), '')) \
    FROM performance_schema.replication_connection_status s \
    JOIN performance_schema.replication_connection_configuration c ON c.CHANNEL_NAME = s.CHANNEL_NAME \
    JOIN performance_schema.replication_applier_status a ON a.CHANNEL_NAME = s.CHANNEL_NAME \
    WHERE s.CHANNEL_NAME = ''";

impl Lane {
    /// Asks for everything that a report is made of, in one round trip: it is asked for ten times a second.
    pub async fn status(&mut self, deadline: Duration) -> Result<Status, Error> {
        let rows = self
            .rows(WHAT, deadline, format!("{VARIABLES}; {CHANNEL}"))
            .await?;
        let (first, rest) = rows.split_first().ok_or_else(|| Error::Strange {
            what: WHAT,
            answer: String::new(),
        })?;
        let mut status = variables(first)?;
        if let Some(row) = rest.first() {
            status.channel = channel(row)?;
        }
        if status.source_on {
            status.waiting = self.waiting_sessions(deadline).await?;
        }
        Ok(status)
    }
}

fn variables(row: &MySqlRow) -> Result<Status, Error> {
    let flag = |at| number::<u8>(row, at, WHAT).map(|value| value != 0);
    Ok(Status {
        uuid: text(row, 0, WHAT)?,
        version: text(row, 1, WHAT)?,
        start: number(row, 2, WHAT)?,
        executed: set(&text(row, 3, WHAT)?)?,
        purged: set(&text(row, 4, WHAT)?)?,
        super_read_only: flag(5)?,
        offline: flag(6)?,
        source_on: flag(7)?,
        acks: number(row, 8, WHAT)?,
        replica_on: flag(9)?,
        waiting: 0,
        channel: None,
    })
}

fn channel(row: &MySqlRow) -> Result<Option<Channel>, Error> {
    let host = text(row, 0, WHAT)?;
    if host.is_empty() {
        return Ok(None);
    }
    Ok(Some(Channel {
        host,
        port: number(row, 1, WHAT)?,
        received: set(&text(row, 2, WHAT)?)?,
        receiver: service(&text(row, 3, WHAT)?),
        receiver_error: text(row, 4, WHAT)?,
        age_ms: number::<i64>(row, 5, WHAT)?.max(0).unsigned_abs() / 1000,
        applier: service(&text(row, 6, WHAT)?),
        applier_error: text(row, 7, WHAT)?,
    }))
}

pub(super) fn set(text: &str) -> Result<GtidSet, Error> {
    text.parse().map_err(|_| Error::Strange {
        what: WHAT,
        answer: text.to_owned(),
    })
}

fn service(text: &str) -> Service {
    match text {
        "ON" => Service::On,
        "CONNECTING" => Service::Connecting,
        _ => Service::Off,
    }
}
