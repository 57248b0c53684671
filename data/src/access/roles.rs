//! The roles that tokens name: the three that there always are, and those that the resource defines. Each has a MySQL
//! account of its own, so that MySQL's grants bound what a request can do.

use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Caller, Role};
use crate::sql::{Name, is_system};

/// What an account may do in MySQL, of what a role of the resource can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    Create,
    Alter,
    Index,
    References,
    Drop,
}

impl Privilege {
    const fn as_sql(self) -> &'static str {
        match self {
            Self::Select => "SELECT, SHOW VIEW",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Create => "CREATE",
            Self::Alter => "ALTER",
            Self::Index => "INDEX",
            Self::References => "REFERENCES",
            Self::Drop => "DROP",
        }
    }
}

/// A role as the resource defines it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defined {
    name: String,
    like: Role,
    #[serde(default)]
    databases: Option<Vec<String>>,
    #[serde(default)]
    privileges: Option<Vec<Privilege>>,
}

/// One role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Its name.
    pub name: Arc<str>,
    /// The one of the three whose paths it may use. Its file has the password that this role's is made of.
    pub like: Role,
    /// The only databases that it reaches; `None` for all.
    pub databases: Option<Vec<String>>,
    /// Its MySQL account, which exists for the node's own socket only (`@localhost`).
    pub account: String,
    /// The account's privileges on what it reaches, as in GRANT.
    pub privileges: String,
    /// Rows may be read.
    pub reads: bool,
}

impl Grants {
    fn built_in(role: Role) -> Self {
        Self {
            name: role.name().into(),
            like: role,
            databases: None,
            account: format!("ddb_api_{}", role.name()),
            privileges: role.privileges().to_owned(),
            reads: true,
        }
    }

    /// True for one of the three that there always are.
    pub fn is_built_in(&self) -> bool {
        *self.name == *self.like.name()
    }

    /// The account's password, made of what the file of [`Self::like`] holds, so that a role of the resource needs no
    /// secret of its own.
    pub fn password(&self, file: &str) -> String {
        let secret = file.trim();
        if self.is_built_in() || secret.is_empty() {
            return secret.to_owned();
        }
        hex(&Sha256::digest(format!("{secret} {}", self.name)))
    }

    /// Another one for other grants.
    pub fn fingerprint(&self) -> String {
        let Self {
            name: _,
            like,
            databases,
            account: _,
            privileges,
            reads: _,
        } = self;
        hex(&Sha256::digest(format!(
            "{} {databases:?} {privileges}",
            like.name()
        )))
    }
}

/// The place of a role among [`Roles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account(usize);

impl Account {
    /// That of [`Role::Reader`], for what a node asks by itself.
    pub const READER: Self = Self(0);

    pub(crate) const fn index(self) -> usize {
        self.0
    }
}

/// All roles of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(Arc<[Grants]>);

impl Default for Roles {
    fn default() -> Self {
        Self(Role::ALL.map(Grants::built_in).into())
    }
}

impl Roles {
    /// What the accounts of roles that the resource defines begin with.
    pub const PREFIX: &str = "ddb_role_";

    /// The three, and those of a JSON array: `[{"name":"orders","like":"writer","databases":["shop"],
    /// "privileges":["SELECT","INSERT"]}]`, where the last two may be left out.
    ///
    /// # Errors
    /// Where the text is not such an array, or a name is one of the three or no name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let defined: Vec<Defined> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut all: Vec<Grants> = Role::ALL.map(Grants::built_in).into();
        for one in defined {
            let Defined {
                name,
                like,
                databases,
                privileges,
            } = one;
            let letters = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            // With the prefix it must fit into the name of an account.
            if name.is_empty() || name.len() > 20 || !letters || all.iter().any(|other| *other.name == *name)
            {
                return Err(format!("`{name}` is no name for another role"));
            }
            if privileges.as_ref().is_some_and(Vec::is_empty) {
                return Err(format!("the role {name} has no privilege"));
            }
            let is_database = |database: &String| Name::new(database.clone()).is_ok() && !is_system(database);
            if !databases.iter().flatten().all(is_database) {
                return Err(format!(
                    "the role {name} has a database of no name or of the system"
                ));
            }
            let listed = |all: Vec<Privilege>| {
                let words: Vec<&str> = all.into_iter().map(Privilege::as_sql).collect();
                words.join(", ")
            };
            all.push(Grants {
                account: format!("{}{name}", Self::PREFIX),
                name: name.into(),
                like,
                databases,
                reads: privileges
                    .as_ref()
                    .is_none_or(|all| all.contains(&Privilege::Select)),
                privileges: privileges.map_or_else(|| like.privileges().to_owned(), listed),
            });
        }
        Ok(Self(all.into()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Each of them.
    pub fn all(&self) -> impl Iterator<Item = &Grants> {
        self.0.iter()
    }

    /// The one at this place, which must be one of these roles.
    pub fn of(&self, account: Account) -> &Grants {
        &self.0[account.0]
    }

    /// Somebody who has a role, bounded further by `databases`; `None` where there is no such role.
    pub fn caller(&self, id: String, role: &str, databases: Option<Vec<String>>) -> Option<Caller> {
        let place = self.0.iter().position(|one| *one.name == *role)?;
        let of = &self.0[place];
        let databases = match (&of.databases, databases) {
            (Some(all), Some(some)) => Some(some.into_iter().filter(|one| all.contains(one)).collect()),
            (all, None) => all.clone(),
            (None, some) => some,
        };
        Some(Caller {
            id,
            role: of.like,
            named: Arc::clone(&of.name),
            account: Account(place),
            reads: of.reads,
            databases,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = r#"[{"name":"orders","like":"writer","databases":["shop","stock"],"privileges":["SELECT","INSERT"]}]"#;

    #[test]
    fn a_role_of_the_resource_bounds_paths_privileges_and_databases() {
        let roles = Roles::parse(ORDERS).unwrap();
        let caller = roles
            .caller(
                "t".to_owned(),
                "orders",
                Some(vec!["shop".into(), "other".into()]),
            )
            .unwrap();
        assert_eq!((caller.role, &*caller.named), (Role::Writer, "orders"));
        assert!(caller.reaches("shop") && !caller.reaches("stock") && !caller.reaches("other"));
        let grants = roles.of(caller.account);
        assert_eq!(
            (grants.account.as_str(), grants.privileges.as_str()),
            ("ddb_role_orders", "SELECT, SHOW VIEW, INSERT")
        );
        assert!(
            roles
                .caller("t".to_owned(), "orders", None)
                .unwrap()
                .reaches("stock")
        );
        assert_eq!(roles.caller("t".to_owned(), "others", None), None);
        let admin = roles.caller("t".to_owned(), "admin", None).unwrap();
        assert_eq!(roles.of(admin.account).account, "ddb_api_admin");
    }

    #[test]
    fn a_password_is_the_roles_own_and_changes_with_what_it_is_made_of() {
        let roles = Roles::parse(ORDERS).unwrap();
        let [writer, orders] =
            ["writer", "orders"].map(|name| roles.all().find(|one| *one.name == *name).unwrap());
        assert_eq!(writer.password("secret\n"), "secret");
        assert_eq!(orders.password("secret\n").len(), 64);
        assert_ne!(orders.password("secret"), orders.password("other"));
        assert_eq!(orders.password(""), "", "nothing is made of nothing");
    }

    #[test]
    fn what_is_no_role_is_refused() {
        for text in [
            "",
            "{}",
            r#"[{"name":"reader","like":"writer"}]"#,
            r#"[{"name":"a'b","like":"writer"}]"#,
            r#"[{"name":"x","like":"root"}]"#,
            r#"[{"name":"x","like":"reader","privileges":["ALL"]}]"#,
            r#"[{"name":"x","like":"reader","privileges":[]}]"#,
            r#"[{"name":"x","like":"reader","databases":[""]}]"#,
            r#"[{"name":"x","like":"reader","databases":["Performance_Schema"]}]"#,
            r#"[{"name":"x","like":"reader"},{"name":"x","like":"reader"}]"#,
        ] {
            assert!(Roles::parse(text).is_err(), "{text}");
        }
    }
}
