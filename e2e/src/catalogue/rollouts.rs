//! Changes of the spec that reach every node: size, configuration, image, resources.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use api::names;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::sleep};

use super::{
    Case, Finding, PLANNED, UNHURT,
    changes::{HEALTHY, own},
    master::{planned, same_master},
};
use crate::{
    database::{Database, describe},
    ordeal::{End, Ordeal},
    proof, sql,
    wait::{Seen, until},
    watcher::What,
    world::World,
};

pub const CASES: &[Case] = &[
    Case {
        row: 25,
        part: "",
        fault: "three nodes made five and three again under load",
        expects: "no stall; the master stays; more acknowledgements only once the new nodes have caught up",
        limit: Some(UNHURT),
        run: |world| scale(world).boxed_local(),
    },
    Case {
        row: 26,
        part: "a",
        fault: "max_connections changed",
        expects: "slaves first, the master last by a switchover; every server has the new value, none is cloned",
        limit: Some(PLANNED),
        run: |world| change_config(world).boxed_local(),
    },
    Case {
        row: 26,
        part: "b",
        fault: "an image that does not exist, then the former one",
        expects: "it stops at the first slave and is rolled back; writes go on",
        limit: Some(UNHURT),
        run: |world| bad_image(world).boxed_local(),
    },
    Case {
        row: 26,
        part: "c",
        fault: "the memory that MySQL asks for changed",
        expects: "slaves first, the master last by a switchover; every pod asks for it, none is cloned",
        limit: Some(PLANNED),
        run: |world| change_resources(world).boxed_local(),
    },
];

/// Every different quorum that the status told, in order: acknowledgements, nodes that hold everything, nodes serving.
type Quorums = Arc<Mutex<Vec<(u32, usize, i32)>>>;

async fn note_quorums(database: Database, quorums: Quorums) {
    loop {
        if let Ok(status) = database.status().await {
            let now = (
                status.record.acks,
                status.record.members.len(),
                status.ready_nodes,
            );
            let mut known = quorums.lock().await;
            if known.last() != Some(&now) {
                known.push(now);
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn scale(world: &World) -> Result<Finding> {
    let database = own(world, "scaled").await?;
    let ordeal = Ordeal::begin(&database, "scale").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let quorums = Quorums::default();
    let noting = tokio::spawn(note_quorums(database.clone(), quorums.clone()));
    let at = ordeal.now();
    resize(&database, 5, 2).await?;
    all_five_hold(&ordeal, &quorums).await?;
    resize(&database, 3, 1).await?;
    noting.abort();
    let end = ordeal.end(at, HEALTHY).await?;
    same_master(&database, &master, term).await?;
    let quorums = quorums.lock().await;
    let early = quorums
        .iter()
        .find(|(acks, members, _)| *acks == 2 && *members < 5);
    ensure!(
        early.is_none(),
        "two acknowledgements were asked for before the new nodes held everything: {quorums:?}"
    );
    Ok(end.finding())
}

/// Changes the number of nodes, and waits until as many are there and healthy, and writes wait for so many.
async fn resize(database: &Database, nodes: i32, acks: u32) -> Result<()> {
    database.patch(json!({"spec": {"nodes": nodes}})).await?;
    until("database of the new size", HEALTHY, async || {
        let status = database.status().await?;
        let pods = database.pods().await?.len();
        let done = status.record.acks == acks && i32::try_from(pods)? == nodes;
        Ok(if done {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{pods} pods, {} acknowledgements", status.record.acks))
        })
    })
    .await?;
    database.wait_healthy(HEALTHY).await?;
    Ok(())
}

/// Of five nodes each holds all that was acknowledged, two must acknowledge each write, and status tells so.
async fn all_five_hold(ordeal: &Ordeal<'_>, quorums: &Quorums) -> Result<()> {
    let database = ordeal.database;
    let asked = "rpl_semi_sync_source_wait_for_replica_count";
    let waits_for = sql::setting(&mut database.master_connection().await?, asked).await?;
    ensure!(
        waits_for == "2",
        "with five nodes the master waits for {waits_for} of them, not for 2"
    );
    let written = ordeal.writers().so_far();
    let proof = proof::prove(database, &written, "row_scale.writes", &[]).await?;
    proof.check().context("of five nodes")?;
    ensure!(
        proof.nodes.len() == 5 && proof.acknowledged > 0,
        "{} writes were looked for on {} nodes, not on 5",
        proof.acknowledged,
        proof.nodes.len()
    );
    // Otherwise that no quorum came too early would be told of quorums that nobody noted.
    until("quorum of five nodes", HEALTHY, async || {
        let noted = quorums.lock().await;
        let seen = noted.iter().any(|(acks, members, _)| (*acks, *members) == (2, 5));
        Ok(if seen {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{noted:?}"))
        })
    })
    .await
}

/// The pods that went away, in order.
fn replaced(end: &End) -> Vec<&str> {
    let gone = end
        .aftermath
        .changes
        .iter()
        .filter_map(|change| match &change.what {
            What::Gone { pod } => Some(pod.as_str()),
            _ => None,
        });
    gone.collect()
}

async fn change_config(world: &World) -> Result<Finding> {
    let database = own(world, "config").await?;
    let config = json!({"spec": {"mysql": {"config": {"max_connections": "310"}}}});
    let end = rolled_out(&database, "config", config).await?;
    for node in &end.aftermath.after {
        let address = database
            .at(node.ip.as_deref().context("a node without address")?)
            .await?;
        let mut connection = sql::connect(&address, Duration::from_secs(2)).await?;
        let now = sql::setting(&mut connection, "max_connections").await?;
        ensure!(now == "310", "{} has max_connections = {now}", node.name);
    }
    Ok(end.finding())
}

/// Changes the spec under load; every pod is replaced, the master's last and by a switchover, and none needs a copy.
async fn rolled_out(database: &Database, name: &str, spec: Value) -> Result<End> {
    let ordeal = Ordeal::begin(database, name).await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let at = ordeal.now();
    database.patch(spec).await?;
    database.wait_led(term, HEALTHY).await?;
    let end = ordeal.end(at, HEALTHY).await?;
    let replaced = replaced(&end);
    ensure!(
        replaced.len() == 3 && replaced.last() == Some(&master.name_any().as_str()),
        "the master {} was not replaced last: {replaced:?}",
        master.name_any()
    );
    planned(database, term).await?;
    end.nothing_cloned()?;
    Ok(end)
}

async fn change_resources(world: &World) -> Result<Finding> {
    let database = own(world, "resources").await?;
    let wanted = "544Mi";
    let resources = json!({"spec": {"mysql": {"resources": {"requests": {"memory": wanted}}}}});
    let end = rolled_out(&database, "resources", resources).await?;
    for pod in pods(&database).await? {
        let asks = mysql_of(&pod)?
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        let memory = asks.and_then(|asks| asks.get("memory"));
        ensure!(
            memory.is_some_and(|memory| memory.0 == wanted),
            "mysqld of {} asks for {memory:?}",
            pod.name_any()
        );
    }
    Ok(end.finding())
}

async fn pods(database: &Database) -> Result<Vec<Pod>> {
    Ok(database.pod_api().list(&database.selector()).await?.items)
}

fn mysql_of(pod: &Pod) -> Result<&Container> {
    let containers = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    let mysql = containers
        .into_iter()
        .find(|container| container.name == names::CONTAINER_MYSQL);
    mysql.with_context(|| format!("{} has no container {}", pod.name_any(), names::CONTAINER_MYSQL))
}

/// The images of MySQL that the pods run with.
async fn images(database: &Database) -> Result<BTreeSet<String>> {
    let pods = pods(database).await?;
    let images = pods
        .iter()
        .map(|pod| Ok(mysql_of(pod)?.image.clone().unwrap_or_default()));
    images.collect()
}

async fn bad_image(world: &World) -> Result<Finding> {
    let database = own(world, "image").await?;
    let ordeal = Ordeal::begin(&database, "image").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let at = ordeal.now();
    let former = images(&database).await?;
    let image = |image: Value| json!({"spec": {"mysql": {"image": image}}});
    database
        .patch(image(json!("localhost/there-is-no-such-image:1")))
        .await?;
    until("node that does not get ready", HEALTHY, async || {
        let status = database.status().await?;
        Ok(if status.ready_nodes < 3 {
            Seen::Done(())
        } else {
            Seen::NotYet(describe(&status))
        })
    })
    .await?;
    sleep(Duration::from_secs(15)).await;
    let ready = database.status().await?.ready_nodes;
    database.patch(image(Value::Null)).await?;
    let end = ordeal.end(at, HEALTHY).await?;
    ensure!(ready == 2, "{ready} of 3 nodes served with a bad image");
    let mut touched = replaced(&end);
    touched.dedup();
    ensure!(
        touched.len() == 1 && touched[0] != master.name_any(),
        "more than the first slave was touched: {touched:?}"
    );
    let now = images(&database).await?;
    ensure!(now == former, "the pods run {now:?} instead of {former:?}");
    end.nothing_cloned()?;
    same_master(&database, &master, term).await?;
    Ok(end.finding())
}
