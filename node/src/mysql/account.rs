//! Statements about the application's account. No password may reach a log or an error.

use std::time::Duration;

use super::{Error, Lane, quote};

/// These write, so they wait for slaves like every commit; whoever asks watches for how long.
pub(super) const WRITE: Duration = Duration::from_hours(1);

/// What an application may do: its data and its tables, nothing of the server's.
const PRIVILEGES: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE VIEW, \
    SHOW VIEW, TRIGGER, EVENT, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, CREATE TEMPORARY TABLES, LOCK TABLES";

impl Lane {
    /// True when the account exists with all its grants: its last step is done last.
    pub async fn account_exists(&mut self, user: &str) -> Result<bool, Error> {
        self.is_complete("look for the account", user, "Host = '%' AND Show_db_priv = 'Y'")
            .await
    }

    /// True when an account exists with the mark that its last step leaves.
    pub(super) async fn is_complete(
        &mut self,
        what: &'static str,
        user: &str,
        mark: &str,
    ) -> Result<bool, Error> {
        let sql = format!(
            "SELECT COUNT(*) FROM mysql.user WHERE User = {} AND {mark}",
            quote(user)
        );
        let found: u64 = self.count(what, super::QUICK, sql).await?;
        Ok(found > 0)
    }

    /// Makes the account.
    pub async fn create_account(&mut self, user: &str, password: &str) -> Result<(), Error> {
        let sql = format!(
            "CREATE USER IF NOT EXISTS {}@'%' IDENTIFIED BY {}",
            quote(user),
            quote(password)
        );
        self.run("create the account", WRITE, sql).await
    }

    /// Gives the account another password.
    pub async fn set_password(&mut self, user: &str, password: &str) -> Result<(), Error> {
        let sql = format!("ALTER USER {}@'%' IDENTIFIED BY {}", quote(user), quote(password));
        self.run("set the account's password", WRITE, sql).await
    }

    /// Lets the account use all schemas.
    pub async fn grant_use(&mut self, user: &str) -> Result<(), Error> {
        self.run(
            "grant",
            WRITE,
            format!("GRANT {PRIVILEGES} ON *.* TO {}@'%'", quote(user)),
        )
        .await
    }

    /// Takes a system schema out again (`partial_revokes`).
    pub async fn revoke_system(&mut self, user: &str, schema: &'static str) -> Result<(), Error> {
        self.run(
            "revoke",
            WRITE,
            format!("REVOKE {PRIVILEGES} ON {schema}.* FROM {}@'%'", quote(user)),
        )
        .await
    }

    /// Lets the account list the schemas, which marks the account as complete.
    pub async fn grant_list(&mut self, user: &str) -> Result<(), Error> {
        self.run(
            "grant",
            WRITE,
            format!("GRANT SHOW DATABASES ON *.* TO {}@'%'", quote(user)),
        )
        .await
    }
}
