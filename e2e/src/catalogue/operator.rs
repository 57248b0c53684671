//! The operator and the API server are lost: databases run on, and nothing restarts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{Case, Finding, KILLED, UNHURT, master::is_slave, master::same_master, place};
use crate::{
    clock::Clock,
    faults::{self, Deletion},
    install, machines,
    ordeal::{End, Ordeal},
    settings::Target,
    storm::HEALED,
    tools::{helm, repository},
    wait::{Seen, until},
    world::World,
};

pub const CASES: &[Case] = &[
    Case {
        row: 11,
        part: "a",
        fault: "kill -9 of the operator's leader",
        expects: "writes go on, no pod restarts, the standby leads within 5 s",
        limit: Some(UNHURT),
        run: |world| kill_leader(world).boxed_local(),
    },
    Case {
        row: 11,
        part: "b",
        fault: "both of the operator's pods deleted by force",
        expects: "writes go on, no pod restarts",
        limit: Some(UNHURT),
        run: |world| kill_both(world).boxed_local(),
    },
    Case {
        row: 11,
        part: "c",
        fault: "the API server stopped for 2 minutes",
        expects: "writes go on, no pod restarts",
        limit: Some(UNHURT),
        run: |world| stop_api_server(world).boxed_local(),
    },
    Case {
        row: 11,
        part: "d",
        fault: "the operator's leader cut from the API server, then mysqld of the master killed",
        expects: "the standby leads within 5 s and replaces the master within the budget",
        limit: Some(KILLED),
        run: |world| cut_leader(world).boxed_local(),
    },
    Case {
        row: 27,
        part: "",
        fault: "helm upgrade that replaces the operator's pods",
        expects: "no database restarts, nothing is cloned, writes go on; a new pod leads and carries a switchover out",
        limit: Some(UNHURT),
        run: |world| upgrade(world).boxed_local(),
    },
    Case {
        row: 34,
        part: "",
        fault: "a second operator with a lease of its own leads the same database; the master is killed and switched",
        expects: "one of them wins each term; nothing else is seen of it",
        limit: Some(Duration::from_secs(10)),
        run: |world| two_operators(world).boxed_local(),
    },
];

const TAKEOVER: Duration = Duration::from_secs(5);

fn nothing_restarted(end: &End) -> Result<()> {
    let restarted = end.restarted();
    ensure!(restarted.is_empty(), "restarted: {}", restarted.join(", "));
    Ok(())
}

/// Waits until another pod holds the lease, no longer than the promise, and tells how long it took.
pub async fn takeover(world: &World, old: &Pod, clock: Clock, since: Duration) -> Result<Duration> {
    until("another leader", HEALED, async || {
        let now = install::leader(&world.client).await?.name_any();
        Ok(if now == old.name_any() {
            Seen::NotYet(format!("{now} holds the lease"))
        } else {
            Seen::Done(())
        })
    })
    .await?;
    let took = clock.at().saturating_sub(since);
    ensure!(
        took <= TAKEOVER,
        "the standby took over after {} ms, more than {} ms",
        took.as_millis(),
        TAKEOVER.as_millis()
    );
    Ok(took)
}

async fn kill_leader(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "leader").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let leader = install::leader(&world.client).await?;
    let at = ordeal.now();
    kill_operator(world, &leader).await?;
    let took = takeover(world, &leader, ordeal.clock(), at).await?;
    install::wait_ready(&world.client).await?;
    let end = ordeal.end(at, HEALED).await?;
    nothing_restarted(&end)?;
    same_master(&database, &master, term).await?;
    Ok(end
        .finding()
        .note(format!("standby led after {} ms", took.as_millis())))
}

/// kill -9 of the process, and a new pod instead of a restart in place, which the kubelet would delay from time to time.
pub async fn kill_operator(world: &World, pod: &Pod) -> Result<()> {
    faults::signal_process(pod, install::PROCESS, Signal::SIGKILL)?;
    let pods = Api::namespaced(world.client.clone(), install::NAMESPACE);
    faults::delete_pod(&pods, pod, Deletion::Forced).await
}

async fn kill_both(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "nooperator").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let at = ordeal.now();
    for pod in install::operator_pods(&world.client).await? {
        kill_operator(world, &pod).await?;
    }
    install::wait_ready(&world.client).await?;
    let end = ordeal.end(at, HEALED).await?;
    nothing_restarted(&end)?;
    same_master(&database, &master, term).await?;
    Ok(end.finding())
}

async fn stop_api_server(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "noapi").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let at = ordeal.now();
    machines::stop_api_server(&world.target).await?;
    sleep(Duration::from_mins(2)).await;
    machines::mend_all(&world.target).await?;
    until("API server", Duration::from_mins(1), async || {
        world.client.apiserver_version().await?;
        Ok(Seen::Done(()))
    })
    .await?;
    install::wait_ready(&world.client).await?;
    let end = ordeal.end(at, HEALED).await?;
    nothing_restarted(&end)?;
    same_master(&database, &master, term).await?;
    // The next case measures a path that leads through kube-proxy, whose watches pause for up to a minute by now.
    sleep(Duration::from_mins(1)).await;
    Ok(end.finding())
}

async fn cut_leader(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "leadercut").await?;
    let leader = install::leader(&world.client).await?;
    let address = leader.status.as_ref().and_then(|status| status.pod_ip.clone());
    let cut = ordeal.now();
    machines::cut_from_api_server(&world.target, &address.context("the leader has no address")?).await?;
    let took = takeover(world, &leader, ordeal.clock(), cut).await?;
    let master = database.master_pod().await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    database.wait_led(ordeal.term, HEALED).await?;
    machines::mend_all(&world.target).await?;
    let end = ordeal.end(at, HEALED).await?;
    is_slave(&end, &master)?;
    install::wait_ready(&world.client).await?;
    Ok(end
        .finding()
        .note(format!("standby led after {} ms", took.as_millis())))
}

async fn upgrade(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "upgrade").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let old = lives(world).await?;
    let at = ordeal.now();
    let stamp = format!("podAnnotations.e2e=upgraded-{term}");
    install::install(&world.client, &world.target, &[&stamp]).await?;
    let new = lives(world).await?;
    ensure!(
        new.iter().all(|uid| !old.contains(uid)),
        "the upgrade replaced no operator pod, so it shows nothing"
    );
    let end = ordeal.end(at, HEALED).await?;
    nothing_restarted(&end)?;
    end.nothing_cloned()?;
    same_master(&database, &master, term).await?;
    let leader = install::leader(&world.client).await?;
    ensure!(
        leader.uid().is_some_and(|uid| new.contains(&uid)),
        "{} leads, which is of the former version",
        leader.name_any()
    );
    let heir = database.slave_pod().await?.name_any();
    place::switch_to(&database, &heir).await?;
    Ok(end.finding())
}

async fn lives(world: &World) -> Result<Vec<String>> {
    let pods = install::operator_pods(&world.client).await?;
    let stay = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(stay.filter_map(ResourceExt::uid).collect())
}

const SECOND: &str = "ddb-second";

async fn two_operators(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let second = second_operator(&world.target).await;
    let outcome = match second {
        Ok(()) => change_twice(world).await,
        Err(error) => Err(error.context("installing the second operator")),
    };
    remove_second(world).await?;
    database.wait_healthy(HEALED).await?;
    outcome
}

/// Removes the second operator, if there is one.
pub async fn remove_second(world: &World) -> Result<()> {
    let words = [
        "uninstall",
        SECOND,
        "--namespace",
        SECOND,
        "--ignore-not-found",
        "--wait",
    ];
    helm(world.target.context.as_deref(), &words).await?;
    world.remove_namespace(SECOND).await
}

/// Its lease is in its own namespace, so neither knows of the other.
async fn second_operator(target: &Target) -> Result<()> {
    let chart = repository().join("charts/ddb-operator");
    let chart = chart.to_str().context("the repository's path is not UTF-8")?;
    let values = install::image_values(target)?;
    let mut words = vec![
        "upgrade",
        "--install",
        SECOND,
        chart,
        "--namespace",
        SECOND,
        "--create-namespace",
    ];
    words.extend(["--set", "crds.install=false", "--set", "replicas=1", "--wait"]);
    for value in &values {
        words.extend(["--set-string", value]);
    }
    helm(target.context.as_deref(), &words).await.map(drop)
}

async fn change_twice(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "twooperators").await?;
    let master = database.master_pod().await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    database.wait_healed(ordeal.term, HEALED).await?;
    let slave = database.slave_pod().await?.name_any();
    place::switch_to(&database, &slave).await?;
    let end = ordeal.end(at, HEALED).await?;
    let led = end.master().context("no master")?;
    ensure!(led.name == slave, "{} leads instead of {slave}", led.name);
    Ok(end.finding())
}
