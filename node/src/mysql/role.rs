//! Statements about the accounts of the data API's roles. No password may reach a log or an error.

use std::{fmt::Write as _, time::Duration};

use data::{
    CHANGES_ACCOUNT,
    access::{Grants, Roles},
};

use super::{Error, Lane, quote};

/// These write, so they wait for slaves like every commit; whoever asks watches for how long.
const WRITE: Duration = Duration::from_hours(1);
/// How many forgotten keys are deleted at a time, so that no transaction becomes large.
const KEYS_AT_A_TIME: u32 = 5000;

impl Lane {
    /// True when the role's account exists with all its grants: its last step is done last.
    pub async fn role_exists(&mut self, role: &Grants) -> Result<bool, Error> {
        let mut mark = "Host = 'localhost' AND account_locked = 'N'".to_owned();
        // What the resource defines may change.
        if !role.is_built_in() {
            let _ = write!(
                mark,
                " AND User_attributes->>'$.metadata.grants' = {}",
                quote(&role.fingerprint())
            );
        }
        self.is_complete("look for a role's account", &role.account, &mark)
            .await
    }

    /// The accounts of roles that the resource once defined and that are none of `roles`.
    pub async fn former_roles(&mut self, roles: &Roles) -> Result<Vec<String>, Error> {
        const WHAT: &str = "look for the accounts of former roles";
        let sql = format!(
            "SELECT CAST(User AS CHAR) FROM mysql.user WHERE Host = 'localhost' AND LEFT(User, {}) = {}",
            Roles::PREFIX.len(),
            quote(Roles::PREFIX)
        );
        let rows = self.rows(WHAT, super::QUICK, sql).await?;
        let mut former = Vec::new();
        for row in &rows {
            let user = super::text(row, 0, WHAT)?;
            if roles.all().all(|role| role.account != user) {
                former.push(user);
            }
        }
        Ok(former)
    }

    /// Takes an account away. Who is logged in stays so until its connection ends.
    pub async fn drop_role(&mut self, account: &str) -> Result<(), Error> {
        let sql = format!("DROP USER IF EXISTS {}@'localhost'", quote(account));
        self.run("drop a role's account", WRITE, sql).await
    }

    /// Makes the role's account. It is locked until it is complete: a session keeps the privileges that its account
    /// had when it logged in.
    pub async fn create_role(&mut self, role: &Grants, password: &str) -> Result<(), Error> {
        let sql = format!(
            "CREATE USER IF NOT EXISTS {} IDENTIFIED BY {} ACCOUNT LOCK",
            account(role),
            quote(password)
        );
        self.run("create a role's account", WRITE, sql).await
    }

    /// Gives the role's account another password. The former one is good, too, until the next change: other nodes may
    /// read the new one from their Secret a minute later.
    pub async fn set_role_password(&mut self, role: &Grants, password: &str) -> Result<(), Error> {
        let sql = format!(
            "ALTER USER {} IDENTIFIED BY {} RETAIN CURRENT PASSWORD",
            account(role),
            quote(password)
        );
        self.run("set a role's password", WRITE, sql).await
    }

    /// Lets the role use a schema, or all of them.
    pub async fn grant_role(&mut self, role: &Grants, schema: Option<&str>) -> Result<(), Error> {
        // With `partial_revokes` a name has no wildcards.
        let on = schema.map_or_else(|| "*".to_owned(), |name| format!("`{}`", name.replace('`', "``")));
        let sql = format!("GRANT {} ON {on}.* TO {}", role.privileges, account(role));
        self.run("grant to a role", WRITE, sql).await
    }

    /// Takes a system schema out again (`partial_revokes`).
    pub async fn revoke_role(&mut self, role: &Grants, schema: &'static str) -> Result<(), Error> {
        // MySQL lets nothing else of this schema be taken away; there is nothing else to have of it either.
        let privileges = match schema {
            "performance_schema" => "SELECT",
            _ => &role.privileges,
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
    pub async fn grant_keys(&mut self, role: &Grants) -> Result<(), Error> {
        let sql = format!(
            "GRANT SELECT, INSERT, UPDATE ON ddb.api_keys TO {}",
            account(role)
        );
        self.run("grant the table of keys", WRITE, sql).await
    }

    /// Lets the role log in: its account is complete.
    pub async fn complete_role(&mut self, role: &Grants) -> Result<(), Error> {
        let mut sql = format!("ALTER USER {} ACCOUNT UNLOCK", account(role));
        if !role.is_built_in() {
            let _ = write!(sql, r#" ATTRIBUTE '{{"grants":"{}"}}'"#, role.fingerprint());
        }
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

fn account(role: &Grants) -> String {
    format!("{}@'localhost'", quote(&role.account))
}
