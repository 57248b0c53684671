//! Slaves that lag, err or need purged logs; and the known wounds of other systems.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::mysql::MySqlConnection;
use tokio::time::{sleep, timeout};

use super::{
    Case, Finding, KILLED, UNHURT,
    master::{is_slave, same_master},
    operator,
    paths::left_service,
    volumes::{copied_anew, new_life},
};
use crate::{
    database::{Database, Node},
    faults, inside, install, machines,
    ordeal::Ordeal,
    sql,
    storm::HEALED,
    wait::{Seen, until},
    world::World,
};

pub const CASES: &[Case] = &[
    Case {
        row: 16,
        part: "a",
        fault: "one slave's applier blocked under load, then mysqld of the master killed",
        expects: "the other slave leads, because it needs no time to apply; or the old master, if it is back with what only \
            the blocked one received",
        limit: Some(Duration::from_secs(12)),
        run: |world| backlog_on_one(world).boxed_local(),
    },
    Case {
        row: 16,
        part: "b",
        fault: "both slaves' appliers blocked under load, then mysqld of the master killed",
        expects: "the backlog is applied before the new master accepts writes",
        limit: Some(Duration::from_secs(15)),
        run: |world| backlog_on_both(world).boxed_local(),
    },
    Case {
        row: 17,
        part: "a",
        fault: "a row written on a slave by its administrator, errantPolicy Repair",
        expects: "named in status; the node is cloned, and says what it held",
        limit: Some(UNHURT),
        run: |world| errant(world).boxed_local(),
    },
    Case {
        row: 17,
        part: "b",
        fault: "a row written on a slave by its administrator, errantPolicy Quarantine",
        expects: "named in status and held, until the policy is changed",
        limit: Some(UNHURT),
        run: |world| quarantined(world).boxed_local(),
    },
    Case {
        row: 18,
        part: "",
        fault: "a slave parted from the others, the logs that it lacks purged, the slave back",
        expects: "it is cloned",
        limit: Some(Duration::from_secs(2)),
        run: |world| purged(world).boxed_local(),
    },
    Case {
        row: 35,
        part: "",
        fault: "one slave parted, the other's applier blocked, mysqld of the master killed, the first slave back",
        expects: "no repair throws the relay logs away that alone hold the newest writes",
        limit: None,
        run: |world| only_holder(world).boxed_local(),
    },
    Case {
        row: 36,
        part: "",
        fault: "one write on an idle master whose slaves receive it and cannot answer for 5 s",
        expects: "the write is acknowledged soon after, though nothing else is written",
        limit: None,
        run: |world| lost_acknowledgement(world).boxed_local(),
    },
    Case {
        row: 37,
        part: "",
        fault: "mysqld of the master stopped until its slaves are fenced, then both operators killed and mysqld continued",
        expects: "the slaves receive again and writes go on, whoever leads",
        limit: None,
        run: |world| broken_off(world).boxed_local(),
    },
    Case {
        row: 38,
        part: "a",
        fault: "rows written on both slaves by their administrators at once",
        expects: "both are cloned, neither waits for the other for ever",
        limit: Some(Duration::from_secs(30)),
        run: |world| both_errant(world).boxed_local(),
    },
    Case {
        row: 38,
        part: "b",
        fault: "volumes and pods of both slaves deleted under load",
        expects: "the master is copied though commits wait there, and writes go on",
        limit: Some(Duration::from_mins(1)),
        run: |world| both_empty(world).boxed_local(),
    },
    Case {
        row: 40,
        part: "",
        fault: "a row removed on a slave behind its back, then at the master: error 1032 stops the applier",
        expects: "named in status, not read from, never leads; copied anew as documented",
        // As long as the old master takes to come back, where it is needed.
        limit: Some(Duration::from_secs(10)),
        run: |world| stopped_applier(world).boxed_local(),
    },
];

/// Holds the applier of a slave for as long as this lives: it waits for a lock that a session of the administrator has.
struct Blocked {
    _session: MySqlConnection,
}

async fn block(slave: &Pod, table: &str) -> Result<Blocked> {
    let mut session = inside::administrator(slave).await?;
    sql::lock_table(&mut session, table).await?;
    Ok(Blocked { _session: session })
}

async fn backlog_on_one(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "backlog").await?;
    let master = database.master_pod().await?;
    let slaves = database.slave_pods().await?;
    let [lagging, other] = slaves.as_slice() else {
        anyhow::bail!("{} slaves", slaves.len());
    };
    let blocked = block(lagging, "row_backlog.writes").await?;
    ordeal.writers().wait_for_more(500, HEALED).await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    let led = database.wait_led(ordeal.term, HEALED).await;
    drop(blocked);
    led?;
    let next = database.master_pod().await?.name_any();
    // The blocked one may have received what the other had not; then the old master has to come back.
    ensure!(
        next != lagging.name_any(),
        "{next} leads, which had not applied what it received"
    );
    let end = ordeal.end_changed(at, HEALED).await?;
    let finding = end.finding();
    if next == other.name_any() {
        is_slave(&end, &master)?;
        ensure!(
            finding.outage.is_none_or(|outage| outage <= KILLED),
            "{next} had nothing to apply, and yet writes were out for {:?}",
            finding.outage
        );
    }
    Ok(finding)
}

async fn backlog_on_both(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "backlogs").await?;
    let master = database.master_pod().await?;
    let mut blocked = Vec::new();
    for slave in database.slave_pods().await? {
        blocked.push(block(&slave, "row_backlogs.writes").await?);
    }
    ordeal.writers().wait_for_more(500, HEALED).await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    sleep(Duration::from_secs(2)).await;
    drop(blocked);
    let end = ordeal.end_changed(at, HEALED).await?;
    is_slave(&end, &master)?;
    Ok(end.finding())
}

/// Waits for an event of this reason about this node that was not there before.
async fn event(database: &Database, reason: &str, node: &str, before: usize) -> Result<String> {
    event_within(HEALED, database, reason, node, before).await
}

/// The same within `limit`.
pub async fn event_within(
    limit: Duration,
    database: &Database,
    reason: &str,
    node: &str,
    before: usize,
) -> Result<String> {
    until(&format!("event {reason} of {node}"), limit, async || {
        let found = events(database, reason, node).await?;
        Ok(match found.into_iter().nth(before) {
            Some(message) => Seen::Done(message),
            None => Seen::NotYet("no such event".to_owned()),
        })
    })
    .await
}

/// What the events of this reason say of this node.
pub async fn events(database: &Database, reason: &str, node: &str) -> Result<Vec<String>> {
    let events = database.events().await?.into_iter();
    let of_node = events.filter(|(of, message)| of == reason && message.contains(node));
    Ok(of_node.map(|(_, message)| message).collect())
}

async fn errant(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "errant").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let slave = database.slave_pod().await?;
    let before = events(&database, "Cloned", &slave.name_any()).await?.len();
    let at = ordeal.now();
    sql::write_errant(&mut inside::administrator(&slave).await?, "row_errant_extra").await?;
    let told = event(&database, "Cloned", &slave.name_any(), before).await?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    Ok(end.finding().note(told))
}

async fn named(database: &Database, node: &str, words: &str) -> Result<()> {
    until("status that names it", HEALED, async || {
        let status = database.status().await?;
        let of_node = status.nodes.iter().find(|it| it.name.as_str() == node);
        let message = of_node.map(|it| it.message.clone()).unwrap_or_default();
        let (_, condition) = database.condition("Degraded").await?;
        Ok(
            if condition.contains(node) && (message.contains(words) || condition.contains(words)) {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("node: {message}; Degraded: {condition}"))
            },
        )
    })
    .await
}

async fn quarantined(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "held").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let slave = database.slave_pod().await?;
    let policy = |policy: &str| json!({"spec": {"failover": {"errantPolicy": policy}}});
    database.patch(policy("Quarantine")).await?;
    database.wait_healthy(HEALED).await?;
    let at = ordeal.now();
    sql::write_errant(&mut inside::administrator(&slave).await?, "row_held_extra").await?;
    // What stands is held when the node would have to follow anew, as after a restart.
    let told = named(&database, &slave.name_any(), "transactions that the master lacks").await;
    let cloned = events(&database, "Cloned", &slave.name_any()).await?.len();
    sleep(Duration::from_secs(5)).await;
    let still = events(&database, "Cloned", &slave.name_any()).await?.len();
    database.patch(policy("Repair")).await?;
    event(&database, "Cloned", &slave.name_any(), still).await?;
    let end = ordeal.end(at, HEALED).await?;
    told?;
    ensure!(cloned == still, "the held node was cloned");
    same_master(&database, &master, term).await?;
    Ok(end.finding())
}

fn address(pod: &Pod) -> Result<&str> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    address.with_context(|| format!("{} has no address", pod.name_any()))
}

/// No packet passes between this node and the two others; the operator still reaches it.
async fn part(world: &World, node: &Pod, others: &[&Pod]) -> Result<()> {
    for other in others {
        machines::cut_between(&world.target, address(node)?, address(other)?, false).await?;
    }
    Ok(())
}

async fn purged(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "purged").await?;
    let (master, term) = (database.master_pod().await?, ordeal.term);
    let slaves = database.slave_pods().await?;
    let [slave, other] = slaves.as_slice() else {
        anyhow::bail!("{} slaves", slaves.len());
    };
    let before = events(&database, "Cloned", &slave.name_any()).await?.len();
    let at = ordeal.now();
    part(world, slave, &[&master, other]).await?;
    ordeal.writers().wait_for_more(200, HEALED).await?;
    // Before the slave has given its silent connection up, TCP would bring what was sent meanwhile.
    sleep(Duration::from_secs(3)).await;
    for pod in [&master, other] {
        sql::purge_logs(&mut inside::administrator(pod).await?, address(slave)?).await?;
    }
    machines::mend_all(&world.target).await?;
    let told = event(&database, "Cloned", &slave.name_any(), before).await?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    Ok(end.finding().note(told))
}

async fn only_holder(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "holder").await?;
    let master = database.master_pod().await?;
    let slaves = database.slave_pods().await?;
    let [absent, holder] = slaves.as_slice() else {
        anyhow::bail!("{} slaves", slaves.len());
    };
    let at = ordeal.now();
    part(world, absent, &[&master, holder]).await?;
    let blocked = block(holder, "row_holder.writes").await?;
    ordeal.writers().wait_for_more(200, HEALED).await?;
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    machines::mend_all(&world.target).await?;
    sleep(Duration::from_secs(3)).await;
    drop(blocked);
    let end = ordeal.end_changed(at, HEALED).await?;
    Ok(Finding {
        outage: None,
        ..end.finding()
    })
}

async fn lost_acknowledgement(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let mut connection = database.master_connection().await?;
    sql::create_writes(&mut connection, "row_idle.writes").await?;
    let (master, slaves) = (database.master_pod().await?, database.slave_pods().await?);
    let term = database.status().await?.record.term.0;
    for slave in &slaves {
        machines::cut_between(&world.target, address(slave)?, address(&master)?, true).await?;
    }
    let clock = world.clock;
    let begun = clock.at();
    let write = sql::insert_write(&mut connection, "row_idle.writes", 1);
    let (answer, mended) = futures::join!(timeout(Duration::from_secs(30), write), async {
        sleep(Duration::from_secs(5)).await;
        machines::mend_all(&world.target).await
    });
    mended?;
    let took = clock.at().saturating_sub(begun);
    answer.context("the write hangs though the slaves are back")??;
    ensure!(
        took >= Duration::from_secs(5),
        "the write was acknowledged by nobody who could"
    );
    database.wait_healthy(HEALED).await?;
    same_master(&database, &master, term).await?;
    sql::drop_schema(&mut connection, "row_idle").await?;
    Ok(Finding::default().note(format!("acknowledged {} ms after it was sent", took.as_millis())))
}

async fn broken_off(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "brokenoff").await?;
    let master = database.master_pod().await?;
    let operators = install::operator_pods(&world.client).await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGSTOP)?;
    database.wait_term(ordeal.term, HEALED).await?;
    for pod in &operators {
        operator::kill_operator(world, pod).await?;
    }
    // A server that was killed meanwhile because it did not obey has nothing to continue.
    let _ = faults::signal_mysqld(&master, Signal::SIGCONT);
    install::wait_ready(&world.client).await?;
    let end = ordeal.end(at, HEALED).await?;
    Ok(Finding {
        outage: None,
        ..end.finding()
    })
}

async fn both_errant(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "twoerrant").await?;
    let slaves = database.slave_pods().await?;
    let mut before = Vec::new();
    for slave in &slaves {
        before.push(events(&database, "Cloned", &slave.name_any()).await?.len());
    }
    let at = ordeal.now();
    for slave in &slaves {
        let schema = format!("extra_{}", slave.name_any().replace('-', "_"));
        sql::write_errant(&mut inside::administrator(slave).await?, &schema).await?;
    }
    for (slave, before) in slaves.iter().zip(before) {
        event(&database, "Cloned", &slave.name_any(), before).await?;
    }
    Ok(ordeal.end(at, HEALED).await?.finding())
}

async fn both_empty(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "bothempty").await?;
    let master = database.master_pod().await?;
    let slaves = database.slave_pods().await?;
    let at = ordeal.now();
    for slave in &slaves {
        faults::delete_pod_and_volumes(&world.client, slave).await?;
    }
    for slave in &slaves {
        new_life(&database, &Node::from(slave)).await?;
    }
    let end = ordeal.end(at, HEALED).await?;
    ensure!(
        end.master().is_some_and(|node| node.name == master.name_any()),
        "an empty node leads"
    );
    Ok(end.finding())
}

async fn stopped_applier(world: &World) -> Result<Finding> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "stopped").await?;
    let master = database.master_pod().await?;
    let slave = database.slave_pod().await?;
    let mut at_master = database.master_connection().await?;
    sql::create_writes(&mut at_master, "row_stopped.victim").await?;
    sql::insert_write(&mut at_master, "row_stopped.victim", 1).await?;
    let at = ordeal.now();
    let mut administrator = inside::administrator(&slave).await?;
    sql::wait_executed(&mut administrator, &sql::executed(&mut at_master).await?, 20).await?;
    sql::delete_unlogged(&mut administrator, "row_stopped.victim").await?;
    sql::delete_all(&mut at_master, "row_stopped.victim").await?;
    named(&database, &slave.name_any(), "does not execute").await?;
    left_service(&database, &slave).await?;
    faults::signal_mysqld(&master, Signal::SIGKILL)?;
    // Where only this slave had received the last write, that is the old master.
    database.wait_led(ordeal.term, HEALED).await?;
    let next = database.master_pod().await?.name_any();
    copied_anew(&database, &slave).await?;
    let end = ordeal.end(at, HEALED).await?;
    ensure!(
        next != slave.name_any(),
        "the node with the stopped applier leads"
    );
    Ok(end.finding())
}
