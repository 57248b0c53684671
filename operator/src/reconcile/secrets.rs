//! Sees to the Secrets: makes what is missing, renews the nodes' certificate, never overwrites an authority or an
//! account. Contents appear in no log and no error.

use api::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::build::secrets as build;
use super::database::Database;
use super::error::Error;
use super::observe::{self, Secrets};
use super::writer::Writer;
use crate::pki::{self, Pair};

/// How long a generated password is: about 190 bits.
const PASSWORD_LENGTH: usize = 32;

/// Makes the authority if there is none, and returns it.
pub async fn authority(
    writer: &Writer,
    database: &Database,
    present: Option<Secret>,
    now: Timestamp,
) -> Result<Pair, Error> {
    let name = names::ca_secret(&database.name);
    if let Some(secret) = present {
        return read_authority(&secret, &name);
    }
    let failed = |source| Error::Certificate {
        name: name.clone(),
        source,
    };
    let pair = pki::authority(&database.name, now).map_err(failed)?;
    if writer.create(&build::authority(database, &pair)).await?.is_some() {
        return Ok(pair);
    }
    // Somebody was faster; theirs holds.
    let secret = observe::secret(writer, name.clone()).await?;
    read_authority(&secret.unwrap_or_default(), &name)
}

/// The authority that a Secret holds.
pub fn read_authority(secret: &Secret, name: &str) -> Result<Pair, Error> {
    let pair = Pair {
        certificate: text(secret, name, "ca.crt")?,
        key: text(secret, name, "ca.key")?,
    };
    pki::check_authority(&pair).map_err(|source| Error::Authority {
        name: name.to_owned(),
        source,
    })?;
    Ok(pair)
}

/// Sees to the nodes' certificate and to the account, and that all Secrets share the fate that the spec says.
pub async fn rest(
    writer: &Writer,
    database: &Database,
    authority: &Pair,
    observed: &Secrets,
    now: Timestamp,
) -> Result<(), Error> {
    let Secrets {
        authority: authority_secret,
        node_tls,
        account,
        tokens,
        api_accounts,
    } = observed;
    tokio::try_join!(
        node_certificate(writer, database, authority, node_tls.as_ref(), now),
        self::account(writer, database, account.as_ref()),
        share_fate(writer, database, authority_secret.as_ref()),
        share_fate(writer, database, account.as_ref()),
        self::tokens(writer, database, tokens.as_ref()),
        self::api_accounts(writer, database, api_accounts.as_ref()),
        share_fate(writer, database, tokens.as_ref()),
        share_fate(writer, database, api_accounts.as_ref()),
        users_certificate(writer, database),
    )?;
    Ok(())
}

async fn node_certificate(
    writer: &Writer,
    database: &Database,
    authority: &Pair,
    present: Option<&Secret>,
    now: Timestamp,
) -> Result<(), Error> {
    let name = names::node_tls_secret(&database.name);
    if present.is_some_and(|secret| certificate_holds(secret, database, authority, now)) {
        return Ok(());
    }
    let failed = |source| Error::Certificate {
        name: name.clone(),
        source,
    };
    let pair = pki::node(authority, &database.name, &database.namespace, now).map_err(failed)?;
    let mut secret = build::node_tls(database, authority, &pair);
    match present {
        None => {
            writer.create(&secret).await?;
        }
        Some(present) if !writer.is_ours(present) => {
            return Err(writer.foreign::<Secret>(name));
        }
        Some(present) => {
            // Only over the one that was judged.
            secret.metadata.resource_version = present.resource_version();
            writer.replace(&secret).await?;
        }
    }
    tracing::info!(secret = name, "made the nodes' certificate");
    Ok(())
}

/// Says what is wrong with the Secret that the user names; nodes go on with what they have.
async fn users_certificate(writer: &Writer, database: &Database) -> Result<(), Error> {
    let Some(name) = &database.api.certificate_secret else {
        return Ok(());
    };
    let secret = observe::secret(writer, name.clone()).await?;
    let lack = match secret {
        None => "does not exist",
        Some(secret) if text(&secret, name, "tls.crt").is_err() => "has no `tls.crt`",
        Some(secret) if text(&secret, name, "tls.key").is_err() => "has no `tls.key`",
        Some(_) => return Ok(()),
    };
    Err(Error::UsersCertificate {
        name: name.clone(),
        lack,
    })
}

/// Whether the stored certificate needs no renewal. One that cannot be read is renewed.
fn certificate_holds(secret: &Secret, database: &Database, authority: &Pair, now: Timestamp) -> bool {
    let part = |key| text(secret, "", key).ok();
    let Some((authority_part, certificate)) = part("ca.crt").zip(part("tls.crt")) else {
        return false;
    };
    let hosts = pki::node_hosts(&database.name, &database.namespace);
    authority_part == authority.certificate
        && part("tls.key").is_some()
        && pki::facts(&certificate).is_ok_and(|facts| !facts.is_due(&hosts, now))
}

async fn account(writer: &Writer, database: &Database, present: Option<&Secret>) -> Result<(), Error> {
    let name = names::account_secret(&database.name);
    let Some(secret) = present else {
        writer.create(&build::account(database, &password()?)).await?;
        return Ok(());
    };
    // Made by the user or by us: both must be complete.
    text(secret, &name, "username")?;
    text(secret, &name, "password")?;
    Ok(())
}

/// An empty Secret lets nobody in; `kubectl ddb token` writes into it and nothing else does.
async fn tokens(writer: &Writer, database: &Database, present: Option<&Secret>) -> Result<(), Error> {
    if present.is_none() {
        writer.create(&build::tokens(database)).await?;
    }
    Ok(())
}

async fn api_accounts(writer: &Writer, database: &Database, present: Option<&Secret>) -> Result<(), Error> {
    let Some(secret) = present else {
        let passwords = [password()?, password()?, password()?];
        writer.create(&build::api_accounts(database, &passwords)).await?;
        return Ok(());
    };
    for role in build::ROLES {
        text(secret, &names::api_accounts_secret(&database.name), role)?;
    }
    Ok(())
}

/// Moves a Secret of ours between "vanishes with the resource" and "stays with the volumes". One that a user made
/// is left alone.
async fn share_fate(writer: &Writer, database: &Database, present: Option<&Secret>) -> Result<(), Error> {
    let Some(present) = present.filter(|secret| writer.is_ours(*secret)) else {
        return Ok(());
    };
    let wanted = database.with_the_data(present.name_any()).owner_references;
    if present.metadata.owner_references.clone().unwrap_or_default() == wanted.clone().unwrap_or_default() {
        return Ok(());
    }
    let metadata = ObjectMeta {
        owner_references: wanted,
        managed_fields: None,
        ..present.metadata.clone()
    };
    writer
        .replace(&Secret {
            metadata,
            ..present.clone()
        })
        .await?;
    Ok(())
}

fn text(secret: &Secret, name: &str, key: &'static str) -> Result<String, Error> {
    let value = secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .filter(|value| !value.0.is_empty());
    let value = value.and_then(|value| String::from_utf8(value.0.clone()).ok());
    value.ok_or_else(|| Error::Incomplete {
        name: name.to_owned(),
        key,
    })
}

/// Letters and digits only, so that it needs no quoting anywhere.
fn password() -> Result<String, Error> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = String::with_capacity(PASSWORD_LENGTH);
    let mut byte = [0];
    while password.len() < PASSWORD_LENGTH {
        OsRng.try_fill_bytes(&mut byte).map_err(Error::Randomness)?;
        // The bytes beyond a multiple of the letters would make some letters likelier.
        let [byte] = byte;
        if usize::from(byte) < LETTERS.len() * 4 {
            password.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
        }
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (first, second) = (password().unwrap(), password().unwrap());
        assert_eq!(first.len(), PASSWORD_LENGTH);
        assert_ne!(first, second);
        assert!(first.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
