//! Large databases: as many nodes may be lost as a write has copies beside the master's, and no more.

mod world;

use failover::{Decision, GtidSet, Term};
use world::{World, uuid};

/// A database of `nodes` whose last write the master and `acks` slaves hold; of these, the first `lost` die.
fn bereft(nodes: u32, acks: u32, lost: u32) -> (World, GtidSet) {
    let mut world = World::led(nodes, 5);
    assert_eq!(
        (world.observed.record.size, world.observed.record.acks),
        (nodes, acks)
    );
    let newest = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    for node in 1..=acks {
        world.server(&format!("db-{node}")).received = newest.clone();
    }
    for node in 0..lost {
        world.kill(&format!("db-{node}"));
    }
    world.run(15);
    (world, newest)
}

#[test]
fn the_only_copy_that_is_left_of_the_last_write_leads_seven_and_nine_nodes() {
    for (nodes, acks) in [(7, 3), (9, 4)] {
        let (mut world, newest) = bereft(nodes, acks, acks);
        assert_eq!(world.master(), Some(format!("db-{acks}").into()), "{nodes} nodes");
        let leads = world.server(&format!("db-{acks}")).executed.clone();
        assert!(leads.contains(&newest), "{nodes} nodes");
        assert!(world.changes.last().unwrap().kept.contains(&newest));
    }
}

#[test]
fn one_loss_more_is_not_answered_by_a_guess() {
    for (nodes, acks) in [(7, 3), (9, 4)] {
        let (world, _) = bereft(nodes, acks, acks + 1);
        let term = world.observed.record.term;
        assert_eq!(
            (term, world.report.decision),
            (Term(1), Decision::Blocked),
            "{nodes} nodes"
        );
    }
}
