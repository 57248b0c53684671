//! The Secrets: authority, nodes' certificate, application account. Which of them is made is decided elsewhere;
//! this file only puts given contents into their form.

use std::collections::BTreeMap;

use api::{names, wire};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::pki::Pair;
use crate::reconcile::database::Database;

/// The user name of the generated account.
pub const ACCOUNT_USER: &str = "app";

/// The authority's Secret. Read by the operator only; it stays as long as the data does, so that clients that trust
/// it find the same one again.
pub fn authority(database: &Database, pair: &Pair) -> Secret {
    let Pair { certificate, key } = pair;
    let data = [("ca.crt", certificate), ("ca.key", key)];
    secret(
        database.with_the_data(names::ca_secret(&database.name)),
        "Opaque",
        data,
    )
}

/// The nodes' certificate, in the usual form of a TLS Secret with the authority beside it.
pub fn node_tls(database: &Database, authority: &Pair, pair: &Pair) -> Secret {
    let Pair { certificate, key } = pair;
    let data = [
        ("ca.crt", &authority.certificate),
        ("tls.crt", certificate),
        ("tls.key", key),
    ];
    secret(
        database.owned(names::node_tls_secret(&database.name)),
        "kubernetes.io/tls",
        data,
    )
}

/// The account that applications use. It stays as long as the data does, because the password is in the data.
pub fn account(database: &Database, password: &str) -> Secret {
    let host = format!(
        "{}.{}.svc",
        names::master_service(&database.name),
        database.namespace
    );
    let data = [
        ("username", ACCOUNT_USER.to_owned()),
        ("password", password.to_owned()),
        ("host", host),
        ("port", wire::MYSQL_PORT.to_string()),
    ];
    secret(
        database.with_the_data(names::account_secret(&database.name)),
        "Opaque",
        data,
    )
}

/// The roles of the data API, which are the keys of [`api_accounts`].
pub const ROLES: [&str; 3] = ["reader", "writer", "admin"];

/// The data API's tokens: none yet.
pub fn tokens(database: &Database) -> Secret {
    let none: [(&str, &str); 0] = [];
    secret(
        database.with_the_data(names::tokens_secret(&database.name)),
        "Opaque",
        none,
    )
}

/// The passwords of the data API's own MySQL accounts. They stay as long as the data does, because they are in the
/// data.
pub fn api_accounts(database: &Database, passwords: &[String; 3]) -> Secret {
    let [reader, writer, admin] = passwords;
    let [first, second, third] = ROLES;
    secret(
        database.with_the_data(names::api_accounts_secret(&database.name)),
        "Opaque",
        [(first, reader), (second, writer), (third, admin)],
    )
}

fn secret<const N: usize>(
    metadata: kube::api::ObjectMeta,
    kind: &str,
    data: [(&str, impl AsRef<str>); N],
) -> Secret {
    let data: BTreeMap<String, ByteString> = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.as_ref().into())))
        .collect();
    Secret {
        metadata,
        type_: Some(kind.to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::database::example;

    fn pair(name: &str) -> Pair {
        Pair {
            certificate: format!("{name} certificate"),
            key: format!("{name} key"),
        }
    }

    #[test]
    fn the_secrets_as_built() {
        let database = example::database(|_| ());
        insta::assert_yaml_snapshot!((
            authority(&database, &pair("authority")),
            node_tls(&database, &pair("authority"), &pair("node")),
            account(&database, "a password"),
            tokens(&database),
            api_accounts(&database, &["r", "w", "a"].map(str::to_owned)),
        ));
    }
}
