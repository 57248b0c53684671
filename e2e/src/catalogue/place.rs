//! Getting nodes and the operator's leader onto the machines that a case needs.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{database::Database, faults, install, machines, storm::HEALED};

/// Whether the master is to run on the machine of the operator's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// On the same one.
    Yes,
    /// On another one.
    No,
}

/// Moves the master by a switchover, if it has to move.
pub async fn put_master(database: &Database, wish: Together) -> Result<()> {
    database.wait_healthy(HEALED).await?;
    let leader = install::leader(&database.client).await?;
    let machine = machines::machine_of(&leader)?.to_owned();
    let right =
        |pod: &Pod| machines::machine_of(pod).is_ok_and(|of| (of == machine) == (wish == Together::Yes));
    if right(&database.master_pod().await?) {
        return Ok(());
    }
    let slaves = database.slave_pods().await?;
    let heir = slaves.iter().find(|pod| right(pod));
    let heir =
        heir.with_context(|| format!("no slave to move the master to; the operator leads on {machine}"))?;
    switch_to(database, &heir.name_any()).await
}

/// A switchover to this node, waited for.
pub async fn switch_to(database: &Database, node: &str) -> Result<()> {
    let term = database.status().await?.record.term.0;
    faults::ask_to_promote(&database.client, &database.namespace, &database.name, node).await?;
    database.wait_healed(term, HEALED).await?;
    Ok(())
}
