//! Install, create, upgrade, delete, uninstall: what comes, what stays and what goes.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use api::{DistributedDatabase, resource::WhenDeleted};
use e2e::{
    clock::{Clock, millis},
    database::{Database, Node},
    faults::{self, Deletion},
    install, sql,
    storm::Storm,
    tools::kubectl,
    wait::{Seen, until},
    world::{World, on_cluster, small},
    writer::Habits,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

const HEALTHY: Duration = Duration::from_mins(3);

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_new_database_becomes_ready_and_its_nodes_hold_the_same_data() {
    on_cluster(async |world| {
        let namespace = world.namespace("new").await?;
        let database = Database::new(&world.client, &namespace, "new");
        let clock = Clock::start();
        database.apply(&small("new", &namespace)).await?;
        let (write, ready) = futures::try_join!(first_write(&database, clock), async {
            database.wait_healthy(HEALTHY).await?;
            Ok(clock.at())
        })?;
        eprintln!(
            "    apply → first write {} ms, three nodes Ready {} ms",
            millis(write),
            millis(ready)
        );
        let storm = Storm::begin(&database, &Habits::of(4, "e2e_new.writes")).await?;
        let aftermath = storm.after_same_master(&["e2e_new"]).await?;
        aftermath.proof.check()?;
        let roles = aftermath.after.iter().filter_map(|node| node.role.as_deref());
        let mut count = BTreeMap::new();
        roles.for_each(|role| *count.entry(role).or_insert(0) += 1);
        ensure!(
            count == BTreeMap::from([("master", 1), ("slave", 2)]),
            "roles: {count:?}"
        );
        let safe = database.status().await?.safe_to_lose;
        ensure!(
            safe == 1,
            "three healthy nodes should be safe against the loss of 1, not of {safe}"
        );
        world.remove_namespace(&namespace).await
    });
}

async fn first_write(database: &Database, clock: Clock) -> Result<Duration> {
    until("first write", HEALTHY, async || {
        let mut connection =
            sql::connect(&database.master_address().await?, Duration::from_millis(500)).await?;
        sql::create_writes(&mut connection, "e2e_first.writes").await?;
        Ok(Seen::Done(clock.at()))
    })
    .await
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn when_the_operators_leader_is_killed_writes_go_on_and_no_pod_restarts() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let storm = Storm::begin(&database, &Habits::of(2, "e2e_leader.writes")).await?;
        let leader = install::leader(&world.client).await?;
        let at = storm.clock.at();
        faults::delete_pod(
            &Api::namespaced(world.client.clone(), install::NAMESPACE),
            &leader,
            Deletion::Forced,
        )
        .await?;
        other_leader(world, &leader).await?;
        install::wait_ready(&world.client).await?;
        let aftermath = storm.after_same_master(&["e2e_leader"]).await?;
        aftermath.proof.check()?;
        let outage = aftermath.ledger.outage(at);
        eprintln!("    leader killed: writes out {} ms", millis(outage));
        ensure!(
            outage < Duration::from_secs(5),
            "writes were out for {} ms without an operator",
            millis(outage)
        );
        same_lives(&aftermath.before, &aftermath.after)
    });
}

async fn other_leader(world: &World, old: &Pod) -> Result<()> {
    until("another leader", Duration::from_mins(1), async || {
        let now = install::leader(&world.client).await?.name_any();
        Ok(if now == old.name_any() {
            Seen::NotYet(format!("{now} holds the lease"))
        } else {
            Seen::Done(())
        })
    })
    .await
}

fn same_lives(before: &[Node], after: &[Node]) -> Result<()> {
    let lives = |nodes: &[Node]| -> Vec<(String, String, i32)> {
        nodes
            .iter()
            .map(|node| (node.name.clone(), node.uid.clone(), node.restarts))
            .collect()
    };
    ensure!(
        lives(before) == lives(after),
        "pods restarted: before {before:?}, after {after:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn upgrading_the_operator_restarts_no_database() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let storm = Storm::begin(&database, &Habits::of(2, "e2e_upgrade.writes")).await?;
        let old: Vec<String> = operator_lives(world).await?;
        install::install(&world.client, &world.target, &["podAnnotations.e2e=upgraded"]).await?;
        let new = operator_lives(world).await?;
        ensure!(
            new.iter().all(|uid| !old.contains(uid)),
            "the upgrade replaced no operator pod, so it shows nothing"
        );
        let aftermath = storm.after_same_master(&["e2e_upgrade"]).await?;
        aftermath.proof.check()?;
        same_lives(&aftermath.before, &aftermath.after)
    });
}

async fn operator_lives(world: &World) -> Result<Vec<String>> {
    let pods = install::operator_pods(&world.client).await?;
    let stays = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(stays.filter_map(ResourceExt::uid).collect())
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_deleted_database_leaves_only_the_volumes_that_its_policy_keeps_and_finds_them_again() {
    on_cluster(async |world| {
        let namespace = world.namespace("keep").await?;
        let database = Database::new(&world.client, &namespace, "keep");
        let mut wanted = small("keep", &namespace);
        wanted.spec.nodes = 1;
        wanted.spec.storage.when_deleted = WhenDeleted::Retain;
        create_with_row(&database, &wanted).await?;
        database.delete().await?;
        let context = world.target.context.as_deref();
        let left = left_after_deletion(context, &database, &KEPT).await?;
        ensure!(left.len() == KEPT.len(), "of {KEPT:?} there is left: {left:?}");

        database.apply(&wanted).await?;
        database.wait_healthy(HEALTHY).await?;
        let mut connection = database.master_connection().await?;
        let rows = sql::count(&mut connection, "e2e_keep.writes").await?;
        ensure!(
            rows == 1,
            "{rows} rows after the database came back to its volume"
        );

        database
            .patch(serde_json::json!({"spec": {"storage": {"whenDeleted": "Delete"}}}))
            .await?;
        database.wait_healthy(HEALTHY).await?;
        database.delete().await?;
        let left = left_after_deletion(context, &database, &[]).await?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        world.remove_namespace(&namespace).await
    });
}

async fn create_with_row(database: &Database, wanted: &DistributedDatabase) -> Result<()> {
    database.apply(wanted).await?;
    database.wait_healthy(HEALTHY).await?;
    let mut connection = database.master_connection().await?;
    sql::create_writes(&mut connection, "e2e_keep.writes").await?;
    sql::insert_write(&mut connection, "e2e_keep.writes", 1).await?;
    Ok(())
}

/// What `whenDeleted: Retain` keeps: the data, and what opens it.
const KEPT: [&str; 5] = [
    "persistentvolumeclaim/keep-0",
    "secret/keep-api-accounts",
    "secret/keep-api-tokens",
    "secret/keep-app",
    "secret/keep-ca",
];

/// Names of the database's objects that are still there once none but those of `kept` is.
async fn left_after_deletion(
    context: Option<&str>,
    database: &Database,
    kept: &[&str],
) -> Result<Vec<String>> {
    until(
        "end of the database's objects",
        Duration::from_secs(90),
        async || {
            let left = database.objects(context).await?;
            let done = !database.exists().await? && left.iter().all(|name| kept.contains(&name.as_str()));
            Ok(if done {
                Seen::Done(left)
            } else {
                Seen::NotYet(format!("{left:?}"))
            })
        },
    )
    .await
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn uninstalling_the_operator_leaves_databases_running_and_only_the_definition_behind() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let storm = Storm::begin(&database, &Habits::of(2, "e2e_uninstall.writes")).await?;
        let context = world.target.context.as_deref();
        install::uninstall(&world.client, &world.target).await?;
        storm
            .writers
            .wait_for_more(100, Duration::from_secs(30))
            .await
            .context("writes without an operator")?;
        let kinds = "deployments,services,serviceaccounts,configmaps,roles,rolebindings,poddisruptionbudgets,leases,\
                     clusterroles,clusterrolebindings";
        let all = [
            "get",
            kinds,
            "--all-namespaces",
            "--selector",
            install::SELECTOR,
            "--output",
            "name",
        ];
        let left = kubectl(context, &all).await?;
        ensure!(left.trim().is_empty(), "left behind: {left}");
        let definition = [
            "get",
            "crd",
            "distributeddatabases.ddb-operator.io",
            "--output",
            "name",
        ];
        kubectl(context, &definition)
            .await
            .context("the definition must survive, or all databases would go")?;
        install::install(&world.client, &world.target, &[]).await?;
        let aftermath = storm.after_same_master(&["e2e_uninstall"]).await?;
        aftermath.proof.check()?;
        same_lives(&aftermath.before, &aftermath.after)
    });
}
