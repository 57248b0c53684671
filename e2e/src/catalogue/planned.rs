//! Changes of master that somebody asked for, and the draining of a machine.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::names;
use futures::FutureExt;
use kube::ResourceExt;
use nix::sys::signal::{Signal, kill};
use tokio::time::{sleep, timeout};

use super::{
    Case, Finding, PLANNED, UNHURT,
    master::{one_failure_each, planned, same_master},
    place::{self, Together},
    steps::{self, Step},
};
use crate::{
    curl,
    database::Database,
    faults, keyed, machines,
    ordeal::{End, Ordeal},
    sql,
    storm::HEALED,
    tools::kubectl,
    world::World,
};

pub const CASES: &[Case] = &[
    Case {
        row: 22,
        part: "a",
        fault: "switchover to a named slave under load",
        expects: "it leads; no writer loses more than its one connection; nothing restarts",
        limit: Some(PLANNED),
        run: |world| to_named(world).boxed_local(),
    },
    Case {
        row: 22,
        part: "b",
        fault: "switchover to a slave that is more than 1000 transactions behind",
        expects: "refused with the reason",
        limit: Some(UNHURT),
        run: |world| to_lagging(world).boxed_local(),
    },
    Case {
        row: 22,
        part: "c",
        fault: "switchover to the master itself, and to a node that does not exist",
        expects: "nothing changes; the second is refused with the reason",
        limit: Some(UNHURT),
        run: |world| to_itself(world).boxed_local(),
    },
    Case {
        row: 22,
        part: "d",
        fault: "switchover to a slave whose mysqld is killed as soon as it began",
        expects: "a writable master within 5 s",
        limit: Some(Duration::from_secs(5)),
        run: |world| to_dying(world).boxed_local(),
    },
    Case {
        row: 22,
        part: "e",
        fault: "switchover under load through the data API",
        expects: "no request fails",
        limit: None,
        run: |world| through_the_data_api(world).boxed_local(),
    },
    Case {
        row: 23,
        part: "a",
        fault: "switchover while a statement runs 4 s",
        expects: "the statement finishes, then another node leads",
        limit: Some(Duration::from_secs(7)),
        run: |world| with_statement(world, 4).boxed_local(),
    },
    Case {
        row: 23,
        part: "b",
        fault: "switchover while a statement runs 60 s",
        expects: "at the deadline of 5 s the statement is ended and a node leads",
        limit: Some(Duration::from_secs(8)),
        run: |world| with_statement(world, 60).boxed_local(),
    },
    Case {
        row: 23,
        part: "c",
        fault: "switchover while a transaction is left open",
        expects: "a node leads within the deadline; the transaction fails and leaves nothing",
        limit: Some(Duration::from_secs(8)),
        run: |world| with_transaction(world).boxed_local(),
    },
    Case {
        row: 24,
        part: "",
        fault: "kubectl drain of the master's machine",
        expects: "a switchover, then the drain finishes; all is Ready after uncordon",
        limit: Some(PLANNED),
        run: |world| drain(world).boxed_local(),
    },
];

async fn ask(world: &World, database: &Database, node: &str) -> Result<()> {
    faults::ask_to_promote(&world.client, &database.namespace, &database.name, node).await
}

async fn to_named(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "switch").await?;
    let (heir, term) = (database.slave_pod().await?.name_any(), ordeal.term);
    let at = ordeal.now();
    ask(world, &database, &heir).await?;
    let end = ordeal.end_changed(at, HEALED).await?;
    leads(&end, &heir)?;
    planned(&database, term).await?;
    one_failure_each(&end)?;
    let restarted = end.restarted();
    ensure!(restarted.is_empty(), "restarted: {}", restarted.join(", "));
    Ok(end.finding())
}

/// Requests that arrive while nobody leads wait for the new master, so nobody sees the change but as a pause.
async fn through_the_data_api(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let (_, client) = curl::client(&database, "writer").await?;
    let heir = database.slave_pod().await?.name_any();
    let term = database.status().await?.record.term.0;
    let written = keyed::write_through(&client, "row_switch_api", 3, async {
        ask(world, &database, &heir).await?;
        database.wait_led(term, HEALED).await.map(drop)
    })
    .await?;
    let master = database.master_pod().await?.name_any();
    ensure!(master == heir, "{master} leads instead of {heir}");
    written
        .are_everywhere(&database, "row_switch_api", HEALED)
        .await?;
    Ok(Finding {
        outage: None,
        notes: vec![written.sentence()],
    })
}

fn leads(end: &End, node: &str) -> Result<()> {
    let master = end.master().context("no master")?;
    ensure!(master.name == node, "{} leads instead of {node}", master.name);
    Ok(())
}

async fn to_lagging(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "lagging").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let slave = database.slave_pod().await?;
    // Received is enough to lead, so what it has not even received is what counts.
    for pod in [&master] {
        let ips = [address(&slave)?, address(pod)?];
        machines::cut_between(&world.target, &ips[0], &ips[1], false).await?;
    }
    let at = ordeal.now();
    ordeal.writers().wait_for_more(1500, HEALED).await?;
    ask(world, &database, &slave.name_any()).await?;
    let answer = database.answer(&slave.name_any(), HEALED).await;
    machines::mend_all(&world.target).await?;
    ensure!(!answer?.done, "a slave far behind was said to lead");
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    let message = database
        .status()
        .await?
        .last_request
        .map(|request| request.message);
    Ok(Finding {
        outage: None,
        ..end.finding().note(message.unwrap_or_default())
    })
}

fn address(pod: &k8s_openapi::api::core::v1::Pod) -> Result<String> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    address.with_context(|| format!("{} has no address", pod.name_any()))
}

async fn to_itself(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "itself").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let at = ordeal.now();
    ask(world, &database, &master.name_any()).await?;
    database.wait_taken(names::ANNOTATION_PROMOTE, HEALED).await?;
    ask(world, &database, "nobody-7").await?;
    ensure!(
        !database.answer("nobody-7", HEALED).await?.done,
        "a node that does not exist was said to lead"
    );
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    Ok(end.finding())
}

async fn to_dying(world: &World) -> Result<Finding> {
    steps::landed("its heir was", async || kill_heir(world).await).await
}

/// None where the switchover was complete before its heir was killed.
async fn kill_heir(world: &World) -> Result<Option<Finding>> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "dying").await?;
    let (master, heir) = (database.master_pod().await?, database.slave_pod().await?);
    let (name, term) = (heir.name_any(), ordeal.term);
    let server = faults::process_of(&heir, "mysqld")?;
    let mut begun = steps::shown(&database, &master, term, Step::Recorded).await?;
    steps::settle(&mut begun).await?;
    let at = ordeal.now();
    ask(world, &database, &name).await?;
    let waited = timeout(HEALED, &mut begun).await;
    waited.context("the switchover never began")?;
    kill(server, Signal::SIGKILL).context("killing mysqld of the heir")?;
    // The operator lives: it may have begun the next change by now, even completed it, but not with this one as its master.
    let changes = database.status().await?.last_failovers;
    let mut changes = changes.iter().map(|entry| &entry.change);
    let was_led = changes.any(|change| change.term.0 > term && change.master.as_str() == name);
    let end = ordeal.end_changed(at, HEALED).await?;
    Ok((!was_led).then(|| end.finding()))
}

async fn with_statement(world: &World, seconds: u64) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "statement").await?;
    let (heir, term) = (database.slave_pod().await?.name_any(), ordeal.term);
    let mut connection = database.master_connection().await?;
    let statement = sql::insert_slowly(&mut connection, "row_statement.writes", -7, seconds);
    let at = ordeal.now();
    let (answer, changed) = futures::join!(timeout(Duration::from_secs(seconds + 10), statement), async {
        sleep(Duration::from_millis(500)).await;
        ask(world, &database, &heir).await?;
        database.wait_led(term, HEALED).await
    });
    changed?;
    let finished = matches!(answer, Ok(Ok(())));
    let end = ordeal.end(at, HEALED).await?;
    planned(&database, term).await?;
    if seconds < 5 {
        ensure!(
            finished,
            "the statement was ended though it was within the deadline: {answer:?}"
        );
        leads(&end, &heir)?;
    } else {
        ensure!(
            !finished,
            "a statement of {seconds} s finished within a switchover of 5 s"
        );
    }
    Ok(end.finding())
}

async fn with_transaction(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "transaction").await?;
    let (heir, term) = (database.slave_pod().await?.name_any(), ordeal.term);
    let mut connection = database.master_connection().await?;
    sql::begin(&mut connection).await?;
    sql::insert_write(&mut connection, "row_transaction.writes", -7).await?;
    let at = ordeal.now();
    ask(world, &database, &heir).await?;
    database.wait_led(term, HEALED).await?;
    ensure!(
        sql::commit(&mut connection).await.is_err(),
        "a transaction that was open over a change of master was committed"
    );
    let mut reader = database.master_connection().await?;
    let left = sql::ids(&mut reader, "row_transaction.writes")
        .await?
        .contains_key(&-7);
    let end = ordeal.end(at, HEALED).await?;
    planned(&database, term).await?;
    ensure!(!left, "the row of the transaction that failed is there");
    Ok(end.finding())
}

async fn drain(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    place::put_master(&database, Together::No).await?;
    let ordeal = Ordeal::begin(&database, "drain").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let machine = machines::machine_of(&master)?.to_owned();
    let at = ordeal.now();
    let context = world.target.context.as_deref();
    let drained = kubectl(
        context,
        &[
            "drain",
            &machine,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=120s",
        ],
    )
    .await;
    let took = ordeal.now().saturating_sub(at);
    kubectl(context, &["uncordon", &machine]).await?;
    drained.context("draining")?;
    let end = ordeal.end_changed(at, HEALED).await?;
    planned(&database, term).await?;
    Ok(end
        .finding()
        .note(format!("drained after {} ms", took.as_millis())))
}
