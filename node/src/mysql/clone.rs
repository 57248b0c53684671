//! Statements about CLONE.

use std::{path::Path, time::Duration};

use api::names::CLONE_USER;
use sqlx::mysql::MySqlSslMode;

use super::{Error, Lane, QUICK, account::WRITE, number, options, quote};

/// The clone is complete, the server has ended and is started by its supervisor.
pub const RESTART_BY_SUPERVISOR: u16 = 3707;

impl Lane {
    /// To the server at host and port, as the one that copies it. A closed server lets it in too.
    pub fn donor((host, port): &(String, u16), tls: &Path) -> Self {
        let options = options()
            .host(host)
            .port(*port)
            .username(CLONE_USER)
            .ssl_mode(MySqlSslMode::VerifyCa)
            .ssl_ca(tls.join("ca.crt"))
            .ssl_client_cert(tls.join("tls.crt"))
            .ssl_client_key(tls.join("tls.key"));
        Self::with(options)
    }

    /// Names the one server that may be cloned.
    pub async fn set_donor(&mut self, host: &str, port: u16) -> Result<(), Error> {
        let sql = format!(
            "SET GLOBAL clone_valid_donor_list = {}",
            quote(&format!("{host}:{port}"))
        );
        self.run("name the donor", QUICK, sql).await
    }

    /// True when a closed server lets whoever clones it in. Databases made by an earlier release lack the right.
    pub async fn is_copied_closed(&mut self) -> Result<bool, Error> {
        let sql = format!(
            "SELECT COUNT(*) FROM mysql.global_grants WHERE USER = '{CLONE_USER}' AND PRIV = 'CONNECTION_ADMIN'"
        );
        let found: u64 = self
            .count("look for the clone account's rights", QUICK, sql)
            .await?;
        Ok(found > 0)
    }

    /// Lets whoever clones this server in while it is closed.
    pub async fn grant_copy_closed(&mut self) -> Result<(), Error> {
        let sql = format!("GRANT CONNECTION_ADMIN ON *.* TO '{CLONE_USER}'@'%'");
        self.run("grant", WRITE, sql).await
    }

    /// True where the server lets only administrators in: it serves nobody.
    pub async fn is_closed(&mut self) -> Result<bool, Error> {
        let sql = "SELECT @@global.offline_mode".to_owned();
        let closed: u8 = self.count("ask whether the server is closed", QUICK, sql).await?;
        Ok(closed == 1)
    }

    /// The MiB a second that a copy to this server may take; 0 for any number.
    pub async fn copy_bound(&mut self) -> Result<u32, Error> {
        let sql = "SELECT @@global.clone_max_data_bandwidth".to_owned();
        self.count("ask for a copy's bound", QUICK, sql).await
    }

    /// Sets it until the server starts again.
    pub async fn bound_copies(&mut self, mib_per_second: u32) -> Result<(), Error> {
        let sql = format!("SET GLOBAL clone_max_data_bandwidth = {mib_per_second}");
        self.run("bound copies", QUICK, sql).await
    }

    /// Overwrites this server's data with the donor's. It ends with the server's end.
    pub async fn clone_from(&mut self, host: &str, port: u16, deadline: Duration) -> Result<(), Error> {
        let sql = format!(
            "CLONE INSTANCE FROM '{CLONE_USER}'@{}:{port} IDENTIFIED BY '' REQUIRE SSL",
            quote(host)
        );
        self.run("clone", deadline, sql).await
    }

    /// How far the clone under way has come.
    pub async fn clone_progress(&mut self) -> Result<Progress, Error> {
        const WHAT: &str = "ask for the clone's progress";
        let sql = "SELECT COALESCE(FLOOR(100 * SUM(LEAST(DATA, ESTIMATE)) / NULLIF(SUM(ESTIMATE), 0)), 0), \
                   COALESCE(SUM(NETWORK), 0), \
                   COALESCE(SUM(STAGE = 'DROP DATA' AND STATE = 'Completed') = 1 \
                   AND SUM(STAGE = 'FILE SYNC' AND STATE = 'Not Started') = 1, 0) \
                   FROM performance_schema.clone_progress";
        let rows = self.rows(WHAT, QUICK, sql.to_owned()).await?;
        let Some(row) = rows.first() else {
            return Ok(Progress::default());
        };
        Ok(Progress {
            hundredths: number::<u8>(row, 0, WHAT)?.min(100),
            received: number(row, 1, WHAT)?,
            is_fed: number::<u8>(row, 2, WHAT)? == 1,
        })
    }
}

/// How far a clone has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Completed hundredths.
    pub hundredths: u8,
    /// Bytes that came over the network.
    pub received: u64,
    /// It is at a stage in which the donor has something to send all the time.
    pub is_fed: bool,
}
