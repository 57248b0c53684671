//! The master's process, pod or agent is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failover::Kind;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::signal::Signal;

use super::{Case, Finding, KILLED, PLANNED, UNHURT};
use crate::{
    database::Database,
    faults::{self, Deletion},
    ordeal::{End, Ordeal},
    storm::HEALED,
    wait::{Seen, until},
    watcher::Watcher,
    world::{World, small},
};

pub const CASES: &[Case] = &[
    Case {
        row: 1,
        part: "",
        fault: "kill -9 of mysqld in the master",
        expects: "a slave is promoted; the old master is back as a slave",
        limit: Some(KILLED),
        run: |world| kill(world).boxed_local(),
    },
    Case {
        row: 2,
        part: "",
        fault: "kill -9 of mysqld in the master, and at once in the next one",
        expects: "the second failover is not held back",
        limit: Some(Duration::from_secs(10)),
        run: |world| kill_twice(world).boxed_local(),
    },
    Case {
        row: 3,
        part: "",
        fault: "kill -9 of mysqld in a master that never had a write",
        expects: "it fails over all the same",
        limit: None,
        run: |world| kill_before_writes(world).boxed_local(),
    },
    Case {
        row: 4,
        part: "a",
        fault: "kubectl delete pod of the master",
        expects: "a switchover: no writer loses more than its one connection, no request to the data API fails",
        limit: Some(PLANNED),
        run: |world| delete(world, "delete", Deletion::Normal).boxed_local(),
    },
    Case {
        row: 4,
        part: "b",
        fault: "kubectl delete pod --grace-period=1 of the master",
        expects: "another master within the budget",
        limit: Some(KILLED),
        run: |world| delete(world, "hasty", Deletion::Hasty).boxed_local(),
    },
    Case {
        row: 4,
        part: "c",
        fault: "kubectl delete pod --force of the master",
        expects: "another master within the budget",
        limit: Some(KILLED),
        run: |world| delete(world, "forced", Deletion::Forced).boxed_local(),
    },
    Case {
        row: 5,
        part: "",
        fault: "kill -9 of the master's agent",
        expects: "the agent returns, nothing fails over, mysqld is not touched",
        limit: Some(UNHURT),
        run: |world| kill_agent(world).boxed_local(),
    },
];

async fn kill(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "kill").await?;
    let master = database.master_pod().await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    let end = ordeal.end_changed(at, HEALED).await?;
    is_slave(&end, &master)?;
    Ok(end.finding())
}

/// The former master follows.
pub fn is_slave(end: &End, old: &Pod) -> Result<()> {
    let name = old.name_any();
    let after = &end.aftermath.after;
    let back = after.iter().find(|node| node.name == name);
    ensure!(
        back.is_some_and(|node| node.role.as_deref() == Some("slave")),
        "{name} is not a slave: {after:?}"
    );
    Ok(())
}

async fn kill_twice(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "twice").await?;
    let first = database.master_pod().await?;
    let at = ordeal.now();
    faults::signal_mysqld(&first, Signal::SIGKILL)?;
    let second = other_master(&database, &first.name_any()).await?;
    faults::signal_mysqld(&second, Signal::SIGKILL)?;
    database.wait_led(ordeal.term + 1, HEALED).await?;
    Ok(ordeal.end(at, HEALED).await?.finding())
}

/// The pod that carries the master's label once it is another than `old`.
pub async fn other_master(database: &Database, old: &str) -> Result<Pod> {
    until("another master", HEALED, async || {
        let pod = database.master_pod().await?;
        Ok(if pod.name_any() == old {
            Seen::NotYet(format!("still {old}"))
        } else {
            Seen::Done(pod)
        })
    })
    .await
}

async fn kill_before_writes(world: &World) -> Result<Finding> {
    let namespace = world.namespace("unwritten").await?;
    let database = Database::new(&world.client, &namespace, "unwritten");
    database.apply(&small("unwritten", &namespace)).await?;
    database.wait_healthy(Duration::from_mins(3)).await?;
    let watcher = Watcher::start(&world.client, &namespace, "unwritten", world.clock);
    let term = database.status().await?.record.term.0;
    let master = database.master_pod().await?;
    let at = world.clock.at();
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    database.wait_led(term, HEALED).await?;
    let took = world.clock.at().saturating_sub(at);
    database.wait_healthy(HEALED).await?;
    watcher.finish()?;
    let ordeal = Ordeal::begin(&database, "unwritten").await?;
    let at = ordeal.now();
    let end = ordeal.end(at, HEALED).await?;
    is_slave(&end, &master)?;
    world.remove_namespace(&namespace).await?;
    Ok(Finding::default().note(format!("another master after {} ms", took.as_millis())))
}

async fn delete(world: &World, name: &str, how: Deletion) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, name).await?;
    let master = database.master_pod().await?;
    let (at, term) = (ordeal.now(), ordeal.term);
    faults::delete_pod(&database.pod_api(), &master, how).await?;
    let end = ordeal.end_changed(at, HEALED).await?;
    is_slave(&end, &master)?;
    if how == Deletion::Normal {
        planned(&database, term).await?;
        one_failure_each(&end)?;
        end.api.no_failure()?;
        end.nothing_cloned()?;
    }
    Ok(end.finding())
}

/// The change after `term` was a switchover, not a failover.
pub async fn planned(database: &Database, term: u64) -> Result<()> {
    let status = database.status().await?;
    let mut changes = status.last_failovers.iter().map(|entry| &entry.change);
    let change = changes.find(|change| change.term.0 > term);
    let intent = &change.context("status tells of no change of master")?.intent;
    ensure!(
        intent.kind == Kind::Switchover,
        "it was a {:?} because {}, not a switchover",
        intent.kind,
        intent.cause.sentence()
    );
    Ok(())
}

/// MySQL closes connections at a change of master, and the statement that is under way then has no answer; any further
/// failure would be ours.
pub fn one_failure_each(end: &End) -> Result<()> {
    use crate::ledger::Outcome;
    for (number, writer) in end.aftermath.ledger.writers.iter().enumerate() {
        let failed: Vec<_> = writer
            .iter()
            .filter(|entry| entry.outcome != Outcome::Acknowledged)
            .collect();
        ensure!(
            failed.len() <= 1,
            "writer {number} had {} failed writes: {failed:?}",
            failed.len()
        );
    }
    Ok(())
}

async fn kill_agent(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "agent").await?;
    let master = database.master_pod().await?;
    let server = faults::process_of(&master, "mysqld")?;
    let (at, term) = (ordeal.now(), ordeal.term);
    faults::signal_process(&master, "ddb-node", Signal::SIGKILL)?;
    until("restarted agent", HEALED, async || {
        let restarts = crate::database::Node::from(&database.pod(&master.name_any()).await?).restarts;
        let before = crate::database::Node::from(&master).restarts;
        Ok(if restarts > before {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{restarts} restarts"))
        })
    })
    .await?;
    let end = ordeal.end(at, HEALED).await?;
    ensure!(
        faults::process_of(&master, "mysqld")? == server,
        "mysqld was restarted with the agent"
    );
    end.nothing_cloned()?;
    same_master(&database, &master, term).await?;
    Ok(end.finding())
}

/// Nothing moved the master: same node, same term.
pub async fn same_master(database: &Database, master: &Pod, term: u64) -> Result<()> {
    let record = database.status().await?.record;
    let now = record.master.as_ref().map_or("nobody", failover::NodeId::as_str);
    ensure!(
        record.term.0 == term && now == master.name_any(),
        "the master moved: {} led in term {term}, {now} leads in term {}",
        master.name_any(),
        record.term
    );
    Ok(())
}
