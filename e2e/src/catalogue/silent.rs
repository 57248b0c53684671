//! The master answers nothing, or is heard by nobody: frozen, its storage hung, its machine cut off, lost together with
//! the operator's leader.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};

use super::{
    Case, Finding, SILENT, WITH_OPERATOR,
    master::is_slave,
    place::{self, Together},
};
use crate::{
    clock::Clock,
    faults::{self, Deletion},
    inside, install,
    machines::{self, Ill},
    ordeal::Ordeal,
    storm::HEALED,
    terms,
    world::World,
};

pub const CASES: &[Case] = &[
    Case {
        row: 6,
        part: "",
        fault: "SIGSTOP of mysqld in the master, SIGCONT 30 s later",
        expects: "failover; the thawed server acknowledges nothing and follows",
        limit: Some(SILENT),
        run: |world| stop(world).boxed_local(),
    },
    Case {
        row: 7,
        part: "",
        fault: "writes to the master's volume hang for 20 s, its connections answer",
        expects: "failover",
        limit: Some(SILENT),
        run: |world| hang_storage(world).boxed_local(),
    },
    Case {
        row: 8,
        part: "",
        fault: "the cable of the master's machine unplugged, plugged in 60 s later",
        expects: "failover; the isolated side acknowledges nothing, closes itself and soon has no clients; it follows when it is back",
        limit: Some(SILENT),
        run: |world| cut_machine(world).boxed_local(),
    },
    Case {
        row: 12,
        part: "a",
        fault: "the operator's leader and mysqld of the master killed together",
        expects: "the standby replaces the master within the budget for it",
        limit: Some(WITH_OPERATOR),
        run: |world| kill_with_operator(world).boxed_local(),
    },
    Case {
        row: 12,
        part: "b",
        fault: "the machine of both the operator's leader and the master cut off",
        expects: "the standby replaces the master within the budget for it",
        limit: Some(WITH_OPERATOR),
        run: |world| cut_with_operator(world).boxed_local(),
    },
];

/// After the isolated master's last contact, the longest time that it may take new statements of clients.
const GUARD: Duration = Duration::from_secs(10);
/// From the cut to the moment in which the node says that its guard has closed it, which is meant to take two seconds; on
/// a machine that is busy with all that the cut sets off.
const CLOSED: Duration = Duration::from_secs(4);
/// How often the node is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// When the node's own metric first says that its guard has closed it, asked within its pod's network; none where it
/// never says so while it is isolated.
async fn closed_itself(master: &Pod, clock: Clock) -> Result<Option<Duration>> {
    inside::client(master, async move || {
        let end = clock.at() + GUARD;
        while clock.at() < end {
            let answer = timeout(ASK_EVERY * 4, terms::ask("127.0.0.1", "ddb_node_closed")).await;
            if matches!(answer, Ok(Ok(1))) {
                return Ok(Some(clock.at()));
            }
            sleep(ASK_EVERY).await;
        }
        Ok(None)
    })
    .await
}

async fn stop(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "frozen").await?;
    let master = database.master_pod().await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGSTOP)?;
    let led = database.wait_led(ordeal.term, HEALED).await;
    sleep(Duration::from_secs(30).saturating_sub(ordeal.now().saturating_sub(at))).await;
    let thawed = ordeal.now();
    // A server that was killed meanwhile because it did not obey has nothing to continue.
    let _ = faults::signal_mysqld(&master, Signal::SIGCONT);
    led?;
    let end = ordeal.end(at, HEALED).await?;
    end.told.acknowledged_before(&master.name_any(), at)?;
    let late = end.told.acknowledged_since(&master.name_any(), thawed);
    ensure!(late == 0, "the thawed server acknowledged {late} writes");
    is_slave(&end, &master)?;
    Ok(end.finding())
}

async fn hang_storage(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "storage").await?;
    let master = database.master_pod().await?;
    let hang = faults::hang_storage(&master)?;
    let at = ordeal.now();
    let before = ordeal.writers().acknowledged();
    let led = database.wait_led(ordeal.term, Duration::from_secs(20)).await;
    let after = ordeal.writers().acknowledged();
    sleep(Duration::from_secs(20).saturating_sub(ordeal.now().saturating_sub(at))).await;
    hang.release()?;
    if led.is_err() {
        // Without this a fault that does nothing would look like a failover that was missed.
        ensure!(
            after < before + 50,
            "the storage did not hang: {} writes went on",
            after - before
        );
    }
    led?;
    let end = ordeal.end(at, HEALED).await?;
    is_slave(&end, &master)?;
    Ok(end.finding())
}

async fn cut_machine(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    place::put_master(&database, Together::No).await?;
    let ordeal = Ordeal::begin(&database, "cut").await?;
    let master = database.master_pod().await?;
    let machine = machines::machine_of(&master)?.to_owned();
    let before = ordeal.now();
    machines::break_machine(&world.target, &machine, Ill::Cut).await?;
    let at = ordeal.now();
    let (closed, led) = futures::join!(
        closed_itself(&master, ordeal.clock()),
        database.wait_led(ordeal.term, HEALED)
    );
    sleep(Duration::from_mins(1).saturating_sub(ordeal.now().saturating_sub(at))).await;
    let healed = ordeal.now();
    machines::mend_machine(&world.target, &machine).await?;
    led?;
    let end = ordeal.end(at, HEALED).await?;
    is_slave(&end, &master)?;
    let name = master.name_any();
    let closed = closed?.with_context(|| format!("{name} never said that its guard had closed it"))?;
    let closed = closed.saturating_sub(at);
    ensure!(
        closed <= CLOSED,
        "the isolated master closed itself after {} ms, more than {} ms",
        closed.as_millis(),
        CLOSED.as_millis()
    );
    end.told.acknowledged_before(&name, before)?;
    // One write may be under way when the cable is pulled.
    let grace = at + Duration::from_millis(200);
    let isolated = end.told.acknowledged_since(&name, grace);
    ensure!(
        isolated == 0,
        "the isolated master acknowledged {isolated} writes"
    );
    let last = end.told.last_taken(&name, healed).unwrap_or(at);
    let taken_for = last.saturating_sub(at);
    ensure!(
        taken_for <= GUARD,
        "the isolated master took statements of clients for {} ms, more than {} ms",
        taken_for.as_millis(),
        GUARD.as_millis()
    );
    Ok(end.finding().note(format!(
        "the isolated master closed itself after {} ms; its clients' last statement was taken after {} ms",
        closed.as_millis(),
        taken_for.as_millis()
    )))
}

async fn kill_with_operator(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "both").await?;
    let master = database.master_pod().await?;
    let leader = install::leader(&world.client).await?;
    let at = ordeal.now();
    faults::signal_process(&leader, install::PROCESS, Signal::SIGKILL)?;
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    // A new pod instead of a restart in place, which the kubelet would delay from time to time.
    let pods = Api::namespaced(world.client.clone(), install::NAMESPACE);
    faults::delete_pod(&pods, &leader, Deletion::Forced).await?;
    let end = ordeal.end_changed(at, HEALED).await?;
    is_slave(&end, &master)?;
    install::wait_ready(&world.client).await?;
    Ok(end.finding())
}

async fn cut_with_operator(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    place::put_master(&database, Together::Yes).await?;
    let ordeal = Ordeal::begin(&database, "bothcut").await?;
    let master = database.master_pod().await?;
    let machine = machines::machine_of(&master)?.to_owned();
    machines::break_machine(&world.target, &machine, Ill::Cut).await?;
    let at = ordeal.now();
    let led = database.wait_led(ordeal.term, HEALED).await;
    machines::mend_machine(&world.target, &machine).await?;
    led?;
    let end = ordeal.end(at, HEALED).await?;
    is_slave(&end, &master)?;
    Ok(end.finding())
}
