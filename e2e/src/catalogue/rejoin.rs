//! Slaves that lag, err or need purged logs; and the known wounds of other systems.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::kept::GivenUp;
use failover::GtidSet;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use sqlx::mysql::MySqlConnection;
use tokio::time::{sleep, timeout};

use super::{
    Case, Finding, KILLED, UNHURT,
    master::{is_slave, same_master},
    paths::left_service,
    steps,
    volumes::{Life, copied_anew, new_life},
};
use crate::{
    database::Database,
    faults::{self, Deletion},
    inside, install, machines,
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
        expects: "named in status; the node is cloned, holds it no more, and keeps it in a file that status names",
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
    let name = slave.name_any();
    let schema = "row_errant_extra";
    let at = ordeal.now();
    let extra = write_extra(&slave, schema).await?;
    // Why it is cloned is in status only until the copy begins; that it is, as long as the copy lasts.
    let (told, ()) = futures::try_join!(
        cloned_without(&database, &name, &extra),
        named(&database, &name, "cloned")
    )?;
    let end = ordeal.end(at, HEALED).await?;
    same_master(&database, &master, term).await?;
    let pod = database.pod(&name).await?;
    ensure!(
        !sql::has_schema(&mut inside::administrator(&pod).await?, schema).await?,
        "{name} was cloned and still has the schema {schema}"
    );
    is_kept(&database, &pod, &extra).await?;
    Ok(end.finding().note(told))
}

/// Writes a transaction on a slave that its master does not have; gives the transaction.
async fn write_extra(slave: &Pod, schema: &str) -> Result<GtidSet> {
    let mut administrator = inside::administrator(slave).await?;
    let own = sql::setting(&mut administrator, "server_uuid").await?;
    let before: GtidSet = sql::executed(&mut administrator).await?.parse()?;
    let after: GtidSet = sql::write_errant(&mut administrator, schema).await?.parse()?;
    // The master's own come in meanwhile.
    let added = after.subtract(&before);
    let extra = added.subtract(&added.without_server(&own));
    ensure!(
        extra.count() == 1,
        "{} wrote {extra} of its own, not one transaction",
        slave.name_any()
    );
    Ok(extra)
}

/// Waits for the event that the node was cloned because of this transaction.
async fn cloned_without(database: &Database, node: &str, extra: &GtidSet) -> Result<String> {
    let extra = extra.to_string();
    until("event Cloned that names the transaction", HEALED, async || {
        let told = events(database, "Cloned", node).await?;
        let found = told.into_iter().find(|message| message.contains(&extra));
        Ok(found.map_or_else(|| Seen::NotYet(format!("none with {extra}")), Seen::Done))
    })
    .await
}

/// Where nodes keep what they gave up.
const TAILS: &str = "/var/lib/ddb/tails/";

/// Waits until status names the transaction among what the node keeps; the file that it names must be there and hold it.
async fn is_kept(database: &Database, pod: &Pod, extra: &GtidSet) -> Result<()> {
    let node = pod.name_any();
    let kept = until("status that names what was kept", HEALED, async || {
        let mut nodes = database.status().await?.nodes.into_iter();
        let of_node = nodes.find(|it| it.name.as_str() == node);
        let kept = of_node.and_then(|it| it.kept).unwrap_or_default();
        Ok(match kept.about(extra) {
            Some(one) => Seen::Done(one.clone()),
            None => Seen::NotYet(format!("{kept:?}")),
        })
    })
    .await?;
    ensure!(
        kept.transactions.contains(extra) && kept.reason == GivenUp::Extra,
        "{node} does not keep {extra} as what the master lacked: {kept:?}"
    );
    let file = kept.file.context("nothing was kept as a file")?;
    ensure!(
        file.starts_with(TAILS),
        "{file} is not below {TAILS}, where no clone reaches it"
    );
    let log = inside::file(pod, &file)?;
    ensure!(
        u64::try_from(log.len())? == kept.bytes,
        "{file} of {node} has {} bytes, status says {}",
        log.len(),
        kept.bytes
    );
    let name = in_log(extra)?;
    ensure!(
        log.windows(name.len()).any(|part| part == name),
        "{file} of {node} does not hold {extra}"
    );
    Ok(())
}

/// A transaction's name as binary logs have it: the sixteen bytes of the server, then the number.
fn in_log(one: &GtidSet) -> Result<Vec<u8>> {
    let text = one.to_string();
    let (server, number) = text.split_once(':').context("no transaction")?;
    let number: u64 = number.parse().context("more than one transaction")?;
    let server = u128::from_str_radix(&server.replace('-', ""), 16)?;
    Ok([server.to_be_bytes().as_slice(), &number.to_le_bytes()].concat())
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
    steps::landed("both operators were", async || break_off(world).await).await
}

/// None where the failover was complete before the operators were killed.
async fn break_off(world: &World) -> Result<Option<Finding>> {
    let database = world.database().await?;
    let ordeal = Ordeal::begin(&database, "brokenoff").await?;
    let master = database.master_pod().await?;
    let operators = install::operator_pods(&world.client).await?;
    let processes = operators
        .iter()
        .map(|pod| faults::process_of(pod, install::PROCESS));
    let processes = processes.collect::<Result<Vec<Pid>>>()?;
    let mut fenced = steps::all_fenced(&database, &master, ordeal.term).await?;
    steps::settle(&mut fenced).await?;
    let at = ordeal.now();
    faults::signal_mysqld(&master, Signal::SIGSTOP)?;
    let waited = timeout(HEALED, &mut fenced).await;
    // Nothing is waited for in between: the failover goes on meanwhile.
    let killed: nix::Result<Vec<()>> = processes
        .into_iter()
        .map(|process| kill(process, Signal::SIGKILL))
        .collect();
    // A server that was killed meanwhile because it did not obey has nothing to continue.
    let _ = faults::signal_mysqld(&master, Signal::SIGCONT);
    waited.context("the slaves were never fenced")?;
    killed.context("killing an operator")?;
    let pods = Api::namespaced(world.client.clone(), install::NAMESPACE);
    for pod in &operators {
        // A restart in place would be delayed by the kubelet from time to time.
        faults::delete_pod(&pods, pod, Deletion::Forced).await?;
    }
    let was_open = steps::is_open(&database, ordeal.term).await?;
    install::wait_ready(&world.client).await?;
    let end = ordeal.end(at, HEALED).await?;
    Ok(was_open.then(|| Finding {
        outage: None,
        ..end.finding()
    }))
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
    let mut before = Vec::new();
    for slave in &slaves {
        before.push(Life::of(&database, slave).await?);
    }
    let at = ordeal.now();
    for slave in &slaves {
        faults::delete_pod_and_volumes(&world.client, slave).await?;
    }
    for old in &before {
        new_life(&database, old).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_sought_in_a_log_by_its_bytes() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let name = in_log(&GtidSet::new().with(uuid, 258, 258)).unwrap();
        assert_eq!(name.len(), 24);
        assert_eq!(name[..4], [0x3e, 0x11, 0xfa, 0x47]);
        assert_eq!(name[15..], [0x62, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert!(in_log(&GtidSet::new().with(uuid, 1, 2)).is_err());
        assert!(in_log(&GtidSet::new()).is_err());
    }
}
