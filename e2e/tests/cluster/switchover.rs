//! Switchovers asked for by annotation, and their refusals.

use std::time::Duration;

use anyhow::{Context, ensure};
use api::names;
use e2e::{clock::millis, database::Node, faults, storm::Storm, world::on_cluster, writer::Habits};

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_switchover_moves_the_master_to_the_named_slave_and_loses_nothing() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let storm = Storm::begin(&database, &Habits::of(4, "e2e_switchover.writes")).await?;
        let target = Node::from(&database.slave_pod().await?);
        let at = storm.clock.at();
        faults::ask_to_promote(&world.client, &database.namespace, &database.name, &target.name).await?;
        let aftermath = storm.after_new_master(&["e2e_switchover"]).await?;
        aftermath.proof.check()?;
        let outage = aftermath.ledger.outage(at);
        eprintln!("    switchover: writes out {} ms", millis(outage));
        ensure!(
            outage < Duration::from_secs(15),
            "writes were out for {} ms",
            millis(outage)
        );
        let master = aftermath
            .after
            .iter()
            .find(|node| node.role.as_deref() == Some("master"));
        let master = master.context("no master")?;
        ensure!(
            master.name == target.name,
            "{} leads instead of {}",
            master.name,
            target.name
        );
        for node in &aftermath.before {
            let same = aftermath
                .after
                .iter()
                .any(|after| after.uid == node.uid && after.restarts == node.restarts);
            ensure!(same, "{} restarted for a switchover", node.name);
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_switchover_to_the_master_itself_changes_nothing() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let master = Node::from(&database.master_pod().await?);
        let term = database.status().await?.record.term;
        faults::ask_to_promote(&world.client, &database.namespace, &database.name, &master.name).await?;
        database
            .wait_taken(names::ANNOTATION_PROMOTE, Duration::from_secs(30))
            .await?;
        let status = database.wait_healthy(Duration::from_secs(30)).await?;
        ensure!(
            status.record.term == term,
            "the term rose from {term} to {}",
            status.record.term
        );
        ensure!(
            status
                .record
                .master
                .is_some_and(|node| node.as_str() == master.name),
            "the master changed"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_switchover_to_a_pod_that_does_not_exist_is_refused_with_its_reason() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let before = database.status().await?.record;
        faults::ask_to_promote(&world.client, &database.namespace, &database.name, "nobody-7").await?;
        let answer = database.answer("nobody-7", Duration::from_secs(30)).await?;
        ensure!(!answer.done, "it is called done: {}", answer.message);
        let after = database.status().await?.record;
        ensure!(
            after.master == before.master && after.term == before.term,
            "it moved the master: {after:?}"
        );
        Ok(())
    });
}
