//! Paths cut and slaves lost: nothing of it may move the master.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use api::names;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};

use super::{
    Case, Finding, UNHURT,
    master::same_master,
    place::{self, Together},
};
use crate::{
    clock::Clock,
    database::Database,
    faults, install, machines,
    ordeal::Ordeal,
    sql,
    storm::HEALED,
    wait::{Seen, until},
    world::World,
};

pub const CASES: &[Case] = &[
    Case {
        row: 9,
        part: "a",
        fault: "the master cut from the operator's pods, for 10 s",
        expects: "no failover; a condition and an event name it",
        limit: Some(UNHURT),
        run: |world| cut_from_operator(world).boxed_local(),
    },
    Case {
        row: 9,
        part: "b",
        fault: "the master's machine cut from the API server, for 90 s",
        expects: "no failover, also when Kubernetes calls the machine lost; a condition and an event name it",
        limit: Some(UNHURT),
        run: |world| cut_from_api_server(world).boxed_local(),
    },
    Case {
        row: 9,
        part: "c",
        fault: "the master cut from one slave, for 10 s",
        expects: "no failover; a condition and an event name it",
        limit: Some(Duration::from_secs(2)),
        run: |world| cut_from_slave(world).boxed_local(),
    },
    Case {
        row: 10,
        part: "a",
        fault: "the machine of a slave cut off for 10 s",
        expects: "writes go on; the slave leaves the slaves' Service and comes back by itself",
        limit: Some(Duration::from_secs(2)),
        run: |world| cut_slave(world).boxed_local(),
    },
    Case {
        row: 10,
        part: "b",
        fault: "kill -9 of mysqld in a slave",
        expects: "writes go on; the slave leaves the slaves' Service and comes back by itself, without a copy",
        limit: Some(UNHURT),
        run: |world| kill_slave(world).boxed_local(),
    },
    Case {
        row: 10,
        part: "c",
        fault: "SIGSTOP of mysqld in a slave for 10 s",
        expects: "writes go on; the slave leaves the slaves' Service and comes back by itself",
        limit: Some(Duration::from_secs(2)),
        run: |world| freeze_slave(world).boxed_local(),
    },
    Case {
        row: 10,
        part: "d",
        fault: "mysqld of a slave gets a tenth of its time for 10 s",
        expects: "writes go on; the slaves' Service does not lead to it while it answers nothing; it comes back by itself",
        limit: Some(Duration::from_secs(2)),
        run: |world| slow_slave(world).boxed_local(),
    },
];

const LASTS: Duration = Duration::from_secs(10);
/// Kubernetes calls a machine lost that it has not heard of for 50 s, and the operator says so when that lasts.
const LOST: Duration = Duration::from_secs(90);
/// The longest time that the slaves' Service may lead to a slave that answers nothing. A session with a machine that is
/// cut off ends after two or three seconds, and this machine is busy.
const STRAYED: Duration = Duration::from_secs(6);
/// A read that takes longer has no answer.
const READ: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn address(pod: &Pod) -> Result<&str> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    address.with_context(|| format!("{} has no address", pod.name_any()))
}

async fn cut_from_operator(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "unseen").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let operators = install::operator_pods(&world.client).await?;
    let before = database.told("Degraded").await?;
    let at = ordeal.now();
    for operator in &operators {
        machines::cut_between(&world.target, address(operator)?, address(&master)?, false).await?;
    }
    let named = is_named(&database, &master.name_any(), &before, LASTS).await;
    sleep(LASTS.saturating_sub(ordeal.now().saturating_sub(at))).await;
    same_master(&database, &master, term).await?;
    machines::mend_all(&world.target).await?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    named?;
    Ok(end.finding())
}

/// The condition Degraded names the node within the time that the fault lasts, and so does an event that was not there
/// before.
async fn is_named(database: &Database, node: &str, before: &[String], lasts: Duration) -> Result<()> {
    until("condition and event that name it", lasts, async || {
        let (status, message) = database.condition("Degraded").await?;
        if status != "True" || !message.contains(node) {
            return Ok(Seen::NotYet(format!("Degraded is {status}, {message}")));
        }
        let events = database.told("Degraded").await?;
        let told = events
            .iter()
            .any(|event| event.contains(node) && !before.contains(event));
        Ok(if told {
            Seen::Done(())
        } else {
            Seen::NotYet(format!(
                "the condition is there, but no new event Degraded names {node}"
            ))
        })
    })
    .await
}

async fn cut_from_api_server(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    place::put_master(&database, Together::No).await?;
    let ordeal = Ordeal::begin(&database, "uncontrolled").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let machine = machines::machine_of(&master)?;
    let before = database.told("Degraded").await?;
    let at = ordeal.now();
    machines::cut_from_api_server(&world.target, machine).await?;
    let named = is_named(&database, &master.name_any(), &before, LOST).await;
    sleep(LOST.saturating_sub(ordeal.now().saturating_sub(at))).await;
    same_master(&database, &master, term).await?;
    machines::mend_all(&world.target).await?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    named?;
    Ok(end.finding())
}

async fn cut_from_slave(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "oneslave").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let slave = database.slave_pod().await?;
    let before = database.told("Degraded").await?;
    let at = ordeal.now();
    machines::cut_between(&world.target, address(&slave)?, address(&master)?, false).await?;
    let named = is_named(&database, &slave.name_any(), &before, LASTS).await;
    sleep(LASTS.saturating_sub(ordeal.now().saturating_sub(at))).await;
    machines::mend_all(&world.target).await?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    named?;
    Ok(end.finding())
}

/// A slave that does not run on the machine of the operator's leader, so that losing the machine is one fault.
async fn slave_apart(database: &Database) -> Result<Pod> {
    let leader = install::leader(&database.client).await?;
    let together = machines::machine_of(&leader)?.to_owned();
    let slaves = database.slave_pods().await?;
    let apart = slaves
        .into_iter()
        .find(|pod| machines::machine_of(pod).is_ok_and(|machine| machine != together));
    apart.context("every slave runs on the machine of the operator's leader")
}

/// Waits until the slaves' Service leads to `slave` no more.
pub async fn left_service(database: &Database, slave: &Pod) -> Result<()> {
    let address = address(slave)?.to_owned();
    until("slave that left the slaves' Service", LASTS, async || {
        let endpoints = database.endpoints(&names::slaves_service(&database.name)).await?;
        Ok(if endpoints.contains(&address) {
            Seen::NotYet(format!("{endpoints:?}"))
        } else {
            Seen::Done(())
        })
    })
    .await
}

async fn is_back(database: &Database, slave: &Pod) -> Result<()> {
    until("slave in the slaves' Service again", HEALED, async || {
        let address = address(&database.pod(&slave.name_any()).await?)?.to_owned();
        let endpoints = database.endpoints(&names::slaves_service(&database.name)).await?;
        Ok(if endpoints.contains(&address) {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{endpoints:?}"))
        })
    })
    .await
}

/// The longest time that the slaves' Service led to a node which answered no read at its own address; looks until
/// `stop`.
async fn strayed(database: Database, slave: Pod, stop: Arc<AtomicBool>) -> Result<Duration> {
    let at = database.at(address(&slave)?).await?;
    let (clock, mut open) = (Clock::start(), None);
    let (mut since, mut longest) = (None, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        if open.is_none() {
            open = sql::connect(&at, READ).await.ok();
        }
        let answers = match open.take() {
            None => false,
            Some(mut connection) => {
                let read = timeout(READ, sql::executed(&mut connection)).await;
                let good = matches!(read, Ok(Ok(_)));
                open = good.then_some(connection);
                good
            }
        };
        let endpoints = database.endpoints(&names::slaves_service(&database.name)).await;
        let leads = endpoints.is_ok_and(|all| all.contains(&at.host));
        if answers || !leads {
            since = None;
        } else {
            let since = *since.get_or_insert(clock.at());
            longest = longest.max(clock.at().saturating_sub(since));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(longest)
}

/// How a slave is ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Illness {
    /// It answers nothing until it is mended.
    Lasts,
    /// It mends itself.
    Passes,
    /// It answers, though slowly.
    Slows,
}

/// A slave is ill for a while and well again; the master stays.
async fn ill_slave(
    world: &World,
    name: &str,
    illness: Illness,
    ill: impl AsyncFn(&Pod) -> Result<()>,
    mend: impl AsyncFn(&Pod) -> Result<()>,
) -> Result<Finding> {
    let database = world.database().await?;
    let slave = slave_apart(&database).await?;
    let ordeal = Ordeal::begin(&database, name).await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let stop = Arc::new(AtomicBool::new(false));
    let straying = tokio::spawn(strayed(database.clone(), slave.clone(), Arc::clone(&stop)));
    let at = ordeal.now();
    ill(&slave).await?;
    let left = match illness {
        Illness::Lasts | Illness::Passes => left_service(&database, &slave).await,
        Illness::Slows => Ok(()),
    };
    if illness == Illness::Lasts {
        sleep(LASTS.saturating_sub(ordeal.now().saturating_sub(at))).await;
    }
    stop.store(true, Ordering::Relaxed);
    let strayed = straying.await??;
    mend(&slave).await?;
    is_back(&database, &slave).await?;
    let end = ordeal.end(at, HEALED).await?;
    left?;
    ensure!(
        strayed <= STRAYED,
        "the slaves' Service led to {} for {} ms while it answered nothing, more than {} ms",
        slave.name_any(),
        strayed.as_millis(),
        STRAYED.as_millis()
    );
    same_master(&database, &master, term).await?;
    if illness == Illness::Passes {
        end.nothing_cloned()?;
    }
    let note = format!(
        "the slaves' Service led to it for {} ms without an answer",
        strayed.as_millis()
    );
    Ok(end.finding().note(note))
}

async fn cut_slave(world: &World) -> Result<Finding> {
    ill_slave(
        world,
        "slavecut",
        Illness::Lasts,
        async |slave| {
            machines::break_machine(&world.target, machines::machine_of(slave)?, machines::Ill::Cut).await
        },
        async |slave| machines::mend_machine(&world.target, machines::machine_of(slave)?).await,
    )
    .await
}

async fn kill_slave(world: &World) -> Result<Finding> {
    let kill = async |slave: &Pod| faults::signal_mysqld(slave, Signal::SIGKILL);
    ill_slave(world, "slavekilled", Illness::Passes, kill, async |_| Ok(())).await
}

async fn freeze_slave(world: &World) -> Result<Finding> {
    ill_slave(
        world,
        "slavefrozen",
        Illness::Lasts,
        async |slave| faults::signal_mysqld(slave, Signal::SIGSTOP),
        // A server that was killed meanwhile because it did not obey has nothing to continue.
        async |slave| faults::signal_mysqld(slave, Signal::SIGCONT).or(Ok(())),
    )
    .await
}

async fn slow_slave(world: &World) -> Result<Finding> {
    let slow = async |slave: &Pod| {
        let pid = faults::process_of(slave, "mysqld")?;
        for _ in 0..100 {
            let sent = nix::sys::signal::kill(pid, Signal::SIGSTOP);
            ensure!(
                sent.is_ok(),
                "mysqld of {} ended because it was slow",
                slave.name_any()
            );
            sleep(Duration::from_millis(90)).await;
            nix::sys::signal::kill(pid, Signal::SIGCONT)?;
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    ill_slave(world, "slaveslow", Illness::Slows, slow, async |_| Ok(())).await
}
