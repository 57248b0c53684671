//! The master lost in every way that is one command: a slave takes over, nothing acknowledged is missing, the reads of
//! the slaves go on, and everything is Ready again without a hand.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{
    clock::millis,
    database::{Database, Node},
    faults::{self, Deletion},
    ledger::Outcome,
    storm::{Aftermath, HEALED, Storm},
    world::{World, on_cluster},
    writer::Habits,
};
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::Signal;

/// Far above what is promised, far below what a person would put up with.
const WRITES_BACK: Duration = Duration::from_secs(30);
const READS_BACK: Duration = Duration::from_secs(10);

async fn lose_master(
    world: &World,
    name: &str,
    fault: impl AsyncFnOnce(&Database, &Pod) -> Result<()>,
) -> Result<()> {
    let database = world.database().await?;
    let schema = format!("e2e_{name}");
    let storm = Storm::begin(&database, &Habits::of(4, &format!("{schema}.writes"))).await?;
    let master = database.master_pod().await?;
    let at = storm.clock.at();
    fault(&database, &master).await?;
    let aftermath = storm.after_new_master(&[&schema]).await?;
    judge(name, &aftermath, at, &Node::from(&master))
}

fn judge(name: &str, aftermath: &Aftermath, fault: Duration, old: &Node) -> Result<()> {
    let Aftermath {
        ledger,
        reads,
        proof,
        after,
        healed,
        ..
    } = aftermath;
    let (writes_out, reads_out) = (ledger.outage(fault), reads.outage(fault));
    eprintln!(
        "    {name}: writes {} ms, reads {} ms, healed after {} ms; {} acknowledged, {} unknown, {} refused, {} lost",
        millis(writes_out),
        millis(reads_out),
        millis(healed.saturating_sub(fault)),
        ledger.count(Outcome::Acknowledged),
        ledger.count(Outcome::Unknown),
        ledger.count(Outcome::Refused),
        proof.lost(),
    );
    proof.check()?;
    ensure!(
        writes_out < WRITES_BACK,
        "writes were out for {} ms",
        millis(writes_out)
    );
    ensure!(
        reads_out < READS_BACK,
        "the slaves could not be read for {} ms",
        millis(reads_out)
    );
    let back = after.iter().find(|node| node.name == old.name);
    ensure!(
        back.is_some_and(|node| node.role.as_deref() == Some("slave")),
        "{} is not a slave: {after:?}",
        old.name
    );
    Ok(())
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn when_mysqld_of_the_master_is_killed_a_slave_takes_over_and_nothing_is_lost() {
    on_cluster(async |world| {
        lose_master(world, "mysqld_kill", async |_, master| {
            faults::signal_mysqld(master, Signal::SIGKILL)
        })
        .await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn when_the_masters_pod_is_deleted_normally_a_slave_takes_over_and_nothing_is_lost() {
    on_cluster(async |world| {
        lose_master(world, "pod_delete", async |database, master| {
            faults::delete_pod(&database.pod_api(), master, Deletion::Normal).await
        })
        .await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn when_the_masters_pod_is_deleted_hastily_a_slave_takes_over_and_nothing_is_lost() {
    on_cluster(async |world| {
        lose_master(world, "pod_hasty", async |database, master| {
            faults::delete_pod(&database.pod_api(), master, Deletion::Hasty).await
        })
        .await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn when_the_masters_pod_is_deleted_by_force_a_slave_takes_over_and_nothing_is_lost() {
    on_cluster(async |world| {
        lose_master(world, "pod_force", async |database, master| {
            faults::delete_pod(&database.pod_api(), master, Deletion::Forced).await
        })
        .await
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_second_kill_on_the_new_master_is_not_held_back() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let storm = Storm::begin(&database, &Habits::of(4, "e2e_twice.writes")).await?;
        let first = database.master_pod().await?;
        let at = storm.clock.at();
        faults::signal_mysqld(&first, Signal::SIGKILL)?;
        let second = new_master(&database, &Node::from(&first).name).await?;
        faults::signal_mysqld(&second, Signal::SIGKILL)?;
        let aftermath = storm.after_new_master(&["e2e_twice"]).await?;
        let masters = aftermath
            .after
            .iter()
            .filter(|node| node.role.as_deref() == Some("master"))
            .count();
        ensure!(masters == 1, "{masters} masters after two kills");
        aftermath.proof.check()?;
        let outage = aftermath.ledger.outage(at);
        eprintln!("    two kills in a row: longest outage {} ms", millis(outage));
        ensure!(outage < HEALED, "writes were out for {} ms", millis(outage));
        Ok(())
    });
}

async fn new_master(database: &Database, old: &str) -> Result<Pod> {
    use e2e::wait::{Seen, until};
    until("second master", HEALED, async || {
        let pod = database.master_pod().await?;
        Ok(if pod.metadata.name.as_deref() == Some(old) {
            Seen::NotYet(format!("still {old}"))
        } else {
            Seen::Done(pod)
        })
    })
    .await
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_slave_whose_volume_is_deleted_is_cloned_while_writes_go_on() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let storm = Storm::begin(&database, &Habits::of(2, "e2e_volume.writes")).await?;
        let slave = database.slave_pod().await?;
        let lost = Node::from(&slave);
        let at = storm.clock.at();
        faults::delete_pod_and_volumes(&database.client, &slave).await?;
        new_life(&database, &lost).await?;
        let aftermath = storm.after_same_master(&["e2e_volume"]).await?;
        aftermath.proof.check()?;
        let outage = aftermath.ledger.outage(at);
        eprintln!(
            "    slave cloned after {} ms, writes out {} ms",
            millis(aftermath.healed.saturating_sub(at)),
            millis(outage)
        );
        ensure!(outage < WRITES_BACK, "writes were out for {} ms", millis(outage));
        let term = database.status().await?.record.term.0;
        ensure!(
            term == aftermath.term,
            "losing a slave moved the master: term {} to {term}",
            aftermath.term
        );
        Ok(())
    });
}

/// Waits until the pod was replaced: before that, the status of the old one may still look healthy.
async fn new_life(database: &Database, old: &Node) -> Result<()> {
    use e2e::wait::{Seen, until};
    until("replacement of the slave", HEALED, async || {
        let pods = database.pods().await?;
        let found = pods
            .iter()
            .find(|pod| pod.name == old.name && pod.uid != old.uid && pod.ip.is_some());
        Ok(found.map_or_else(
            || Seen::NotYet(format!("{} pods", pods.len())),
            |_| Seen::Done(()),
        ))
    })
    .await
}
