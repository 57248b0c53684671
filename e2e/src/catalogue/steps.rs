//! The operator's leader is killed right after each step of a change of master, as soon as the API server shows it.
//!
//! Between a step and the end of the change there may be only some milliseconds. Whether the operator was killed within
//! them is read from the record afterwards, and where it was not, everything is done once more.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use api::{DistributedDatabase, names};
use futures::{FutureExt, StreamExt, future::LocalBoxFuture};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use nix::sys::signal::Signal;
use tokio::time::timeout;

use super::{Case, Finding, WITH_OPERATOR, operator};
use crate::{database::Database, faults, install, ordeal::Ordeal, storm::HEALED, world::World};

macro_rules! steps {
    ($($part:literal $how:ident $step:ident $fault:literal,)*) => {
        &[$(Case {
            row: 13,
            part: $part,
            fault: $fault,
            expects: "the standby finishes it or begins anew, within the budget for it; the terms only rise",
            limit: Some(WITH_OPERATOR),
            run: |world| after(world, How::$how, Step::$step).boxed_local(),
        },)*]
    };
}

pub const CASES: &[Case] = steps![
    "a" Failover Recorded "failover: the operator killed when the new term is recorded",
    "b" Failover Unlabelled "failover: the operator killed when the old master has lost its label",
    "c" Failover Fenced "failover: the operator killed when a slave has stored the new term",
    "d" Failover Promoted "failover: the operator killed when the new master accepts writes",
    "e" Failover Routed "failover: the operator killed when the Service leads to the new master",
    "f" Failover Labelled "failover: the operator killed when the new master has its label",
    "g" Failover Completed "failover: the operator killed when the change is recorded as complete",
    "h" Switchover Recorded "switchover: the operator killed when the new term is recorded",
    "i" Switchover Unlabelled "switchover: the operator killed when the old master has lost its label",
    "j" Switchover Fenced "switchover: the operator killed when a slave has stored the new term",
    "k" Switchover Promoted "switchover: the operator killed when the new master accepts writes",
    "l" Switchover Routed "switchover: the operator killed when the Service leads to the new master",
    "m" Switchover Labelled "switchover: the operator killed when the new master has its label",
    "n" Switchover Completed "switchover: the operator killed when the change is recorded as complete",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Failover,
    Switchover,
}

/// What can be seen of a change of master.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its term.
    Recorded,
    /// The old master has no label.
    Unlabelled,
    /// A slave has stored the term.
    Fenced,
    /// Another node accepts writes.
    Promoted,
    /// The Service leads there.
    Routed,
    /// It has the label.
    Labelled,
    /// The record is complete.
    Completed,
}

/// How often it is tried to break in between a step and the end of the change.
const TRIES: u32 = 5;
/// A watch has made its first look within this.
const SETTLED: Duration = Duration::from_millis(500);

impl Step {
    /// Whether the change still goes on when the step shows. After the label there is only the record left to be written,
    /// which may be quicker than a signal.
    fn leaves_it_open(self) -> bool {
        match self {
            Self::Recorded | Self::Unlabelled | Self::Fenced | Self::Promoted | Self::Routed => true,
            Self::Labelled | Self::Completed => false,
        }
    }
}

async fn after(world: &World, how: How, step: Step) -> Result<Finding> {
    let mut longest = None;
    landed("the operator was", async || {
        let (mut finding, was_open) = kill_after(world, how, step).await?;
        longest = finding.outage.max(longest);
        finding.outage = longest;
        Ok((was_open || !step.leaves_it_open()).then_some(finding))
    })
    .await
}

/// Kills again and again until it met a change of master that was still open; `kill` gives none where it came too late.
/// `who` is who is killed, with a verb.
pub async fn landed(who: &str, mut kill: impl AsyncFnMut() -> Result<Option<Finding>>) -> Result<Finding> {
    for _ in 0..TRIES {
        if let Some(finding) = kill().await? {
            return Ok(finding);
        }
    }
    bail!("each of {TRIES} times the change was complete before {who} killed")
}

/// Kills the operator's leader when the step shows; gives with the finding whether the change was still open then.
async fn kill_after(world: &World, how: How, step: Step) -> Result<(Finding, bool)> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "step").await?;
    let old = database.master_pod().await?;
    let leader = install::leader(&world.client).await?;
    let process = faults::process_of(&leader, install::PROCESS)?;
    let mut seen = shown(&database, &old, ordeal.term, step).await?;
    settle(&mut seen).await?;
    let at = ordeal.now();
    match how {
        How::Failover => faults::signal_mysqld(&old, Signal::SIGKILL)?,
        How::Switchover => {
            let heir = database.slave_pod().await?.name_any();
            faults::ask_to_promote(&world.client, &database.namespace, &database.name, &heir).await?;
        }
    }
    let waited = timeout(HEALED, &mut seen).await;
    nix::sys::signal::kill(process, Signal::SIGKILL).context("killing the operator's leader")?;
    let killed = ordeal.now();
    waited.context("the step was never seen")?;
    let pods = Api::namespaced(world.client.clone(), install::NAMESPACE);
    faults::delete_pod(&pods, &leader, faults::Deletion::Forced).await?;
    let was_open = is_open(&database, ordeal.term).await?;
    let took = operator::takeover(world, &leader, ordeal.clock(), killed).await?;
    let end = ordeal.end_changed(at, HEALED).await?;
    ensure!(end.master().is_some(), "no master");
    install::wait_ready(&world.client).await?;
    let note = format!(
        "killed {} ms after the fault, standby led {} ms later",
        killed.saturating_sub(at).as_millis(),
        took.as_millis()
    );
    Ok((end.finding().note(note), was_open))
}

/// Whether a change of master after `term` was begun and is not complete. Asked right after a kill: the standby writes
/// nothing before the lease has run out, which takes two seconds at least, and what the killed one had sent is there.
pub async fn is_open(database: &Database, term: u64) -> Result<bool> {
    let record = database.status().await?.record;
    Ok(record.term.0 > term && record.intent.is_some())
}

/// Lets a watch make its first look before the change begins, in the middle of which it would come too late.
pub async fn settle(seen: &mut LocalBoxFuture<'static, ()>) -> Result<()> {
    ensure!(
        timeout(SETTLED, seen).await.is_err(),
        "the step shows before the change has begun"
    );
    Ok(())
}

/// Begins to watch, and gives what ends when the step of a change after `term` shows.
pub async fn shown(
    database: &Database,
    old: &Pod,
    term: u64,
    step: Step,
) -> Result<LocalBoxFuture<'static, ()>> {
    let (database, old) = (database.clone(), old.name_any());
    Ok(match step {
        Step::Recorded => status(&database, move |found| found.term() > term),
        Step::Completed => status(&database, move |found| found.term() > term && found.led()),
        Step::Unlabelled => pods(&database, move |pod| pod.name_any() == old && role(pod).is_none()),
        Step::Labelled => pods(&database, move |pod| {
            pod.name_any() != old && role(pod) == Some(names::ROLE_MASTER)
        }),
        Step::Fenced => metric(&database, &old, "ddb_node_term", term + 1, any).await?,
        Step::Promoted => metric(&database, &old, "ddb_node_master", 1, any).await?,
        Step::Routed => routed(&database).await?,
    })
}

/// Begins to watch, and gives what ends when every node but `old` has stored a term after `term`. They are asked only once
/// there is one: asked so often, they have less time for everything else.
pub async fn all_fenced(database: &Database, old: &Pod, term: u64) -> Result<LocalBoxFuture<'static, ()>> {
    let recorded = shown(database, old, term, Step::Recorded).await?;
    let fenced = metric(database, &old.name_any(), "ddb_node_term", term + 1, all).await?;
    Ok(recorded.then(|()| fenced).boxed_local())
}

struct Seen<'a>(&'a DistributedDatabase);

impl Seen<'_> {
    fn term(&self) -> u64 {
        self.0.status.as_ref().map_or(0, |status| status.record.term.0)
    }

    fn led(&self) -> bool {
        let record = self.0.status.as_ref().map(|status| &status.record);
        record.is_some_and(|record| record.master.is_some() && record.intent.is_none())
    }
}

fn role(pod: &Pod) -> Option<&str> {
    pod.labels().get(names::LABEL_ROLE).map(String::as_str)
}

fn status(database: &Database, is: impl Fn(Seen<'_>) -> bool + 'static) -> LocalBoxFuture<'static, ()> {
    let api: Api<DistributedDatabase> = Api::namespaced(database.client.clone(), &database.namespace);
    let itself = watcher::Config::default().fields(&format!("metadata.name={}", database.name));
    first(api, itself, move |found: &DistributedDatabase| is(Seen(found)))
}

fn pods(database: &Database, is: impl Fn(&Pod) -> bool + 'static) -> LocalBoxFuture<'static, ()> {
    let own = format!("{}={}", names::LABEL_CLUSTER, database.name);
    first(database.pod_api(), watcher::Config::default().labels(&own), is)
}

async fn routed(database: &Database) -> Result<LocalBoxFuture<'static, ()>> {
    let service = names::master_service(&database.name);
    let before = database.endpoints(&service).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(database.client.clone(), &database.namespace);
    let own = format!("kubernetes.io/service-name={service}");
    Ok(first(
        slices,
        watcher::Config::default().labels(&own),
        move |slice: &EndpointSlice| {
            let mut addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
            addresses.any(|address| !before.contains(address))
        },
    ))
}

/// Ends when an object is as it must be; a watch that breaks lists again.
fn first<K>(
    api: Api<K>,
    which: watcher::Config,
    is: impl Fn(&K) -> bool + 'static,
) -> LocalBoxFuture<'static, ()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    async move {
        let mut objects = pin!(watcher::watcher(api, which).applied_objects());
        while let Some(object) = objects.next().await {
            if object.is_ok_and(|object| is(&object)) {
                return;
            }
        }
    }
    .boxed_local()
}

fn any(told: &[bool]) -> bool {
    told.contains(&true)
}

fn all(told: &[bool]) -> bool {
    !told.contains(&false)
}

/// Ends when enough of the nodes other than `old` tell this value of a metric, or a higher one.
async fn metric(
    database: &Database,
    old: &str,
    name: &'static str,
    value: u64,
    enough: fn(&[bool]) -> bool,
) -> Result<LocalBoxFuture<'static, ()>> {
    let pods = database.pods().await?.into_iter();
    let others: Vec<String> = pods
        .filter(|pod| pod.name != old)
        .filter_map(|pod| pod.ip)
        .collect();
    ensure!(!others.is_empty(), "no other node than {old} has an address");
    Ok(async move {
        loop {
            let asked = others.iter().map(async |address| {
                let answer = timeout(Duration::from_millis(200), crate::terms::ask(address, name));
                answer
                    .await
                    .is_ok_and(|answer| answer.is_ok_and(|now| now >= value))
            });
            if enough(&futures::future::join_all(asked).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    .boxed_local())
}
