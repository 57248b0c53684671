//! Many databases at once: the real operator and a real API server with etcd, in a network namespace of their own, and
//! simulated nodes in the place of pods. No kubelet, no scheduler: pods are objects with an address.
//!
//! What is measured is the operator: its memory, its processor time while nothing happens, and how soon masters that
//! fail together are replaced.

mod agents;
mod control_plane;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use api::{DistributedDatabase, resource::Phase};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    clock::{Clock, millis},
    gaps::percentile,
    screen::Screen,
    steady, world,
};
use agents::{Agents, address_of};
use control_plane::ControlPlane;

/// The databases' namespace.
pub(crate) const NAMESPACE: &str = "scale";
/// Nodes of each database.
pub(crate) const NODES: usize = 3;
/// Requests under way at a time.
const HANDS: usize = 16;
const BUILD: Duration = Duration::from_mins(30);
const REPLACED: Duration = Duration::from_mins(1);
const REST: Duration = Duration::from_secs(15);
const STORM: Duration = Duration::from_secs(1);

/// How large, and with which programs.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// How many databases of three nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=5000))]
    databases: u32,
    /// How many of their masters die within one second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Seconds for which the operator is watched at rest.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// The operator's program.
    #[arg(long)]
    operator: PathBuf,
    /// The API server's program.
    #[arg(long)]
    apiserver: PathBuf,
    /// etcd's program.
    #[arg(long)]
    etcd: PathBuf,
    /// An empty folder for data and logs.
    #[arg(long)]
    folder: PathBuf,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// How many databases.
    pub databases: usize,
    /// How many nodes.
    pub nodes: usize,
    /// From the first resource to the last healthy database, in seconds.
    pub built_seconds: u64,
    /// The operator's resident memory at rest.
    pub operator_rss_mib: f64,
    /// The same after the failovers.
    pub operator_rss_after_mib: f64,
    /// Hundredths of a core that the operator used at rest.
    pub operator_cpu_percent: f64,
    /// How many masters died within a second.
    pub killed: usize,
    /// How many of them were replaced.
    pub replaced: usize,
    /// Median time from a master's death to the record that names the new one, whose label and Service lead to it.
    pub median_ms: u64,
    /// Nine of ten were not longer.
    pub p90_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

/// The name of a database.
pub(crate) fn name_of(database: usize) -> String {
    format!("db{database}")
}

fn node_of(pod: &str) -> Option<(usize, usize)> {
    let (database, node) = pod.strip_prefix("db")?.split_once('-')?;
    Some((database.parse().ok()?, node.parse().ok()?))
}

/// Builds it all, measures, and takes it down.
pub async fn run(plan: &Plan, screen: &Screen) -> Result<Facts> {
    let databases = plan.databases as usize;
    let control_plane = ControlPlane::start(&plan.folder, &plan.etcd, &plan.apiserver).await?;
    let client = control_plane.client.clone();
    control_plane::prepare(&client).await?;
    let agents = Agents::listen(&client, databases).await?;
    let addresses = tokio::spawn(give_addresses(client.clone()));
    let (_operator, pid) = control_plane.start_operator(&plan.operator)?;
    screen.heading("Many databases");
    let clock = Clock::start();
    create(&client, databases).await?;
    screen.line(&format!(
        "  {databases} resources after {} s",
        clock.at().as_secs()
    ));
    all_healthy(&client, databases, screen, clock).await?;
    let built = clock.at();
    screen.line(&format!("  all healthy after {} s", built.as_secs()));

    sleep(REST).await;
    let used = steady::at_rest(&[&[pid]], Duration::from_secs(plan.idle)).await?;
    let operator_cpu_percent = used.concat().first().copied().unwrap_or_default();
    let operator_rss_mib = steady::resident_mib(pid)?;
    screen.fact(
        "operator at rest",
        &format!("{operator_cpu_percent:.1} % of a core, {operator_rss_mib:.1} MiB"),
    );

    let killed = (plan.kills as usize).min(databases);
    let times = storm(&client, &agents, databases, killed).await?;
    all_healthy(&client, databases, screen, Clock::start()).await?;
    let operator_rss_after_mib = steady::resident_mib(pid)?;
    addresses.abort();
    let facts = Facts {
        databases,
        nodes: databases * NODES,
        built_seconds: built.as_secs(),
        operator_rss_mib,
        operator_rss_after_mib,
        operator_cpu_percent,
        killed,
        replaced: times.len(),
        median_ms: percentile(&times, 50),
        p90_ms: percentile(&times, 90),
        max_ms: percentile(&times, 100),
    };
    screen.fact(
        "masters killed",
        &format!(
            "{killed}, {} replaced: median {} ms, p90 {} ms, longest {} ms",
            facts.replaced, facts.median_ms, facts.p90_ms, facts.max_ms
        ),
    );
    Ok(facts)
}

async fn create(client: &Client, databases: usize) -> Result<()> {
    let api = Api::<DistributedDatabase>::namespaced(client.clone(), NAMESPACE);
    let all = (0..databases).map(|database| {
        let (api, wanted) = (api.clone(), world::small(&name_of(database), NAMESPACE));
        async move { api.create(&PostParams::default(), &wanted).await.map(drop) }
    });
    stream::iter(all)
        .buffer_unordered(HANDS)
        .try_collect::<()>()
        .await?;
    Ok(())
}

/// Does for every new pod what scheduler and kubelet would: an address, and Ready.
async fn give_addresses(client: Client) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client, NAMESPACE);
    let seen = watcher::watcher(pods.clone(), watcher::Config::default()).default_backoff();
    let lacking = seen.applied_objects().try_filter_map(async |pod| {
        let has = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
        Ok((!has).then(|| pod.name_any()))
    });
    let patched = lacking.map(|name| {
        let pods = pods.clone();
        async move {
            let name = name?;
            let (database, node) = node_of(&name).with_context(|| format!("a strange pod {name}"))?;
            let address = address_of(database, node).to_string();
            let status = json!({"status": {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }});
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await?;
            anyhow::Ok(())
        }
    });
    patched
        .buffer_unordered(HANDS)
        .for_each(async |outcome| {
            // A pod that is not patched keeps its database from getting healthy, which is seen there.
            if let Err(error) = outcome {
                eprintln!("    a pod got no address: {error:#}");
            }
        })
        .await;
    bail!("the watch of pods ended")
}

async fn all_healthy(client: &Client, databases: usize, screen: &Screen, clock: Clock) -> Result<()> {
    let api = Api::<DistributedDatabase>::namespaced(client.clone(), NAMESPACE);
    let mut spoken = Duration::ZERO;
    loop {
        let all = api.list(&ListParams::default()).await?.items;
        let healthy = all.iter().filter(|it| {
            let status = it.status.as_ref();
            status.is_some_and(|it| it.phase == Phase::Healthy && it.nodes.len() == NODES)
        });
        let healthy = healthy.count();
        if healthy == databases {
            return Ok(());
        }
        if clock.at() > BUILD {
            bail!("only {healthy} of {databases} databases are healthy");
        }
        if clock.at() > spoken + Duration::from_secs(10) {
            spoken = clock.at();
            screen.line(&format!("  … {healthy} healthy after {} s", spoken.as_secs()));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Kills masters spread over a second; gives the milliseconds until the record names each one's successor.
async fn storm(client: &Client, agents: &Arc<Agents>, databases: usize, kills: usize) -> Result<Vec<u64>> {
    let api = Api::<DistributedDatabase>::namespaced(client.clone(), NAMESPACE);
    let mut seen = watcher::watcher(api, watcher::Config::default())
        .applied_objects()
        .boxed();
    // The watch begins with everything as it is.
    for _ in 0..databases {
        seen.try_next().await?.context("the watch of databases ended")?;
    }
    let clock = Clock::start();
    let mut dead = BTreeMap::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let all = Arc::clone(agents);
    tokio::spawn(async move {
        for number in 0..kills {
            let database = number * databases / kills;
            if let Some((node, term)) = all.master(database) {
                all.kill(database, node);
                let _ = tell.send((name_of(database), term, clock.at()));
            }
            sleep(STORM / u32::try_from(kills).unwrap_or(1)).await;
        }
    });
    let mut times = Vec::new();
    while times.len() < kills && clock.at() < REPLACED {
        tokio::select! {
            Some((name, term, at)) = told.recv() => { dead.insert(name, (term, at)); }
            object = seen.try_next() => {
                let object = object?.context("the watch of databases ended")?;
                let name = object.name_any();
                let record = object.status.unwrap_or_default().record;
                let led = record.master.is_some() && record.intent.is_none();
                if let Some((term, at)) = dead.get(&name).copied() && led && record.term > term {
                    dead.remove(&name);
                    times.push(millis(clock.at().saturating_sub(at)));
                }
            }
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
    Ok(times)
}

/// Where the control plane listens, inside the namespace.
pub(crate) fn api_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 6443))
}

/// A process of ours by its number.
pub(crate) fn pid_of(child: &tokio::process::Child) -> Result<Pid> {
    let pid = child.id().context("it has ended already")?;
    Ok(Pid::from_raw(i32::try_from(pid)?))
}
