//! Objects around a database that are lost or spoilt, bad specs, deletions, certificates and passwords.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::{DistributedDatabase, names};
use futures::FutureExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Case, Finding, KILLED, UNHURT, access,
    master::{is_slave, same_master},
    place, specs,
};
use crate::{
    database::Database,
    faults, install,
    ordeal::Ordeal,
    sql,
    storm::HEALED,
    wait::{Seen, until},
    world::{World, small},
};

pub const CASES: &[Case] = &[
    Case {
        row: 28,
        part: "a",
        fault: "ConfigMap and nodes' Secret deleted, then mysqld of the master killed",
        expects: "both are made anew; the failover works all the same",
        limit: Some(KILLED),
        run: |world| objects_deleted(world).boxed_local(),
    },
    Case {
        row: 28,
        part: "b",
        fault: "the account's Secret without its password, then mysqld of the master killed",
        expects: "a condition names it; the failover works all the same",
        limit: None,
        run: |world| secret_spoilt(world).boxed_local(),
    },
    Case {
        row: 29,
        part: "",
        fault: "specs with wrong nodes, names, quantities, settings, and edits of what is immutable",
        expects: "refused at apply; field and mend named; nothing touched",
        limit: Some(UNHURT),
        run: |world| bad_specs(world).boxed_local(),
    },
    Case {
        row: 30,
        part: "a",
        fault: "the resource deleted in the middle of a failover",
        expects: "everything goes, nothing is stuck",
        limit: None,
        run: |world| deleted_in_failover(world).boxed_local(),
    },
    Case {
        row: 30,
        part: "b",
        fault: "the namespace deleted",
        expects: "it ends",
        limit: None,
        run: |world| namespace_deleted(world).boxed_local(),
    },
    Case {
        row: 30,
        part: "c",
        fault: "the resource deleted while there is no operator",
        expects: "everything goes, nothing is stuck; the policy Retain keeps the volumes",
        limit: None,
        run: |world| deleted_without_operator(world).boxed_local(),
    },
    Case {
        row: 31,
        part: "a",
        fault: "the nodes' certificate replaced",
        expects: "no outage of replication or sessions",
        limit: Some(UNHURT),
        run: |world| certificate_replaced(world).boxed_local(),
    },
    Case {
        row: 31,
        part: "b",
        fault: "the nodes' certificate in the Secret is an expired one",
        expects: "it is renewed at once; no outage of replication or sessions",
        limit: Some(UNHURT),
        run: |world| certificate_expired(world).boxed_local(),
    },
    Case {
        row: 31,
        part: "c",
        fault: "the application's password changed, then a switchover",
        expects: "sessions go on; the new password works as soon as the pods see it, and on the next master",
        limit: None,
        run: |world| password_changed(world).boxed_local(),
    },
];

/// From the apply of a database, or of a change of it, to its health.
pub const HEALTHY: Duration = Duration::from_mins(3);

/// A database of the case's own, which goes with it.
pub async fn own(world: &World, name: &str) -> Result<Database> {
    let namespace = world.namespace(name).await?;
    let database = Database::new(&world.client, &namespace, name);
    database.apply(&small(name, &namespace)).await?;
    database.wait_healthy(HEALTHY).await?;
    Ok(database)
}

/// Deletes an object and waits for another one of its name.
async fn made_anew<K>(client: &Client, namespace: &str, name: &str) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let old = api.get(name).await?.uid();
    api.delete(name, &DeleteParams::default()).await?;
    until(&format!("new {name}"), HEALED, async || {
        let found = api.get_opt(name).await?;
        Ok(match found {
            Some(found) if found.uid() != old => Seen::Done(()),
            _ => Seen::NotYet("it is gone".to_owned()),
        })
    })
    .await
}

async fn objects_deleted(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "objects").await?;
    let master = database.master_pod().await?;
    let (client, namespace) = (&world.client, database.namespace.as_str());
    made_anew::<ConfigMap>(client, namespace, &names::config_map(&database.name)).await?;
    made_anew::<Secret>(client, namespace, &names::node_tls_secret(&database.name)).await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    let end = ordeal.end_changed(at, HEALED).await?;
    is_slave(&end, &master)?;
    Ok(end.finding())
}

async fn change_secret(database: &Database, name: &str, data: Value) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(database.client.clone(), &database.namespace);
    let patch = Patch::Merge(data);
    secrets.patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn secret_spoilt(world: &World) -> Result<Finding> {
    let database = own(world, "spoilt").await?;
    let account = names::account_secret(&database.name);
    let password = database.at("-").await?.password;
    let term = database.status().await?.record.term.0;
    let master = database.master_pod().await?;
    change_secret(&database, &account, json!({"data": {"password": null}})).await?;
    let named = until("condition that names the Secret", HEALED, async || {
        let (status, message) = database.condition("Valid").await?;
        Ok(if message.contains(&account) {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("Valid is {status}, {message}"))
        })
    })
    .await;
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    database
        .wait_led(term, HEALED)
        .await
        .context("without a good Secret")?;
    change_secret(&database, &account, json!({"stringData": {"password": password}})).await?;
    database.wait_healthy(HEALED).await?;
    named?;
    let ordeal = Ordeal::begin(&database, "spoilt").await?;
    let at = ordeal.now();
    ordeal.end(at, HEALED).await?;
    Ok(Finding::default())
}

async fn bad_specs(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "specs").await?;
    let at = ordeal.now();
    let mut tried = 0;
    for (name, spec, words) in specs::refused() {
        let answer = specs::answer(&world.client, &name, &spec).await?;
        for word in words {
            ensure!(
                answer.contains(word),
                "{spec} should be refused with `{word}`, but the answer is: {answer}"
            );
        }
        tried += 1;
    }
    for (patch, words) in specs::immutable() {
        let answer = database.patch(patch.clone()).await;
        let said = answer.map_or_else(|error| error.to_string(), |_| "accepted".to_owned());
        ensure!(said.contains(words), "{patch}: expected `{words}`, got: {said}");
        tried += 1;
    }
    let end = ordeal.end(at, HEALED).await?;
    let restarted = end.restarted();
    ensure!(
        restarted.is_empty(),
        "a refused spec touched {}",
        restarted.join(", ")
    );
    Ok(end.finding().note(format!("{tried} refused")))
}

/// Waits until nothing of the database is left but objects of these kinds.
async fn nothing_left(world: &World, database: &Database, kept: &[&str]) -> Result<()> {
    until("end of the database's objects", HEALED, async || {
        let left = database.objects(world.target.context.as_deref()).await?;
        let strange: Vec<&String> = left
            .iter()
            .filter(|object| !kept.iter().any(|kind| object.starts_with(kind)))
            .collect();
        Ok(if strange.is_empty() && !database.exists().await? {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{strange:?}"))
        })
    })
    .await
}

async fn deleted_in_failover(world: &World) -> Result<Finding> {
    let database = own(world, "midway").await?;
    let term = database.status().await?.record.term.0;
    faults::signal_mysqld(&database.master_pod().await?, Signal::SIGKILL)?;
    database.wait_term(term, HEALED).await?;
    database.delete().await?;
    nothing_left(world, &database, &[]).await?;
    Ok(Finding::default())
}

async fn namespace_deleted(world: &World) -> Result<Finding> {
    let database = own(world, "outside").await?;
    let ordeal = Ordeal::begin(&database, "outside").await?;
    drop(ordeal);
    world.remove_namespace(&database.namespace).await?;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    ensure!(
        namespaces.get_opt(&database.namespace).await?.is_none(),
        "the namespace is still there"
    );
    Ok(Finding::default())
}

async fn operators(world: &World, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), install::NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments
        .patch(install::RELEASE, &PatchParams::default(), &patch)
        .await?;
    install::wait_ready(&world.client).await?;
    until("pods of the operator", HEALED, async || {
        let pods = install::operator_pods(&world.client).await?.len();
        Ok(if i32::try_from(pods)? == replicas {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{pods} pods"))
        })
    })
    .await
}

async fn deleted_without_operator(world: &World) -> Result<Finding> {
    let namespace = world.namespace("orphan").await?;
    let database = Database::new(&world.client, &namespace, "orphan");
    let mut wanted: DistributedDatabase = small("orphan", &namespace);
    wanted.spec.storage.when_deleted = api::resource::WhenDeleted::Retain;
    database.apply(&wanted).await?;
    database.wait_healthy(HEALTHY).await?;
    operators(world, 0).await?;
    let gone = async {
        database.delete().await?;
        nothing_left(world, &database, &["persistentvolumeclaim/", "secret/"]).await?;
        let left = database.objects(world.target.context.as_deref()).await?;
        let claims = left
            .iter()
            .filter(|object| object.starts_with("persistentvolumeclaim/"));
        ensure!(claims.count() == 3, "of three volumes there is left: {left:?}");
        Ok(())
    };
    let gone = gone.await;
    operators(world, 2).await?;
    gone?;
    Ok(Finding::default())
}

async fn certificate_replaced(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "certificate").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let at = ordeal.now();
    let secret = names::node_tls_secret(&database.name);
    made_anew::<Secret>(&world.client, &database.namespace, &secret).await?;
    // The kubelet brings a changed Secret into the pods within a minute or so.
    sleep(Duration::from_secs(100)).await;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    let restarted = end.restarted();
    ensure!(restarted.is_empty(), "restarted: {}", restarted.join(", "));
    Ok(end.finding())
}

async fn certificate_expired(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "expired").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let (certificate, key) = access::expired(&database).await?;
    let name = names::node_tls_secret(&database.name);
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &database.namespace);
    let at = ordeal.now();
    let spoilt = json!({"stringData": {"tls.crt": certificate, "tls.key": key}});
    change_secret(&database, &name, spoilt).await?;
    until("renewed certificate", HEALED, async || {
        let data = secrets.get(&name).await?.data.unwrap_or_default();
        let now = data.get("tls.crt").context("the Secret has no tls.crt")?;
        Ok(if now.0 == certificate.as_bytes() {
            Seen::NotYet("still the expired one".to_owned())
        } else {
            Seen::Done(())
        })
    })
    .await?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    Ok(end.finding())
}

async fn password_changed(world: &World) -> Result<Finding> {
    let database = own(world, "password").await?;
    let mut old = database.master_connection().await?;
    sql::create_writes(&mut old, "row_password.writes").await?;
    let account = names::account_secret(&database.name);
    let fresh = "another-password-of-a-test";
    change_secret(&database, &account, json!({"stringData": {"password": fresh}})).await?;
    // The kubelet brings a changed Secret within a minute or so.
    let mut tries = 0;
    while let Err(error) = database.master_connection().await {
        // Each of them waits for half a minute.
        tries += 1;
        ensure!(tries < 5, "the new password does not work: {error:#}");
    }
    sql::insert_write(&mut old, "row_password.writes", 1)
        .await
        .context("a session that was open before")?;
    let heir = database.slave_pod().await?.name_any();
    place::switch_to(&database, &heir).await?;
    let mut new = database
        .master_connection()
        .await
        .context("with the new password, on the next master")?;
    let rows = sql::count(&mut new, "row_password.writes").await?;
    ensure!(rows == 1, "{rows} rows instead of one");
    Ok(Finding::default())
}
