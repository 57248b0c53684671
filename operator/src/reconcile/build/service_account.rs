//! The pods' service account. It has no rights and its token is mounted nowhere; it exists so that a right given
//! to the namespace's default account is not given to the database. Named after the nodes, because an application
//! that is called like its database has an account of that name.

use api::names;
use k8s_openapi::api::core::v1::ServiceAccount;

use crate::reconcile::database::Database;

/// Builds it.
pub fn build(database: &Database) -> ServiceAccount {
    ServiceAccount {
        metadata: database.owned(names::nodes_service(&database.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::database::example;

    #[test]
    fn the_service_account_as_built() {
        insta::assert_yaml_snapshot!(build(&example::database(|_| ())));
    }
}
