//! What people command: a promotion by force, nodes kept closed, rest, a new clone, another master whichever; and a
//! database that does not fail over by itself.

mod world;

use failover::{
    Cause, Decision, Durability, ErrantPolicy, GtidSet, Kind, NodeId, Pod, Role, Server, Session, Tail, Term,
};
use world::{World, uuid};

/// The master and `db-2` are gone, `db-1` is left.
fn majority_lost() -> World {
    let mut world = World::led(3, 5);
    world.view("db-2").session = Session::Broken { since: world.now };
    world.view("db-0").session = Session::Broken { since: world.now };
    world.report_of("db-0").server = Server::Down {
        cause: "killed".into(),
    };
    world.cut("db-0", true);
    world.run(10);
    assert_eq!(world.report.decision, Decision::Blocked);
    world.log.clear();
    world
}

fn back(world: &mut World, node: &str, executed: GtidSet) {
    world.view(node).session = Session::Open { heard: world.now };
    world.reboot(node, executed);
}

fn full(world: &mut World) -> GtidSet {
    world.server("db-1").executed.clone()
}

#[test]
fn without_a_majority_the_report_names_who_is_missing_and_what_could_be_forced() {
    let world = majority_lost();
    let last = world.report.last_resort.unwrap();
    assert_eq!((last.candidate, last.term), (Some("db-1".into()), Term(1)));
    let missing: Vec<&str> = last.missing.keys().map(NodeId::as_str).collect();
    assert_eq!(missing, ["db-0", "db-2"]);
}

#[test]
fn a_forced_node_leads_in_the_next_term_and_the_change_says_what_may_be_lost() {
    let mut world = majority_lost();
    world.force("db-1@1");
    world.run(15);
    assert_eq!(world.master(), Some("db-1".into()));
    assert_eq!(world.observed.record.term, Term(2));
    let change = world.changes.last().unwrap();
    assert_eq!(change.intent.kind, Kind::Forced);
    let loss = change.may_be_lost.clone().unwrap();
    assert!(loss.contains("db-0 and db-2"), "{loss}");
    assert_eq!(world.answers.len(), 1);
    assert!(
        world.answers[0].0 && world.answers[0].1.contains(&loss),
        "{:?}",
        world.answers
    );
    let unjudged = &world.observed.record.forced.as_ref().unwrap().unjudged;
    assert_eq!(unjudged.len(), 2);
}

#[test]
fn what_is_typed_wrong_is_refused_and_the_answer_says_what_to_type() {
    for (typed, says) in [
        ("db-1", "force-promote=db-1@1"),
        ("db-1@7", "term 7 was typed, and the current term is 1"),
        ("db-1@x", "no term was typed"),
        ("db-9@1", "there is no node db-9"),
        (
            "db-2@1",
            "db-2 cannot lead: it does not answer; db-1 answers: ddb-operator.io/force-promote=db-1@1",
        ),
    ] {
        let mut world = majority_lost();
        world.force(typed);
        world.run(3);
        assert_eq!(world.answers.len(), 1, "{typed}: {:?}", world.answers);
        assert!(!world.answers[0].0, "{typed}");
        assert!(world.answers[0].1.contains(says), "{typed}: {:?}", world.answers);
        assert_eq!(world.observed.record.term, Term(1), "{typed}");
    }
}

#[test]
fn a_healthy_master_is_never_replaced_by_force() {
    let mut world = World::led(3, 5);
    world.force("db-1@1");
    world.run(3);
    assert!(
        world.answers[0].1.contains("db-0 leads in term 1"),
        "{:?}",
        world.answers
    );
    assert_eq!((world.master(), world.answers[0].0), (Some("db-0".into()), false));
}

#[test]
fn where_enough_nodes_answer_nothing_is_forced() {
    let mut world = World::led(3, 5);
    world.policy.automatic = false;
    world.kill("db-0");
    world.run(2);
    world.force("db-1@1");
    world.run(2);
    assert!(!world.answers[0].0);
    assert!(
        world.answers[0].1.contains("enough nodes answer"),
        "{:?}",
        world.answers
    );
}

#[test]
fn an_empty_node_and_one_whose_volume_was_replaced_are_never_forced_to_lead() {
    let mut world = majority_lost();
    world.report_of("db-1").volume = "another".into();
    world.force("db-1@1");
    world.run(2);
    assert!(
        world.answers[0].1.contains("its volume was replaced"),
        "{:?}",
        world.answers
    );
    let mut world = majority_lost();
    world.server("db-1").executed = GtidSet::new();
    world.force("db-1@1");
    world.run(2);
    assert!(
        world.answers[0].1.contains("db-1 is empty"),
        "{:?}",
        world.answers
    );
    assert_eq!(world.report.last_resort.as_ref().unwrap().candidate, None);
}

/// Three of five are gone; `db-1` and `db-2` answer.
fn three_of_five_lost() -> World {
    let mut world = World::led(5, 5);
    for node in ["db-3", "db-4"] {
        world.view(node).session = Session::Broken { since: world.now };
    }
    world.kill("db-0");
    world.run(3);
    assert_eq!(world.report.decision, Decision::Blocked);
    world
}

#[test]
fn of_two_that_answer_only_the_fuller_is_forced() {
    let mut world = three_of_five_lost();
    world.server("db-2").received = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    world.force("db-1@1");
    world.run(3);
    assert!(
        world.answers[0]
            .1
            .contains("type ddb-operator.io/force-promote=db-2@1"),
        "{:?}",
        world.answers
    );
    world.force("db-2@1");
    world.run(15);
    assert_eq!(world.master(), Some("db-2".into()));
}

#[test]
fn all_that_answer_are_fenced_before_a_forced_promotion() {
    let mut world = three_of_five_lost();
    world.stuck = vec!["Promote"];
    world.log.clear();
    world.force("db-1@1");
    world.run(10);
    let fenced = |node: &str| world.log.contains(&format!("Fence {node}"));
    assert!(fenced("db-1") && fenced("db-2"), "{:?}", world.log);
}

#[test]
fn a_forced_term_is_carried_on_by_another_operator_with_the_same_node() {
    let mut world = majority_lost();
    world.force("db-1@1");
    world.run(1);
    assert_eq!(world.observed.record.intent.as_ref().unwrap().kind, Kind::Forced);
    world.state = failover::State::default();
    world.run(15);
    assert_eq!(
        (world.master(), world.observed.record.term),
        (Some("db-1".into()), Term(2))
    );
}

#[test]
fn the_permission_ends_when_the_named_node_is_lost() {
    let mut world = majority_lost();
    world.force("db-1@1");
    world.run(1);
    world.cut("db-1", false);
    world.run(3);
    assert_eq!(
        world.observed.record.intent.as_ref().unwrap().kind,
        Kind::Failover
    );
    assert!(
        world.answers[0].1.contains("current term is 3"),
        "{:?}",
        world.answers
    );
    let set = full(&mut world);
    back(&mut world, "db-1", set.clone());
    world.run(10);
    assert_eq!(world.master(), None);
    back(&mut world, "db-2", set);
    world.run(15);
    assert!(world.master().is_some() && world.observed.record.forced.is_some());
}

#[test]
fn what_returns_after_a_forced_promotion_follows_or_is_cloned_and_is_judged() {
    let mut world = majority_lost();
    world.force("db-1@1");
    world.run(15);
    let less = full(&mut world);
    let more = less.clone().with(&uuid(&"db-0".into()), 6, 8);
    back(&mut world, "db-2", less);
    world.run(6);
    assert!(world.clones.is_empty());
    back(&mut world, "db-0", more);
    world.run(8);
    assert_eq!(world.clones, [("db-0".into(), "db-2".into())]);
    assert_eq!(world.observed.record.forced, None, "all are judged");
}

#[test]
fn a_held_master_is_not_cut_after_a_forced_promotion() {
    let mut world = majority_lost();
    world.force("db-1@1");
    world.run(15);
    let more = full(&mut world).with(&uuid(&"db-0".into()), 6, 8);
    world.held.insert("db-0".into(), more);
    world.view("db-0").session = Session::Open { heard: world.now };
    world.report_of("db-0").tail = Some(Tail::Held);
    world.log.clear();
    world.run(20);
    assert!(
        !world.log.contains(&"Cut db-0".to_owned()),
        "it may hold acknowledged writes"
    );
    world.start_held("db-0");
    world.run(8);
    assert_eq!(world.clones.len(), 1);
}

#[test]
fn a_slave_that_is_fenced_by_hand_stays_closed_until_it_is_released() {
    let mut world = World::led(3, 5);
    world.fence_by_hand(&["db-2"]);
    world.run(5);
    assert_eq!(world.report_of("db-2").fenced, Some(Term(1)));
    assert!(matches!(world.server("db-2").role, Role::Idle));
    world.kill("db-0");
    world.run(15);
    assert_eq!(world.master(), Some("db-1".into()));
    assert!(
        world.report_of("db-2").fenced.is_some(),
        "the new master does not take it in"
    );
    world.fence_by_hand(&[]);
    world.run(5);
    assert!(matches!(world.server("db-2").role, Role::Slave { .. }));
}

#[test]
fn a_node_that_is_fenced_by_hand_never_leads_even_if_only_it_is_complete() {
    let mut world = World::led(3, 5);
    world.fence_by_hand(&["db-2"]);
    world.server("db-2").received = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    world.run(5);
    world.kill("db-0");
    world.run(30);
    assert_eq!((world.master(), world.report.decision), (None, Decision::Blocked));
    assert!(
        world
            .report
            .notes
            .iter()
            .any(|note| note.contains("db-2 may not lead")),
        "{:?}",
        world.report
    );
    world.fence_by_hand(&[]);
    world.run(15);
    assert_eq!(world.master(), Some("db-2".into()));
}

#[test]
fn a_master_that_is_fenced_by_hand_hands_over_first() {
    let mut world = World::led(3, 5);
    world.fence_by_hand(&["db-0"]);
    world.run(15);
    let change = world.changes.last().unwrap();
    assert_eq!(
        (change.intent.kind, change.intent.cause),
        (Kind::Switchover, Cause::Requested)
    );
    assert_eq!(world.master(), Some("db-1".into()));
    assert!(matches!(world.server("db-0").role, Role::Idle));
}

#[test]
fn a_master_without_an_heir_is_not_fenced_by_hand() {
    let mut world = World::led(3, 5);
    world.fence_by_hand(&["db-0", "db-1", "db-2"]);
    world.run(15);
    assert_eq!(
        (world.master(), world.observed.record.term),
        (Some("db-0".into()), Term(1))
    );
    assert!(
        world
            .report
            .notes
            .iter()
            .any(|note| note.starts_with("db-0: is to be fenced"))
    );
}

#[test]
fn a_paused_database_changes_nothing_and_refuses_what_is_asked() {
    let mut world = World::led(3, 5);
    world.policy.paused = true;
    world.ask("db-1");
    world.observed.asked.resync = Some("db-2".into());
    world.run(5);
    assert!(world.answers.len() == 2 && world.answers.iter().all(|answer| !answer.0));
    world.kill("db-0");
    world.run(20);
    assert_eq!(
        (world.observed.record.term, world.report.decision),
        (Term(1), Decision::Blocked)
    );
    world.policy.paused = false;
    world.run(15);
    assert_eq!(world.master(), Some("db-1".into()));
}

#[test]
fn without_automatic_failover_the_same_master_leads_again_when_it_is_back() {
    let mut world = World::led(3, 5);
    world.policy.automatic = false;
    let set = world.server("db-0").executed.clone();
    world.kill("db-0");
    world.run(20);
    assert_eq!(world.observed.record.term, Term(1));
    world.reboot("db-0", set);
    world.run(15);
    assert_eq!(
        (world.master(), world.observed.record.term),
        (Some("db-0".into()), Term(2))
    );
    assert!(world.clones.is_empty());
}

#[test]
fn without_automatic_failover_a_master_whose_volume_was_lost_does_not_lead_again() {
    let mut world = World::led(3, 5);
    world.policy.automatic = false;
    world.kill("db-0");
    world.reboot("db-0", GtidSet::new());
    world.report_of("db-0").volume = "another".into();
    world.run(20);
    assert_eq!(
        (world.observed.record.term, world.report.decision),
        (Term(1), Decision::Blocked)
    );
}

#[test]
fn a_wait_for_the_same_master_ends_when_another_is_asked_for() {
    let mut world = World::led(3, 5);
    world.policy.automatic = false;
    let set = world.server("db-0").executed.clone();
    world.kill("db-0");
    world.run(5);
    world.reboot("db-0", set);
    world.run(1);
    world.kill("db-0");
    world.run(10);
    assert_eq!(world.master(), None);
    world.ask("db-2");
    world.run(20);
    assert_eq!(world.master(), Some("db-2".into()));
}

#[test]
fn a_stopping_master_that_nobody_may_relieve_is_released() {
    let mut world = World::led(3, 5);
    world.policy.automatic = false;
    world.stuck = vec!["Release"];
    world.delete_pod("db-0");
    world.report_of("db-0").stopping = true;
    let (_, plan, _) = failover::step(
        failover::State::default(),
        &world.observed,
        &world.policy,
        world.now,
    );
    assert!(
        plan.iter().any(|action| world::name(action) == "Release"),
        "{plan:?}"
    );
}

#[test]
fn a_slave_is_cloned_again_when_that_is_asked_for() {
    let mut world = World::led(3, 5);
    world.observed.asked.resync = Some("db-2".into());
    world.run(10);
    assert_eq!(world.clones, [("db-2".into(), "db-1".into())]);
    assert_eq!(world.answers.len(), 1);
    assert!(world.answers[0].0);
    assert!(matches!(world.server("db-2").role, Role::Slave { .. }));
    let member = world.observed.record.members.get(&"db-2".into());
    assert_eq!(member, Some(&"volume-of-clone-1".into()));
}

#[test]
fn neither_the_master_nor_the_last_complete_slave_is_cloned() {
    for (node, says) in [
        ("db-0", "is the master"),
        ("db-1", "the only slave that holds everything"),
        ("db-9", "no node"),
    ] {
        let mut world = World::led(3, 5);
        world.kill("db-2");
        world.observed.asked.resync = Some(node.into());
        world.run(5);
        assert!(world.clones.is_empty());
        assert!(
            !world.answers[0].0 && world.answers[0].1.contains(says),
            "{node}: {:?}",
            world.answers
        );
    }
}

#[test]
fn a_quarantined_node_is_released_by_a_new_clone() {
    let mut world = World::led(3, 5);
    world.policy.errant = ErrantPolicy::Quarantine;
    let errant = world
        .server("db-0")
        .executed
        .clone()
        .with(&uuid(&"db-2".into()), 1, 1);
    world.kill("db-2");
    world.reboot("db-2", errant);
    world.run(5);
    assert!(
        world
            .report
            .notes
            .iter()
            .any(|note| note.contains("ddb-operator.io/resync=db-2"))
    );
    world.observed.asked.resync = Some("db-2".into());
    world.run(10);
    assert_eq!(world.clones.len(), 1);
    assert!(matches!(world.server("db-2").role, Role::Slave { .. }));
}

#[test]
fn any_other_master_can_be_asked_for() {
    let mut world = World::led(3, 5);
    world.ask_for_another();
    world.run(15);
    assert_eq!(world.answers, [(true, "db-1 leads in term 2".into())]);
}

#[test]
fn a_master_that_only_a_slave_hears_is_replaced_when_any_other_is_asked_for() {
    let mut world = World::led(3, 5);
    world.cut("db-0", false);
    world.run(200);
    assert_eq!(world.observed.record.term, Term(1));
    world.ask_for_another();
    world.run(20);
    assert_eq!((world.master(), world.answers[0].0), (Some("db-1".into()), true));
}

#[test]
fn a_database_that_must_stay_writable_asks_for_fewer_acknowledgements_once_that_is_recorded() {
    let mut world = World::led(3, 5);
    world.policy.durability = Durability::Available;
    let sets = world.sets();
    world.kill("db-1");
    world.kill("db-2");
    world.run(400);
    assert_eq!(world.observed.record.acks, 1, "not for a short absence");
    world.log.clear();
    world.run(150);
    assert_eq!(world.observed.record.acks, 0);
    assert!(matches!(world.server("db-0").role, Role::Master { acks: 0, .. }));
    let at = |what: &str| world.log.iter().position(|entry| entry == what).unwrap();
    assert!(at("Record") < at("Promote db-0"), "{:?}", world.log);
    // All three would be needed now.
    world.reboot("db-1", sets.get(&"db-1".into()).unwrap().clone());
    world.run(1700);
    assert_eq!(
        world.observed.record.acks, 1,
        "one slave that holds everything is enough to go back"
    );
}

#[test]
fn a_strict_database_never_asks_for_fewer_acknowledgements() {
    let mut world = World::led(3, 5);
    world.kill("db-1");
    world.kill("db-2");
    world.run(1000);
    assert_eq!(world.observed.record.acks, 1);
}

#[test]
fn with_lowered_acknowledgements_a_failover_needs_every_node() {
    let mut world = World::led(3, 5);
    world.policy.durability = Durability::Available;
    let set = world.server("db-1").executed.clone();
    world.kill("db-1");
    world.kill("db-2");
    world.run(700);
    assert_eq!(world.observed.record.acks, 0);
    world.reboot("db-1", set.clone());
    world.reboot("db-2", set);
    world.kill("db-0");
    world.run(50);
    assert_eq!(
        (world.observed.record.term, world.report.decision),
        (Term(1), Decision::Blocked)
    );
}

#[test]
fn a_pod_of_a_node_that_is_fenced_by_hand_may_be_gone() {
    let mut world = World::led(3, 5);
    world.fence_by_hand(&["db-2", "db-7"]);
    world.view("db-2").pod = Pod::Missing;
    world.cut("db-2", false);
    world.run(10);
    assert_eq!(world.master(), Some("db-0".into()));
}
