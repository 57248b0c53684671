//! What people command by annotation or spec: a promotion by force, nodes kept closed, rest, a new clone, fewer
//! acknowledgements.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::{DistributedDatabaseStatus, names, resource::Phase};
use e2e::{
    database::{Database, Node, describe},
    faults::{self, Deletion},
    sql,
    wait::{Seen, until},
    world::{World, on_cluster},
};
use failover::Kind;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::Signal;
use serde_json::json;

const SOON: Duration = Duration::from_secs(40);
const HEALED: Duration = Duration::from_mins(2);

async fn annotate(database: &Database, annotation: &str, value: Option<&str>) -> Result<()> {
    let Database {
        client,
        namespace,
        name,
    } = database;
    faults::annotate(client, namespace, name, annotation, value).await
}

/// Waits until the status is as `holds` wants it.
async fn status_where(
    database: &Database,
    what: &str,
    bound: Duration,
    holds: impl Fn(&DistributedDatabaseStatus) -> bool,
) -> Result<DistributedDatabaseStatus> {
    until(what, bound, async || {
        let status = database.status().await?;
        Ok(if holds(&status) {
            Seen::Done(status)
        } else {
            let last = status.last_request.as_ref().map(|answer| answer.message.clone());
            Seen::NotYet(format!("{}; last answer {last:?}", describe(&status)))
        })
    })
    .await
}

/// Master, the slave that is to stay, and the other slaves.
async fn cast(database: &Database) -> Result<(Pod, Pod, Vec<Pod>)> {
    let master = database.master_pod().await?;
    let all = database.pod_api().list(&database.selector()).await?.items;
    let mut slaves: Vec<Pod> = all
        .into_iter()
        .filter(|pod| pod.metadata.name != master.metadata.name)
        .collect();
    slaves.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    ensure!(slaves.len() == 2, "{} slaves", slaves.len());
    let kept = slaves.remove(0);
    Ok((master, kept, slaves))
}

/// Runs `test` while nothing of the nodes runs; lets them go on in any case.
async fn while_frozen(pods: &[&Pod], test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    for pod in pods {
        faults::freeze_node(pod, true)?;
    }
    let outcome = test().await;
    for pod in pods {
        let thawed = faults::freeze_node(pod, false);
        if outcome.is_ok() {
            thawed?;
        }
    }
    outcome
}

fn master_of(status: &DistributedDatabaseStatus) -> &str {
    status.record.master.as_ref().map_or("none", |node| node.as_str())
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_lost_majority_is_given_up_only_by_typing_the_term_and_what_returns_rejoins() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let mut connection = database.master_connection().await?;
        sql::create_writes(&mut connection, "e2e_force.writes").await?;
        drop(connection);
        let (master, kept, lost) = cast(&database).await?;
        let (old, kept) = (Node::from(&master).name, Node::from(&kept).name);
        let gone = Node::from(&lost[0]).name;
        while_frozen(&[&master, &lost[0]], async || {
            give_up(&database, &old, &kept, &gone).await
        })
        .await?;
        database.wait_healthy(HEALED).await?;
        status_where(&database, "every node judged", SOON, |status| {
            status.record.forced.is_none()
        })
        .await?;
        Ok(())
    });
}

async fn give_up(database: &Database, old: &str, kept: &str, gone: &str) -> Result<()> {
    let status = status_where(database, "no master and a last resort", SOON, |status| {
        status
            .last_resort
            .as_ref()
            .is_some_and(|last| last.missing.len() == 2)
    })
    .await?;
    let last = status.last_resort.context("no last resort")?;
    for node in [old, gone] {
        let named = last.missing.iter().any(|missing| missing.starts_with(node));
        ensure!(named, "{node} is not named among {:?}", last.missing);
    }
    let term = status.record.term.0;
    let right = format!("{kept}@{term}");
    let command = last.command.context("no command")?;
    ensure!(
        command.ends_with(&format!("{}={right}", names::ANNOTATION_FORCE)),
        "{command}"
    );
    eprintln!("    {command}");
    annotate(
        database,
        names::ANNOTATION_FORCE,
        Some(&format!("{kept}@{}", term + 7)),
    )
    .await?;
    let answer = database.answer("was typed", SOON).await?;
    ensure!(!answer.done && answer.message.contains(&right), "{answer:?}");
    ensure!(
        database.status().await?.record.term.0 == term,
        "a wrong term was accepted"
    );
    annotate(database, names::ANNOTATION_FORCE, Some(&right)).await?;
    let status = status_where(database, "forced master", SOON, |status| {
        master_of(status) == kept
    })
    .await?;
    let change = &status
        .last_failovers
        .first()
        .context("no entry in lastFailovers")?
        .change;
    ensure!(change.intent.kind == Kind::Forced, "{change:?}");
    let loss = change.may_be_lost.clone().unwrap_or_default();
    eprintln!("    {loss}");
    ensure!(loss.contains(old) && loss.contains(gone), "{loss}");
    ensure!(status.record.term.0 > term, "{:?}", status.record);
    Ok(())
}

async fn role_of(database: &Database, node: &str) -> Result<Option<String>> {
    let pods = database.pods().await?;
    let pod = pods.into_iter().find(|pod| pod.name == node);
    Ok(pod.with_context(|| format!("no pod {node}"))?.role)
}

async fn wait_role(database: &Database, node: &str, role: Option<&str>) -> Result<()> {
    until(&format!("{node} with role {role:?}"), SOON, async || {
        let now = role_of(database, node).await?;
        Ok(if now.as_deref() == role {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{now:?}"))
        })
    })
    .await
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_node_that_is_fenced_by_hand_leaves_the_services_and_comes_back_when_it_is_released() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let slave = Node::from(&database.slave_pod().await?).name;
        annotate(&database, names::ANNOTATION_FENCE, Some(&slave)).await?;
        wait_role(&database, &slave, None).await?;
        let status = status_where(&database, "a node kept closed", SOON, |status| {
            status
                .nodes
                .iter()
                .any(|node| node.message.contains("kept closed"))
        })
        .await?;
        ensure!(status.phase == Phase::Degraded, "{:?}", status.phase);
        annotate(&database, names::ANNOTATION_FENCE, None).await?;
        database.wait_healthy(HEALED).await?;
        wait_role(&database, &slave, Some("slave")).await?;

        let master = Node::from(&database.master_pod().await?).name;
        let term = database.status().await?.record.term.0;
        annotate(&database, names::ANNOTATION_FENCE, Some(&master)).await?;
        database.wait_led(term, SOON).await?;
        wait_role(&database, &master, None).await?;
        let status = database.status().await?;
        ensure!(master_of(&status) != master, "{master} still leads");
        annotate(&database, names::ANNOTATION_FENCE, None).await?;
        database.wait_healthy(HEALED).await?;
        Ok(())
    });
}

async fn patched(
    world: &World,
    change: serde_json::Value,
    back: serde_json::Value,
    test: impl AsyncFnOnce(&Database) -> Result<()>,
) -> Result<()> {
    let database = world.database().await?;
    let wanted = database
        .patch(json!({ "spec": change }))
        .await?
        .metadata
        .generation;
    // What is done before the operator has seen the change is still done under the old spec.
    status_where(&database, "the operator to see the change", SOON, |status| {
        status.observed_generation >= wanted
    })
    .await?;
    let outcome = test(&database).await;
    database.patch(json!({ "spec": back })).await?;
    outcome?;
    database.wait_healthy(HEALED).await?;
    Ok(())
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_paused_database_keeps_its_master_and_says_so() {
    on_cluster(async |world| {
        patched(
            world,
            json!({"paused": true}),
            json!({"paused": false}),
            async |database| {
                let status = status_where(database, "phase Paused", SOON, |status| {
                    status.phase == Phase::Paused
                })
                .await?;
                ensure!(status.safe_to_lose == 0, "{}", status.safe_to_lose);
                let (master, term) = (master_of(&status).to_owned(), status.record.term.0);
                annotate(database, names::ANNOTATION_PROMOTE, Some("any")).await?;
                let answer = database.answer("paused", SOON).await?;
                ensure!(!answer.done, "{}", answer.message);
                faults::signal_mysqld(&database.master_pod().await?, Signal::SIGKILL)?;
                database.wait_led(term, SOON).await?;
                let status = database.status().await?;
                ensure!(master_of(&status) == master, "{} leads", master_of(&status));
                Ok(())
            },
        )
        .await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn without_automatic_failover_a_deleted_master_leads_again() {
    on_cluster(async |world| {
        let set = |automatic: bool| json!({"failover": {"automatic": automatic}});
        patched(world, set(false), set(true), async |database| {
            let pod = database.master_pod().await?;
            let (master, term) = (Node::from(&pod).name, database.status().await?.record.term.0);
            faults::delete_pod(&database.pod_api(), &pod, Deletion::Normal).await?;
            database.wait_led(term, HEALED).await?;
            let status = database.status().await?;
            ensure!(master_of(&status) == master, "{} leads", master_of(&status));
            Ok(())
        })
        .await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_slave_is_cloned_again_when_asked_and_the_master_never() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let master = Node::from(&database.master_pod().await?).name;
        annotate(&database, names::ANNOTATION_RESYNC, Some(&master)).await?;
        let answer = database.answer("is the master", SOON).await?;
        ensure!(!answer.done, "{}", answer.message);
        let slave = Node::from(&database.slave_pod().await?).name;
        let life =
            |status: &DistributedDatabaseStatus| status.record.members.get(&slave.as_str().into()).cloned();
        let before = database.status().await?;
        annotate(&database, names::ANNOTATION_RESYNC, Some(&slave)).await?;
        status_where(&database, "a new copy", HEALED, |status| {
            life(status).is_some() && life(status) != life(&before)
        })
        .await?;
        let status = database.wait_healthy(HEALED).await?;
        ensure!(status.record.term == before.record.term, "the master changed");
        Ok(())
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_database_that_must_stay_writable_writes_on_without_slaves_and_says_what_may_be_lost() {
    on_cluster(async |world| {
        let (set, back) = (
            json!({"durability": "Available"}),
            json!({"durability": "Strict"}),
        );
        patched(world, set, back, async |database| {
            let mut connection = database.master_connection().await?;
            sql::create_writes(&mut connection, "e2e_available.writes").await?;
            let (_, one, others) = cast(database).await?;
            while_frozen(&[&one, &others[0]], async || {
                let status = status_where(database, "no acknowledgement asked for", SOON, |status| {
                    status.record.acks == 0
                })
                .await?;
                let risk = status.conditions.iter().find(|one| one.type_ == "AtRisk");
                ensure!(
                    risk.is_some_and(|risk| risk.status == "True"),
                    "{:?}",
                    status.conditions
                );
                sql::create_writes(&mut connection, "e2e_available.more").await
            })
            .await?;
            status_where(database, "the promised acknowledgements", HEALED, |status| {
                status.record.acks == 1
            })
            .await?;
            Ok(())
        })
        .await
    });
}
