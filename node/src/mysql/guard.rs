//! Statements that close a server to clients and open it again.

use std::time::Duration;

use super::{Error, Lane, QUICK};

impl Lane {
    /// Keeps ordinary clients out and drops those that are in; never blocks behind a waiting commit.
    pub async fn offline_on(&mut self) -> Result<(), Error> {
        self.run(
            "offline_mode on",
            QUICK,
            "SET GLOBAL offline_mode = ON".to_owned(),
        )
        .await
    }

    /// Lets ordinary clients in.
    pub async fn offline_off(&mut self) -> Result<(), Error> {
        self.run(
            "offline_mode off",
            QUICK,
            "SET GLOBAL offline_mode = OFF".to_owned(),
        )
        .await
    }

    /// Stops all writes. Returning means that no commit is under way any more; only that proves it.
    pub async fn read_only_on(&mut self, deadline: Duration) -> Result<(), Error> {
        self.run(
            "super_read_only on",
            deadline,
            "SET GLOBAL super_read_only = ON".to_owned(),
        )
        .await
    }

    /// Allows writes to every account.
    pub async fn read_only_off(&mut self) -> Result<(), Error> {
        // It switches super_read_only off with it.
        self.run("read_only off", QUICK, "SET GLOBAL read_only = OFF".to_owned())
            .await
    }

    /// Allows writes to administrators only, which CLONE needs.
    pub async fn super_read_only_off(&mut self) -> Result<(), Error> {
        self.run(
            "super_read_only off",
            QUICK,
            "SET GLOBAL super_read_only = OFF".to_owned(),
        )
        .await
    }

    /// Takes changed certificate files into use; running replication goes on.
    pub async fn reload_tls(&mut self) -> Result<(), Error> {
        self.run("reload TLS", QUICK, "ALTER INSTANCE RELOAD TLS".to_owned())
            .await
    }
}
