//! `kubectl ddb token create|list|revoke NAME`: who may use the data API. Only a hash of a token is stored; the token
//! itself is printed once and nowhere else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use api::{DistributedDatabase, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::say;
use crate::arguments::{Token, TokenCreate};
use crate::clock;
use crate::connect::Cluster;
use crate::fetch::ask;

/// Annotation of the pods: its change makes the kubelet bring the Secret to the node at once instead of within a
/// minute.
const ANNOTATION_TOKENS: &str = "ddb-operator.io/tokens-changed";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Randomness(#[source] rand::rand_core::OsError),
    /// There is no such token.
    #[error("{database} has no token {id}; look at: kubectl ddb token list {database}")]
    NoSuchToken {
        /// The database.
        database: String,
        /// What was asked for.
        id: String,
    },
    /// There is no such role.
    #[error("{database} has no role {role}; it has {}. Others are made in spec.api.roles", there_are.join(", "))]
    NoSuchRole {
        /// The database.
        database: String,
        /// What was asked for.
        role: String,
        /// What there is.
        there_are: Vec<String>,
    },
    /// The moment is beyond the calendar.
    #[error("the token would expire beyond the calendar; choose a shorter time")]
    Time(#[from] jiff::Error),
}

/// What the Secret holds of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    hash: String,
    role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    databases: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
}

/// A change of single keys, so that two people can change tokens at a time.
#[derive(Debug, Serialize)]
struct Change {
    data: BTreeMap<String, Option<ByteString>>,
}

#[derive(Debug, Serialize)]
struct Touch<'a> {
    metadata: TouchMetadata<'a>,
}

#[derive(Debug, Serialize)]
struct TouchMetadata<'a> {
    annotations: BTreeMap<&'a str, String>,
}

/// Carries the command out.
pub async fn run(cluster: &Cluster, command: &Token) -> Result<ExitCode, super::Error> {
    match command {
        Token::Create(arguments) => create(cluster, arguments).await,
        Token::List(named) => list(cluster, &named.name).await,
        Token::Revoke { name, id } => revoke(cluster, name, id).await,
    }
}

async fn create(cluster: &Cluster, arguments: &TokenCreate) -> Result<ExitCode, super::Error> {
    let TokenCreate {
        name,
        role,
        databases,
        expires,
        note,
    } = arguments;
    known(cluster, name, role).await?;
    let id = random::<4>()?;
    let token = format!("ddb_{id}_{}", random::<32>()?);
    let now = clock::wall();
    let entry = Entry {
        hash: hex(&Sha256::digest(token.as_bytes())),
        role: role.clone(),
        databases: Some(databases.clone()).filter(|databases| !databases.is_empty()),
        expires: expires.map(|life| end(now, life)).transpose()?,
        note: note.clone(),
        created: Some(now),
    };
    let value = ByteString(serde_json::to_vec(&entry)?);
    change(cluster, name, BTreeMap::from([(id, Some(value))])).await?;
    // Alone on standard output, so that a script can keep it.
    eprintln!("The token is shown this once; every node knows it within a few seconds:");
    say(&format!("{token}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a role that the database does not have: every node would refuse the token.
async fn known(cluster: &Cluster, database: &str, role: &str) -> Result<(), super::Error> {
    let mut there_are: Vec<String> = ["reader", "writer", "admin"].map(str::to_owned).into();
    if there_are.iter().any(|one| one == role) {
        return Ok(());
    }
    let resources: Api<DistributedDatabase> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let resource = ask(cluster, "read the database", resources.get(database)).await?;
    there_are.extend(resource.spec.api.roles.into_iter().map(|one| one.name));
    if there_are.iter().any(|one| one == role) {
        return Ok(());
    }
    Err(Error::NoSuchRole {
        database: database.to_owned(),
        role: role.to_owned(),
        there_are,
    }
    .into())
}

async fn list(cluster: &Cluster, name: &str) -> Result<ExitCode, super::Error> {
    let secret = read(cluster, name).await?;
    let entries: Vec<(String, Option<Entry>)> = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(id, value)| (id, serde_json::from_slice(&value.0).ok()))
        .collect();
    let roles = entries
        .iter()
        .flat_map(|(_, entry)| entry)
        .map(|entry| entry.role.len());
    let width = roles.max().unwrap_or(0).max("ROLE".len());
    let mut text = format!("ID        {:<width$}  DATABASES  EXPIRES  NOTE\n", "ROLE");
    for (id, entry) in entries {
        let line = match entry {
            Some(entry) => format!(
                "{id:<8}  {:<width$}  {}  {}  {}",
                entry.role,
                entry
                    .databases
                    .map_or_else(|| "all".to_owned(), |all| all.join(",")),
                entry
                    .expires
                    .map_or_else(|| "never".to_owned(), |at| at.to_string()),
                entry.note.unwrap_or_default()
            ),
            None => format!("{id:<8}  cannot be read; revoke it"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(cluster: &Cluster, name: &str, id: &str) -> Result<ExitCode, super::Error> {
    let secret = read(cluster, name).await?;
    if !secret.data.is_some_and(|data| data.contains_key(id)) {
        return Err(Error::NoSuchToken {
            database: name.to_owned(),
            id: id.to_owned(),
        }
        .into());
    }
    change(cluster, name, BTreeMap::from([(id.to_owned(), None)])).await?;
    say(&format!(
        "The token {id} is revoked; every node refuses it within a few seconds.\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn read(cluster: &Cluster, name: &str) -> Result<Secret, super::Error> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let secret = names::tokens_secret(name);
    Ok(ask(cluster, "read the tokens", secrets.get(&secret)).await?)
}

async fn change(
    cluster: &Cluster,
    name: &str,
    data: BTreeMap<String, Option<ByteString>>,
) -> Result<(), super::Error> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let (secret, how) = (names::tokens_secret(name), PatchParams::default());
    let patch = Patch::Merge(Change { data });
    ask(cluster, "write the tokens", secrets.patch(&secret, &how, &patch)).await?;
    touch(cluster, name).await;
    Ok(())
}

/// Only saves waiting, so whoever may not change pods waits a minute.
async fn touch(cluster: &Cluster, name: &str) {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let ours = ListParams::default().labels(&format!("{}={name}", names::LABEL_CLUSTER));
    let Ok(all) = pods.list(&ours).await else { return };
    let touch = Touch {
        metadata: TouchMetadata {
            annotations: BTreeMap::from([(ANNOTATION_TOKENS, clock::wall().to_string())]),
        },
    };
    for pod in all.items {
        let name = pod.metadata.name.unwrap_or_default();
        if let Err(error) = pods
            .patch(&name, &PatchParams::default(), &Patch::Merge(&touch))
            .await
        {
            eprintln!("{name} may know of it only after a minute: {error}");
        }
    }
}

fn end(now: Timestamp, life: Duration) -> Result<Timestamp, Error> {
    Ok(now.checked_add(SignedDuration::try_from(life)?)?)
}

fn random<const N: usize>() -> Result<String, Error> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(Error::Randomness)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
