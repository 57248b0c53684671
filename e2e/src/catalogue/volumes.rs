//! Nodes whose volume or data is lost: they are filled from a slave, and never lead empty.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::names;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;

use super::{
    Case, Finding, KILLED, UNHURT,
    master::{is_slave, same_master},
    rejoin::{event_within, events},
};
use crate::{
    database::{Database, Node},
    faults, inside,
    ordeal::{End, Ordeal},
    storm::HEALED,
    wait::{Seen, until},
    watcher::What,
    world::World,
};

pub const CASES: &[Case] = &[
    Case {
        row: 19,
        part: "a",
        fault: "volume and pod of a slave deleted",
        expects: "it is cloned from the other slave; writes go on",
        limit: Some(UNHURT),
        run: |world| volume_of_slave(world).boxed_local(),
    },
    Case {
        row: 19,
        part: "b",
        fault: "volume and pod of the master deleted",
        expects: "a slave leads, then the node is cloned from the other one; it never leads empty",
        limit: Some(KILLED),
        run: |world| volume_of_master(world).boxed_local(),
    },
    Case {
        row: 39,
        part: "",
        fault: "volume of a slave deleted and mysqld of the master killed in the same moment",
        expects: "the empty node never leads; nothing is lost",
        limit: Some(Duration::from_secs(30)),
        run: |world| empty_candidate(world).boxed_local(),
    },
    Case {
        row: 41,
        part: "a",
        fault: "pages of MySQL's dictionary overwritten on a slave, then its mysqld killed",
        expects: "it begins anew without its data and is filled again; writes go on",
        limit: Some(UNHURT),
        run: |world| damaged_slave(world).boxed_local(),
    },
    Case {
        row: 41,
        part: "b",
        fault: "pages of MySQL's dictionary overwritten on the master, then its mysqld killed",
        expects: "a slave leads, then the node begins anew and is filled again",
        limit: Some(KILLED),
        run: |world| damaged_master(world).boxed_local(),
    },
];

/// Damaged data is thrown away after so long at most, where mysqld hangs on it half a minute at each start.
const DISCARDED: Duration = Duration::from_mins(5);

/// More transactions than an empty node executes from its master's logs; beyond them it is cloned.
const TOO_MANY_TO_REPLAY: u64 = 1200;

/// The pod and the claim of a node, as they are before both are deleted.
pub struct Life {
    pod: Node,
    claim: String,
}

impl Life {
    /// Those of now.
    pub async fn of(database: &Database, pod: &Pod) -> Result<Self> {
        let name = pod.name_any();
        let claim = claims(database).get(&name).await;
        let claim = claim.with_context(|| format!("{name} has no claim"))?;
        Ok(Self {
            pod: Node::from(pod),
            claim: claim.uid().context("a claim without UID")?,
        })
    }
}

fn claims(database: &Database) -> Api<PersistentVolumeClaim> {
    Api::namespaced(database.client.clone(), &database.namespace)
}

/// Waits until the node's pod and claim are new ones.
pub async fn new_life(database: &Database, old: &Life) -> Result<()> {
    until("replacement of the pod and its volume", HEALED, async || {
        let name = &old.pod.name;
        let pods = database.pods().await?;
        let pod = pods
            .iter()
            .find(|pod| pod.name == *name && pod.uid != old.pod.uid && pod.ip.is_some());
        let claim = claims(database).get_opt(name).await?;
        let claim = claim.and_then(|claim| claim.uid());
        Ok(match (pod, claim) {
            (Some(_), Some(claim)) if claim != old.claim => Seen::Done(()),
            (None, _) => Seen::NotYet(format!("{} pods", pods.len())),
            (Some(_), None) => Seen::NotYet(format!("{name} has no claim")),
            (Some(_), Some(_)) => Seen::NotYet(format!("{name} has its former claim")),
        })
    })
    .await
}

/// What the documentation tells people to do.
pub async fn copied_anew(database: &Database, node: &Pod) -> Result<()> {
    let old = Life::of(database, node).await?;
    faults::delete_pod_and_volumes(&database.client, node).await?;
    new_life(database, &old).await
}

/// The node was cloned, and the master was spared; gives what the event says.
fn cloned_from_slave(end: &End, node: &Pod) -> Result<String> {
    let node = node.name_any();
    let of_node = format!(": {node} holds a copy of ");
    let told = end.cloned.iter().find(|event| event.contains(&of_node));
    let told = told.with_context(|| format!("{node} was not cloned; events: {:?}", end.cloned))?;
    let master = &end.master().context("no master")?.name;
    ensure!(
        !told.contains(&format!("{of_node}{master}'s ")),
        "it was cloned from the master though there was a slave: {told}"
    );
    Ok(told.clone())
}

async fn volume_of_slave(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "slavevolume").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let slave = database.slave_pod().await?;
    ordeal.writers().wait_for_more(TOO_MANY_TO_REPLAY, HEALED).await?;
    let old = Life::of(&database, &slave).await?;
    let at = ordeal.now();
    faults::delete_pod_and_volumes(&world.client, &slave).await?;
    new_life(&database, &old).await?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    let told = cloned_from_slave(&end, &slave)?;
    Ok(end.finding().note(told))
}

async fn volume_of_master(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "mastervolume").await?;
    let master = database.master_pod().await?;
    ordeal.writers().wait_for_more(TOO_MANY_TO_REPLAY, HEALED).await?;
    let old = Life::of(&database, &master).await?;
    let at = ordeal.now();
    faults::delete_pod_and_volumes(&world.client, &master).await?;
    new_life(&database, &old).await?;
    let end = ordeal.end_changed(at, HEALED).await?;
    is_slave(&end, &master)?;
    let told = cloned_from_slave(&end, &master)?;
    Ok(end.finding().note(told))
}

async fn damaged_slave(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "slavedata").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let slave = database.slave_pod().await?;
    let before = events(&database, "DataDiscarded", &slave.name_any()).await?.len();
    let at = ordeal.now();
    inside::spoil_data(&slave)?;
    faults::signal_mysqld(&slave, Signal::SIGKILL)?;
    let told = event_within(DISCARDED, &database, "DataDiscarded", &slave.name_any(), before).await?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    Ok(end.finding().note(told))
}

async fn damaged_master(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "masterdata").await?;
    let master = database.master_pod().await?;
    let before = events(&database, "DataDiscarded", &master.name_any())
        .await?
        .len();
    let at = ordeal.now();
    inside::spoil_data(&master)?;
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    let told = event_within(DISCARDED, &database, "DataDiscarded", &master.name_any(), before).await?;
    let end = ordeal.end_changed(at, HEALED).await?;
    is_slave(&end, &master)?;
    Ok(end.finding().note(told))
}

async fn empty_candidate(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "empty").await?;
    let master = database.master_pod().await?;
    let slaves = database.slave_pods().await?;
    let [emptied, other] = slaves.as_slice() else {
        anyhow::bail!("{} slaves", slaves.len());
    };
    let old = Life::of(&database, emptied).await?;
    let at = ordeal.now();
    faults::delete_pod_and_volumes(&world.client, emptied).await?;
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    new_life(&database, &old).await?;
    let end = ordeal.end(at, HEALED).await?;
    let led: Vec<&str> = end
        .aftermath
        .changes
        .iter()
        .filter_map(|change| match &change.what {
            What::Role { pod, role } if role.as_deref() == Some(names::ROLE_MASTER) => Some(pod.as_str()),
            _ => None,
        })
        .collect();
    ensure!(
        !led.contains(&emptied.name_any().as_str()),
        "{} led after its volume was lost; {} was whole",
        emptied.name_any(),
        other.name_any()
    );
    Ok(end.finding())
}
