//! Statements about the accounts of the data API's roles. No password may reach a log or an error.

use std::time::Duration;

use data::{CHANGES_ACCOUNT, access::Role};

use super::{Error, Lane, quote};

/// These write, so they wait for slaves like every commit; whoever asks watches for how long.
const WRITE: Duration = Duration::from_hours(1);
/// How many forgotten keys are deleted at a time, so that no transaction becomes large.
const KEYS_AT_A_TIME: u32 = 5000;

impl Lane {
    /// True when the role's account exists with all its grants: its last step is done last.
    pub async fn role_exists(&mut self, role: Role) -> Result<bool, Error> {
        self.is_complete(
            "look for a role's account",
            role.account(),
            "Host = 'localhost' AND account_locked = 'N'",
        )
        .await
    }

    /// Makes the role's account. It is locked until it is complete: a session keeps the privileges that its account
    /// had when it logged in.
    pub async fn create_role(&mut self, role: Role, password: &str) -> Result<(), Error> {
        let sql = format!(
            "CREATE USER IF NOT EXISTS {} IDENTIFIED BY {} ACCOUNT LOCK",
            account(role),
            quote(password)
        );
        self.run("create a role's account", WRITE, sql).await
    }

    /// Gives the role's account another password.
    pub async fn set_role_password(&mut self, role: Role, password: &str) -> Result<(), Error> {
        let sql = format!("ALTER USER {} IDENTIFIED BY {}", account(role), quote(password));
        self.run("set a role's password", WRITE, sql).await
    }

    /// Lets the role use all schemas.
    pub async fn grant_role(&mut self, role: Role) -> Result<(), Error> {
        let sql = format!("GRANT {} ON *.* TO {}", role.privileges(), account(role));
        self.run("grant to a role", WRITE, sql).await
    }

    /// Takes a system schema out again (`partial_revokes`).
    pub async fn revoke_role(&mut self, role: Role, schema: &'static str) -> Result<(), Error> {
        // MySQL lets nothing else of this schema be taken away; there is nothing else to have of it either.
        let privileges = match schema {
            "performance_schema" => "SELECT",
            _ => role.privileges(),
        };
        let sql = format!("REVOKE {privileges} ON {schema}.* FROM {}", account(role));
        self.run("revoke from a role", WRITE, sql).await
    }

    /// True when the account that change feeds read the binary log with exists with its privilege.
    pub async fn changes_account_exists(&mut self) -> Result<bool, Error> {
        self.is_complete(
            "look for the account of change feeds",
            CHANGES_ACCOUNT,
            "Host = 'localhost' AND Repl_slave_priv = 'Y'",
        )
        .await
    }

    /// Makes it. It has no password, like root's: only the socket inside the pod is 'localhost'.
    pub async fn create_changes_account(&mut self) -> Result<(), Error> {
        let sql = format!("CREATE USER IF NOT EXISTS {}@'localhost'", quote(CHANGES_ACCOUNT));
        self.run("create the account of change feeds", WRITE, sql).await
    }

    /// Lets it read the binary log, and nothing else. This marks it as complete.
    pub async fn grant_changes(&mut self) -> Result<(), Error> {
        let sql = format!(
            "GRANT REPLICATION SLAVE ON *.* TO {}@'localhost'",
            quote(CHANGES_ACCOUNT)
        );
        self.run("grant to the account of change feeds", WRITE, sql).await
    }

    /// Makes the table of the keys that requests are known again by.
    pub async fn create_keys(&mut self) -> Result<(), Error> {
        self.run("make the table of keys", WRITE, data::keys::TABLE.to_owned())
            .await
    }

    /// Lets the role add, read and complete keys.
    pub async fn grant_keys(&mut self, role: Role) -> Result<(), Error> {
        let sql = format!(
            "GRANT SELECT, INSERT, UPDATE ON ddb.api_keys TO {}",
            account(role)
        );
        self.run("grant the table of keys", WRITE, sql).await
    }

    /// Lets the role log in: its account is complete.
    pub async fn complete_role(&mut self, role: Role) -> Result<(), Error> {
        let sql = format!("ALTER USER {} ACCOUNT UNLOCK", account(role));
        self.run("open a role's account", WRITE, sql).await
    }

    /// Forgets keys that are older than a day, a part of them at a time; 0 where there are none left.
    pub async fn forget_keys(&mut self) -> Result<u64, Error> {
        let sql = format!(
            "DELETE FROM ddb.api_keys WHERE at < NOW() - INTERVAL 1 DAY LIMIT {KEYS_AT_A_TIME}; \
             SELECT ROW_COUNT()"
        );
        self.count("forget old keys", WRITE, sql).await
    }
}

fn account(role: Role) -> String {
    format!("{}@'localhost'", quote(role.account()))
}
