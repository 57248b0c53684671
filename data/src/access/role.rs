//! The three roles that there always are.

use serde::{Deserialize, Serialize};

/// What a token allows. Each role may do all that the ones before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads rows and definitions.
    Reader,
    /// Changes rows, makes databases and tables.
    Writer,
    /// Drops databases and tables, reads audit records, directs the cluster.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Writer, Self::Admin];

    /// Its name, which is also the name of the file with its account's password.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        }
    }

    /// The privileges of its MySQL account on all schemas but the system's.
    pub(super) const fn privileges(self) -> &'static str {
        match self {
            Self::Reader => "SELECT, SHOW VIEW",
            Self::Writer => {
                "SELECT, SHOW VIEW, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES, \
                 CREATE TEMPORARY TABLES, EXECUTE"
            }
            Self::Admin => {
                "SELECT, SHOW VIEW, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES, \
                 CREATE TEMPORARY TABLES, EXECUTE, DROP, CREATE VIEW, TRIGGER, EVENT, CREATE ROUTINE, ALTER ROUTINE"
            }
        }
    }
}
