//! Statements about CLONE.

use std::time::Duration;

use super::{Error, Lane, QUICK, number, quote};
use api::names::CLONE_USER;

/// The clone is complete, the server has ended and is started by its supervisor.
pub const RESTART_BY_SUPERVISOR: u16 = 3707;

impl Lane {
    /// Names the one server that may be cloned.
    pub async fn set_donor(&mut self, host: &str, port: u16) -> Result<(), Error> {
        let sql = format!(
            "SET GLOBAL clone_valid_donor_list = {}",
            quote(&format!("{host}:{port}"))
        );
        self.run("name the donor", QUICK, sql).await
    }

    /// Overwrites this server's data with the donor's. It ends with the server's end.
    pub async fn clone_from(&mut self, host: &str, port: u16, deadline: Duration) -> Result<(), Error> {
        let sql = format!(
            "CLONE INSTANCE FROM '{CLONE_USER}'@{}:{port} IDENTIFIED BY '' REQUIRE SSL",
            quote(host)
        );
        self.run("clone", deadline, sql).await
    }

    /// Completed hundredths of the clone under way.
    pub async fn clone_progress(&mut self) -> Result<u8, Error> {
        const WHAT: &str = "ask for the clone's progress";
        let sql = "SELECT COALESCE(FLOOR(100 * SUM(LEAST(DATA, ESTIMATE)) / NULLIF(SUM(ESTIMATE), 0)), 0) \
                   FROM performance_schema.clone_progress";
        let rows = self.rows(WHAT, QUICK, sql.to_owned()).await?;
        rows.first()
            .map_or(Ok(0), |row| number::<u8>(row, 0, WHAT))
            .map(|hundredths| hundredths.min(100))
    }
}
