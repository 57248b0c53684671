//! The proof after the storm: every acknowledged write is on every node, exactly once, nothing refused is there, no node
//! holds a transaction that the master lacks, and all nodes hold the same data. Asked of each server at its own pod's
//! address.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::{
    database::Database,
    ledger::{Ledger, Outcome},
    sql,
    wait::{self, Seen},
};

const CATCH_UP: Duration = Duration::from_mins(1);
/// A slave may hold for a moment what the master commits only once it has the slave's acknowledgement.
const COMMITTED: Duration = Duration::from_secs(30);

/// What one node holds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeProof {
    /// The node.
    pub name: String,
    /// Its role label.
    pub role: String,
    /// Acknowledged writes that are there.
    pub found: usize,
    /// Acknowledged writes that are not.
    pub missing: Vec<i64>,
    /// Rows that are there more than once.
    pub repeated: Vec<i64>,
    /// Rows of writes that the server had refused.
    pub refused_found: Vec<i64>,
    /// Rows of writes with unknown outcome: allowed.
    pub unknown_found: usize,
    /// Rows of each other table.
    pub rows: BTreeMap<String, i64>,
    /// The server's checksum of each table.
    pub checksums: BTreeMap<String, i64>,
}

/// What all nodes hold.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// How many writes were acknowledged.
    pub acknowledged: usize,
    /// How many writes have an unknown outcome.
    pub unknown: usize,
    /// How many writes were refused.
    pub refused: usize,
    /// Each node.
    pub nodes: Vec<NodeProof>,
}

impl Proof {
    /// Acknowledged writes that at least one node lacks.
    pub fn lost(&self) -> usize {
        self.nodes
            .iter()
            .flat_map(|node| &node.missing)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Every table has the same checksum on every node.
    pub fn checksums_equal(&self) -> bool {
        self.nodes
            .windows(2)
            .all(|pair| pair[0].checksums == pair[1].checksums)
    }

    /// An error that names what is wrong, if anything is.
    pub fn check(&self) -> Result<()> {
        for node in &self.nodes {
            let NodeProof {
                name,
                missing,
                repeated,
                refused_found,
                ..
            } = node;
            ensure!(
                missing.is_empty(),
                "{name} lacks {} acknowledged writes: {}",
                missing.len(),
                some(missing)
            );
            ensure!(
                repeated.is_empty(),
                "{name} holds writes twice: {}",
                some(repeated)
            );
            ensure!(
                refused_found.is_empty(),
                "{name} holds writes that were refused: {}",
                some(refused_found)
            );
        }
        let checksums: Vec<_> = self
            .nodes
            .iter()
            .map(|node| (&node.name, &node.checksums))
            .collect();
        ensure!(
            self.checksums_equal(),
            "the nodes hold different data: {checksums:?}"
        );
        Ok(())
    }
}

fn some(ids: &[i64]) -> String {
    let shown: Vec<String> = ids.iter().take(10).map(i64::to_string).collect();
    shown.join(", ") + if ids.len() > 10 { ", …" } else { "" }
}

/// Waits until every node has executed what the master has, and the master what the node has, and looks. `table` is the
/// writers'; all tables of `schemas` are compared.
pub async fn prove(database: &Database, ledger: &Ledger, table: &str, schemas: &[&str]) -> Result<Proof> {
    let nodes = wait::until("address of every node", CATCH_UP, async || {
        let pods = database.pods().await?;
        let ready = pods
            .iter()
            .filter(|pod| pod.ip.is_some() && pod.role.is_some())
            .count();
        let all = i32::try_from(ready) == Ok(database.get().await?.spec.nodes);
        Ok(if all {
            Seen::Done(pods)
        } else {
            Seen::NotYet(format!("{ready} nodes with role and address"))
        })
    })
    .await?;
    let mut master = database.master_connection().await?;
    let set = sql::executed(&mut master).await?;
    let mut proofs = Vec::new();
    for node in &nodes {
        let address = database
            .at(node.ip.as_deref().context("a node without address")?)
            .await?;
        let mut connection = wait::until("login at a node", CATCH_UP, async || {
            sql::connect(&address, Duration::from_secs(2))
                .await
                .map(Seen::Done)
        })
        .await
        .with_context(|| format!("node {}", node.name))?;
        let reached = sql::wait_executed(&mut connection, &set, CATCH_UP.as_secs()).await?;
        ensure!(
            reached,
            "{} did not execute the master's transactions within {} s",
            node.name,
            CATCH_UP.as_secs()
        );
        let holds = sql::executed(&mut connection).await?;
        holds_no_more(&mut master, &node.name, &holds).await?;
        let role = node.role.clone().unwrap_or_default();
        proofs.push(look(&mut connection, node.name.clone(), role, ledger, table, schemas).await?);
    }
    Ok(Proof {
        acknowledged: ledger.count(Outcome::Acknowledged),
        unknown: ledger.count(Outcome::Unknown),
        refused: ledger.count(Outcome::Refused),
        nodes: proofs,
    })
}

/// An error if the master lacks some of what a node holds. Its own set is read later, so writes may go on.
async fn holds_no_more(master: &mut sqlx::MySqlConnection, node: &str, holds: &str) -> Result<()> {
    if !sql::wait_executed(master, holds, COMMITTED.as_secs()).await? {
        let more = sql::not_executed(master, holds).await?;
        ensure!(
            more.is_empty(),
            "{node} holds transactions that the master lacks: {more}"
        );
    }
    Ok(())
}

async fn look(
    connection: &mut sqlx::MySqlConnection,
    name: String,
    role: String,
    ledger: &Ledger,
    table: &str,
    schemas: &[&str],
) -> Result<NodeProof> {
    let present = sql::ids(connection, table)
        .await
        .with_context(|| format!("reading {table} on {name}"))?;
    let is_there = |id: &i64| present.contains_key(id);
    let acknowledged = ledger.ids(Outcome::Acknowledged);
    let missing: Vec<i64> = acknowledged.iter().copied().filter(|id| !is_there(id)).collect();
    let (mut rows, mut checksums) = (BTreeMap::new(), BTreeMap::new());
    for other in sql::tables(connection, schemas).await? {
        rows.insert(other.clone(), sql::count(connection, &other).await?);
        checksums.insert(other.clone(), sql::checksum(connection, &other).await?);
    }
    Ok(NodeProof {
        found: acknowledged.len() - missing.len(),
        missing,
        repeated: present
            .iter()
            .filter(|(_, count)| **count > 1)
            .map(|(id, _)| *id)
            .collect(),
        refused_found: ledger
            .ids(Outcome::Refused)
            .into_iter()
            .filter(is_there)
            .collect(),
        unknown_found: ledger
            .ids(Outcome::Unknown)
            .iter()
            .filter(|id| is_there(id))
            .count(),
        name,
        role,
        rows,
        checksums,
    })
}
