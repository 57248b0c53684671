//! Whole stories, each from a fault to a database that is led again (or rightly is not).

mod world;

use failover::{
    Action, Cause, Decision, GtidSet, Kind, NodeView, Pod, Receiver, Role, Session, State, Switchover, Tail,
    Term, record::acks_for,
};
use world::{World, name, uuid};

fn labelled(world: &World) -> Vec<String> {
    let master = |view: &NodeView| {
        matches!(
            view.pod,
            Pod::Present {
                labelled_master: true,
                ..
            }
        )
    };
    world
        .observed
        .nodes
        .iter()
        .filter(|(_, view)| master(view))
        .map(|(node, _)| node.to_string())
        .collect()
}

#[test]
fn a_new_database_gets_its_first_node_as_master_and_the_others_follow() {
    let world = World::led(3, 5);
    assert_eq!(labelled(&world), ["db-0"]);
    assert_eq!((world.observed.record.size, world.observed.record.acks), (3, 1));
    assert_eq!(world.observed.record.members.len(), 3);
    assert_eq!(world.changes[0].intent.kind, Kind::Bootstrap);
    assert!(world.sets().values().all(|set| set.count() == 5));
}

#[test]
fn a_new_database_waits_for_all_its_nodes_and_says_for_whom() {
    let mut world = World::new(3);
    world.view("db-2").session = Session::Never;
    world.run(10);
    assert_eq!(
        (world.master(), world.report.decision),
        (None, Decision::Starting)
    );
    assert_eq!(world.report.waiting_for, ["db-2 was not reached yet"]);
}

#[test]
fn volumes_that_were_kept_elect_the_fullest_in_a_term_above_all_that_they_remember() {
    let mut world = World::new(3);
    let kept = GtidSet::new().with(&uuid(&"db-1".into()), 1, 9);
    world.server("db-2").executed = kept;
    world.report_of("db-1").term = Term(7);
    world.run(10);
    assert_eq!(
        (world.master(), world.observed.record.term),
        (Some("db-2".into()), Term(8))
    );
}

#[test]
fn a_dead_mysqld_is_replaced_in_the_order_of_the_rules() {
    let mut world = World::led(3, 5);
    world.kill("db-0");
    world.log.clear();
    world.run(10);
    assert_eq!(world.master(), Some("db-1".into()));
    assert_eq!(labelled(&world), ["db-1"]);
    let change = world.changes.last().unwrap();
    assert_eq!(
        (change.intent.kind, change.intent.cause),
        (Kind::Failover, Cause::ServerDied)
    );
    let at = |entry: &str| {
        world
            .log
            .iter()
            .position(|logged| logged == entry)
            .unwrap_or_else(|| panic!("{entry}: {:?}", world.log))
    };
    assert!(at("Record") < at("Unlabel db-0"));
    assert!(at("Record") < at("Fence db-1") && at("Fence db-1") < at("Promote db-1"));
    assert!(at("Fence db-2") < at("Promote db-1") && at("Promote db-1") < at("Route db-1"));
    assert!(at("Promote db-1") < at("Follow db-2"));
    let steps: Vec<&str> = change.steps.keys().map(String::as_str).collect();
    assert_eq!(
        steps,
        ["drained", "fenced", "led", "promoted", "recorded", "routed"]
    );
}

#[test]
fn clients_are_led_to_a_node_that_becomes_master_once_it_knows() {
    let mut world = World::led(3, 5);
    world.stuck = vec!["Promote"];
    world.kill("db-0");
    world.run(5);
    assert_eq!(world.observed.service.to, Some("db-0".into()));
    let report = world.report_of("db-1");
    (report.fenced, report.promoted) = (None, Some(Term(2)));
    world.run(2);
    assert_eq!(world.observed.service.to, Some("db-1".into()));
    assert!(labelled(&world).is_empty(), "nobody leads yet");
}

#[test]
fn nobody_is_led_to_what_may_be_gone_after_the_next_failure() {
    let mut world = World::led(3, 5);
    let last = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    world.server("db-1").received = last;
    world.stuck = vec!["Promote", "Follow"];
    world.kill("db-0");
    world.run(5);
    let report = world.report_of("db-1");
    (report.fenced, report.promoted) = (None, Some(Term(2)));
    world.run(2);
    assert_eq!(
        world.observed.service.to,
        Some("db-0".into()),
        "only db-1 holds the last write"
    );
}

#[test]
fn the_slave_with_the_last_write_wins_and_executes_it_first() {
    let mut world = World::led(3, 5);
    let last = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    world.server("db-2").received = last.clone();
    world.kill("db-0");
    world.run(10);
    assert_eq!(world.master(), Some("db-2".into()));
    assert!(world.server("db-1").executed.contains(&last));
}

#[test]
fn a_node_that_cannot_execute_what_it_received_never_leads_and_another_that_holds_it_does() {
    let mut world = World::led(3, 5);
    let last = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    let all = world.server("db-0").executed.union(&last);
    world.server("db-2").received = last;
    world.kill("db-0");
    // The error shows when the drain starts the applier; from then on it is known.
    world.run(3);
    world.server("db-2").stuck = Some("error 1032".into());
    world.run(10);
    assert_eq!((world.master(), world.report.decision), (None, Decision::Blocked));
    assert_eq!(
        world.report.notes,
        ["db-2 may not lead: cannot execute what it received: error 1032"]
    );
    let term = world.observed.record.term;
    world.run(10);
    assert_eq!(
        world.observed.record.term, term,
        "terms are not used up meanwhile"
    );
    world.reboot("db-0", all);
    world.run(10);
    assert_eq!(world.master(), Some("db-0".into()));
}

#[test]
fn empty_nodes_fail_over_too() {
    let mut world = World::led(3, 0);
    world.kill("db-0");
    world.run(10);
    assert_eq!(world.master(), Some("db-1".into()));
}

#[test]
fn the_next_failure_is_not_held_back() {
    let mut world = World::led(3, 5);
    world.kill("db-0");
    world.run(8);
    let set = world.server("db-1").executed.clone();
    world.reboot("db-0", set);
    world.kill("db-1");
    world.run(10);
    assert_eq!(world.observed.record.term, Term(3));
    assert!(world.master().is_some_and(|master| master != "db-1".into()));
}

#[test]
fn a_master_comes_back_as_a_slave_with_the_same_set() {
    let mut world = World::led(3, 5);
    let set = world.server("db-0").executed.clone();
    world.kill("db-0");
    world.run(10);
    world.reboot("db-0", set);
    world.run(5);
    assert!(matches!(world.server("db-0").role, Role::Slave { .. }));
    assert!(world.clones.is_empty(), "a plain restart never clones");
}

#[test]
fn a_master_that_comes_back_with_more_is_cloned_from_a_slave() {
    let mut world = World::led(3, 5);
    let more = world
        .server("db-0")
        .executed
        .clone()
        .with(&uuid(&"db-0".into()), 6, 6);
    world.kill("db-0");
    world.run(10);
    world.reboot("db-0", more);
    world.run(5);
    assert_eq!(world.clones, [("db-0".into(), "db-2".into())]);
    assert!(matches!(world.server("db-0").role, Role::Slave { .. }));
    assert_eq!(
        world.observed.record.members.get(&"db-0".into()),
        Some(&"volume-of-clone-1".into())
    );
}

#[test]
fn a_killed_masters_tail_is_cut_and_it_follows_without_a_clone() {
    let mut world = World::led(3, 5);
    let tail = GtidSet::new().with(&uuid(&"db-0".into()), 6, 7);
    world.kill_and_hold("db-0", &tail);
    world.log.clear();
    world.run(12);
    assert_eq!(world.master(), Some("db-1".into()));
    assert!(world.clones.is_empty() && matches!(world.server("db-0").role, Role::Slave { .. }));
    let cut = world.log.iter().position(|entry| entry == "Cut db-0");
    let promoted = world.log.iter().position(|entry| entry == "Promote db-1");
    assert!(promoted < cut, "{:?}", world.log);
    let tail_of = world.report_of("db-0").tail.clone();
    assert!(matches!(tail_of, Some(Tail::Cut { transactions, .. }) if transactions == tail));
}

#[test]
fn a_held_master_whose_set_is_needed_is_not_cut_before_somebody_leads() {
    let mut world = World::led(3, 5);
    world.cut("db-2", false);
    let tail = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    world.kill_and_hold("db-0", &tail);
    world.log.clear();
    world.run(100);
    assert!(
        !world.log.contains(&"Cut db-0".to_owned()),
        "one of three is no quorum"
    );
    world.start_held("db-0");
    world.run(15);
    assert_eq!(
        world.master(),
        Some("db-0".into()),
        "it alone holds its last write, acknowledged or not"
    );
}

#[test]
fn a_candidate_that_does_not_get_through_what_it_received_gives_way_to_one_that_has() {
    let blocked = || {
        let mut world = World::led(3, 5);
        let write = world.write(&["db-2"]);
        let all = world.server("db-0").executed.clone();
        let server = world.server("db-1");
        server.executed = server.executed.subtract(&write);
        server.received = server.received.union(&write);
        world.kill("db-0");
        world.stuck = vec!["Drain"];
        world.run(50);
        assert_eq!(world.observed.record.term, Term(2));
        assert!(world.log.contains(&"Fence db-1".to_owned()), "{:?}", world.log);
        (world, all)
    };
    let (mut world, _) = blocked();
    world.run(1000);
    assert_eq!(
        (world.master(), world.observed.record.term),
        (None, Term(2)),
        "nobody else holds the write, so it is waited for"
    );
    world.stuck.clear();
    world.run(20);
    assert_eq!(world.master(), Some("db-1".into()));

    let (mut world, all) = blocked();
    world.reboot("db-0", all);
    world.run(400);
    assert_eq!(world.observed.record.term, Term(2), "it may be about to end");
    world.run(100);
    assert_eq!(
        (world.master(), world.observed.record.term),
        (Some("db-0".into()), Term(3)),
        "the old master is back and has it"
    );
}

#[test]
fn a_held_master_that_refuses_to_cut_is_cloned() {
    let mut world = World::led(3, 5);
    world.stuck = vec!["Cut"];
    let tail = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    world.kill_and_hold("db-0", &tail);
    world.run(12);
    assert!(world.clones.is_empty());
    world.start_held("db-0");
    world.run(5);
    assert_eq!(world.clones, [("db-0".into(), "db-2".into())]);
}

#[test]
fn a_node_on_whose_data_mysqld_cannot_run_begins_anew_and_is_cloned() {
    let mut world = World::led(3, 5);
    world.policy.replay = 3;
    world.damage("db-2");
    world.run(10);
    assert!(world.log.contains(&"Discard db-2".to_owned()), "{:?}", world.log);
    assert_eq!(world.clones, [("db-2".into(), "db-1".into())]);
    let volume = world.report_of("db-2").volume.clone();
    assert_eq!(world.observed.record.members.get(&"db-2".into()), Some(&volume));
}

#[test]
fn damaged_data_is_kept_where_nobody_leads_or_somebody_may_need_it() {
    let mut world = World::led(3, 5);
    world.damage("db-2");
    world.kill("db-0");
    world.run(50);
    assert_eq!(
        world.report.decision,
        Decision::Blocked,
        "db-1 alone is no quorum"
    );
    assert!(world.report_of("db-2").damaged.is_some());

    for hold in [
        |policy: &mut failover::Policy| policy.paused = true,
        |policy: &mut failover::Policy| policy.errant = failover::ErrantPolicy::Quarantine,
    ] {
        let mut world = World::led(3, 5);
        hold(&mut world.policy);
        world.damage("db-2");
        world.run(50);
        assert!(world.report_of("db-2").damaged.is_some());
        let said = |note: &String| note.contains("db-2: mysqld cannot run on its data");
        assert!(world.report.notes.iter().any(said), "{:?}", world.report.notes);
    }

    let mut world = World::led(3, 5);
    world.damage("db-2");
    world.cut("db-1", false);
    world.run(50);
    assert!(
        world.report_of("db-2").damaged.is_some(),
        "db-1 may be lost for good"
    );

    let mut world = World::led(3, 5);
    world.policy.errant = failover::ErrantPolicy::Quarantine;
    world.damage("db-2");
    world.observed.asked.resync = Some("db-2".into());
    world.run(10);
    assert!(world.log.contains(&"Discard db-2".to_owned()), "it was asked for");
}

#[test]
fn two_damaged_nodes_begin_anew_one_after_the_other() {
    let mut world = World::led(3, 5);
    world.stuck = vec!["Follow"];
    world.damage("db-1");
    world.damage("db-2");
    world.run(50);
    let damaged = |world: &mut World, node| world.report_of(node).damaged.is_some();
    assert_ne!(damaged(&mut world, "db-1"), damaged(&mut world, "db-2"));
    world.stuck.clear();
    world.run(50);
    assert!(!damaged(&mut world, "db-1") && !damaged(&mut world, "db-2"));
}

#[test]
fn with_the_errant_policy_quarantine_nothing_is_overwritten() {
    let mut world = World::led(3, 5);
    world.policy.errant = failover::ErrantPolicy::Quarantine;
    world.kill("db-2");
    let errant = world
        .server("db-0")
        .executed
        .clone()
        .with(&uuid(&"db-2".into()), 1, 1);
    world.reboot("db-2", errant);
    world.run(5);
    assert!(world.clones.is_empty());
    assert!(
        world
            .report
            .notes
            .iter()
            .any(|note| note.starts_with("db-2: held"))
    );
}

#[test]
fn what_waits_on_the_master_for_its_slaves_does_not_make_a_restarted_slave_errant() {
    let mut world = World::led(3, 5);
    let more = world
        .server("db-1")
        .executed
        .clone()
        .with(&uuid(&"db-0".into()), 6, 6);
    world.kill("db-1");
    world.run(2);
    world.reboot("db-1", more);
    let (state, plan, _) = failover::step(State::default(), &world.observed, &world.policy, world.now);
    drop(state);
    assert!(plan.iter().any(|action| name(action) == "Follow"), "{plan:?}");
}

#[test]
fn a_slave_that_needs_purged_logs_is_cloned() {
    let mut world = World::led(3, 5);
    let executed = world.server("db-0").executed.clone();
    world.server("db-0").purged = executed;
    world.kill("db-2");
    world.report_of("db-2").volume = "a new volume".into();
    world.reboot("db-2", GtidSet::new());
    world.run(5);
    assert_eq!(world.clones, [("db-2".into(), "db-1".into())]);
}

#[test]
fn a_master_that_only_the_operator_lost_stays() {
    let mut world = World::led(3, 5);
    world.cut("db-0", false);
    world.run(1000);
    assert_eq!(world.observed.record.term, Term(1));
    assert!(
        world
            .report
            .notes
            .iter()
            .any(|note| note.contains("still receives from it")),
        "{:?}",
        world.report
    );
}

#[test]
fn a_master_that_everybody_lost_is_replaced() {
    let mut world = World::led(3, 5);
    world.cut("db-0", true);
    world.run(20);
    assert_eq!(world.master(), Some("db-1".into()));
    assert_eq!(world.changes.last().unwrap().intent.cause, Cause::Unreachable);
}

#[test]
fn a_master_that_was_cut_off_is_fenced_before_it_follows() {
    let mut world = World::led(3, 5);
    world.cut("db-0", true);
    world.run(40);
    assert!(world.master().is_some_and(|master| master != "db-0".into()));
    let now = world.now;
    world.view("db-0").session = Session::Open { heard: now };
    world.log.clear();
    world.run(5);
    let at = |entry: &str| world.log.iter().position(|logged| logged == entry);
    assert!(at("Fence db-0") < at("Follow db-0"), "{:?}", world.log);
    assert!(matches!(world.server("db-0").role, Role::Slave { .. }));
}

#[test]
fn a_silent_master_is_replaced_after_the_detection_time_only() {
    let mut world = World::led(3, 5);
    world.cut("db-0", true);
    world.view("db-0").session = Session::Open { heard: world.now };
    for view in world.observed.nodes.values_mut() {
        if let Some(failover::NodeReport {
            server: failover::Server::Up(state),
            ..
        }) = &mut view.report
            && let Role::Slave { receiver, .. } = &mut state.role
        {
            *receiver = Receiver::Receiving { age_ms: 900 };
        }
    }
    let heard = world.now;
    let judge = |at| {
        let mut observed = world.observed.clone();
        for node in ["db-1", "db-2"] {
            observed.nodes.get_mut(&node.into()).unwrap().session = Session::Open { heard: at };
        }
        failover::evidence::judge(&observed, &"db-0".into(), &world.policy, 0, at)
    };
    assert_eq!(judge(heard + 500), failover::evidence::Health::Leads);
    assert!(matches!(
        judge(heard + 1000),
        failover::evidence::Health::Doubtful(_)
    ));
}

#[test]
fn without_a_quorum_nothing_is_promoted_and_the_missing_are_named() {
    let mut world = World::led(3, 5);
    world.cut("db-2", false);
    world.cut("db-0", true);
    world.run(1000);
    assert_eq!(
        (world.observed.record.term, world.report.decision),
        (Term(1), Decision::Blocked)
    );
    let waiting = world.report.waiting_for.join(" ");
    assert!(
        waiting.contains("db-0 (does not answer)") && waiting.contains("db-2 (does not answer)"),
        "{waiting}"
    );
}

#[test]
fn a_slave_whose_volume_was_replaced_does_not_count() {
    let mut world = World::led(3, 5);
    world.stuck = vec!["Follow"];
    world.report_of("db-2").volume = "a new volume".into();
    world.reboot("db-2", GtidSet::new());
    world.kill("db-0");
    world.run(100);
    assert_eq!(
        world.observed.record.term,
        Term(1),
        "one complete node of three is no quorum"
    );
    let set = world.server("db-1").executed.clone();
    world.reboot("db-0", set);
    world.stuck.clear();
    world.run(10);
    assert_eq!(
        world.master(),
        Some("db-1".into()),
        "the returned master completes the quorum"
    );
}

#[test]
fn a_single_node_leads_again_after_its_mysqld_died() {
    let mut world = World::led(1, 5);
    assert_eq!(world.observed.record.acks, 0);
    let set = world.server("db-0").executed.clone();
    world.kill("db-0");
    world.run(10);
    assert_eq!(world.observed.record.term, Term(1));
    world.reboot("db-0", set);
    world.run(10);
    assert_eq!(
        (world.master(), world.observed.record.term),
        (Some("db-0".into()), Term(2))
    );
}

#[test]
fn a_pod_that_is_shut_down_hands_over_first() {
    let mut world = World::led(3, 5);
    world.report_of("db-0").stopping = true;
    world.delete_pod("db-0");
    world.log.clear();
    world.run(12);
    assert_eq!(world.master(), Some("db-1".into()));
    assert_eq!(world.changes.last().unwrap().intent.kind, Kind::Switchover);
    let fences: Vec<&String> = world
        .log
        .iter()
        .filter(|entry| entry.starts_with("Fence"))
        .collect();
    assert_eq!(
        fences[0], "Fence db-0",
        "the slaves go on acknowledging until the master has stopped"
    );
}

/// A master's pod that is deleted, a switchover, and a master that is to be kept closed.
const PLANS: [fn(&mut World); 3] = [
    |world| {
        world.report_of("db-0").stopping = true;
        world.delete_pod("db-0");
    },
    |world| {
        world.observed.switchover = Some(Switchover {
            to: Some("db-1".into()),
        });
    },
    |world| _ = world.observed.asked.fence.insert("db-0".into()),
];

#[test]
fn what_is_planned_waits_for_services_that_changed_a_moment_ago() {
    for plan in PLANS {
        let mut world = World::led(3, 5);
        let settled = world.now + 600;
        world.observed.service.settles = Some(settled);
        plan(&mut world);
        while world.now < settled {
            assert_eq!(world.observed.record.term, Term(1), "at {}", world.now);
            world.run(1);
        }
        world.run(12);
        assert_eq!(world.observed.record.term, Term(2));
        assert_eq!(world.master(), Some("db-1".into()));
        // Where they change all the time, it is not waited for for ever.
        let mut world = World::led(3, 5);
        plan(&mut world);
        for _ in 0..300 {
            world.observed.service.settles = Some(world.now + 1000);
            world.run(1);
        }
        assert_eq!(world.master(), Some("db-1".into()));
    }
}

#[test]
fn what_is_planned_waits_for_a_node_that_has_much_to_execute_before_it_can_lead() {
    let busy = |plan: fn(&mut World)| {
        let mut world = World::led(3, 5);
        for _ in 0..200 {
            let write = world.write(&["db-1", "db-2"]);
            for slave in ["db-1", "db-2"] {
                let state = world.server(slave);
                state.received = state.received.union(&write);
            }
        }
        plan(&mut world);
        world
    };
    for plan in PLANS {
        let mut world = busy(plan);
        world.run(100);
        assert_eq!(world.observed.record.term, Term(1));
        assert!(
            world
                .report
                .waiting_for
                .iter()
                .any(|what| what.contains("db-1 to execute 200 transactions")),
            "{:?}",
            world.report.waiting_for
        );
        let all = world.server("db-1").holds();
        world.server("db-1").executed = all;
        world.run(12);
        assert_eq!(world.observed.record.term, Term(2));
        assert_eq!(world.master(), Some("db-1".into()));
        // It is not waited for for ever.
        let mut world = busy(plan);
        world.run(520);
        assert_eq!(world.master(), Some("db-1".into()));
        // Nor by a pod that ends in a moment.
        let mut world = busy(plan);
        world.observed.asked.hurries = true;
        world.run(12);
        assert_eq!(world.master(), Some("db-1".into()));
    }
}

#[test]
fn a_lost_master_is_replaced_whatever_the_services_do() {
    let mut world = World::led(3, 5);
    world.observed.service.settles = Some(world.now + 1000);
    world.kill("db-0");
    world.run(12);
    assert!(world.now < 1000 && world.master() == Some("db-1".into()));
}

#[test]
fn a_pod_that_is_shut_down_does_not_lead_again_for_want_of_a_moment() {
    let orderly = || {
        let mut world = World::led(3, 5);
        world.write(&["db-1"]);
        world.report_of("db-0").stopping = true;
        world.delete_pod("db-0");
        world.log.clear();
        // The one slave that holds everything confirms its fence last.
        world.stuck = vec!["Fence db-2"];
        world.run(20);
        world
    };
    let mut world = orderly();
    world.stuck.clear();
    world.run(10);
    assert_eq!(world.master(), Some("db-2".into()));
    assert!(!world.log.contains(&"Promote db-0".to_owned()), "{:?}", world.log);
    let mut world = orderly();
    world.run(60);
    assert!(
        world.log.contains(&"Promote db-0".to_owned()),
        "it is not waited for for ever"
    );
}

#[test]
fn a_master_whose_agent_alone_is_restarted_is_let_go_and_stays_master() {
    let mut world = World::led(3, 5);
    world.report_of("db-0").stopping = true;
    world.log.clear();
    world.run(49);
    assert_eq!(world.log, [""; 0], "a deletion may show a moment later");
    world.run(100);
    assert_eq!(world.log, ["Release db-0"]);
    world.report_of("db-0").stopping = false;
    world.view("db-0").session = Session::Open { heard: world.now };
    world.run(300);
    assert_eq!(world.observed.record.term, Term(1));
}

#[test]
fn a_deletion_that_shows_late_is_an_orderly_handover_all_the_same() {
    let mut world = World::led(3, 5);
    world.report_of("db-0").stopping = true;
    world.run(20);
    world.delete_pod("db-0");
    world.run(12);
    assert_eq!(world.master(), Some("db-1".into()));
    assert_eq!(world.changes.last().unwrap().intent.kind, Kind::Switchover);
}

#[test]
fn an_agent_that_is_stopping_and_does_not_leave_is_relieved_after_a_grace() {
    let mut world = World::led(3, 5);
    world.stuck = vec!["Release"];
    world.report_of("db-0").stopping = true;
    world.run(195);
    assert_eq!(world.observed.record.term, Term(1));
    world.run(20);
    assert_eq!(world.master(), Some("db-1".into()));
    assert_eq!(world.changes.last().unwrap().intent.kind, Kind::Switchover);
}

#[test]
fn a_switchover_goes_to_the_node_that_was_asked_for() {
    let mut world = World::led(3, 5);
    world.ask("db-2");
    world.run(12);
    assert_eq!(world.master(), Some("db-2".into()));
    assert_eq!(world.answers, [(true, "db-2 leads in term 2".into())]);
    assert!(matches!(world.server("db-0").role, Role::Slave { .. }));
}

#[test]
fn a_switchover_that_makes_no_sense_is_answered_and_changes_nothing() {
    for (to, done, says) in [
        ("db-0", true, "leads in term 1"),
        ("db-9", false, "there is no node db-9"),
    ] {
        let mut world = World::led(3, 5);
        world.ask(to);
        world.run(5);
        assert_eq!(world.observed.record.term, Term(1));
        assert_eq!((world.answers.len(), world.answers[0].0), (1, done));
        assert!(world.answers[0].1.contains(says), "{:?}", world.answers);
    }
}

#[test]
fn a_switchover_to_a_node_far_behind_is_refused() {
    let mut world = World::led(3, 0);
    for _ in 0..1100 {
        world.write(&["db-2"]);
    }
    world.ask("db-2");
    world.run(5);
    assert_eq!(world.observed.record.term, Term(1));
    assert!(world.answers[0].1.contains("1100 transactions behind"));
}

#[test]
fn a_switchover_whose_target_dies_midway_ends_with_a_master_and_a_plain_answer() {
    let mut world = World::led(3, 5);
    world.ask("db-2");
    world.run(2);
    world.kill("db-2");
    world.run(20);
    assert!(world.master().is_some_and(|master| master != "db-2".into()));
    assert!(!world.answers[0].0);
    assert_eq!(world.answers.len(), 1, "it is not tried again by itself");
}

#[test]
fn a_candidate_that_dies_is_replaced_in_a_new_term() {
    let mut world = World::led(5, 5);
    world.kill("db-0");
    world.stuck = vec!["Promote"];
    world.run(6);
    assert_eq!(world.observed.record.term, Term(2));
    world.kill("db-1");
    world.stuck.clear();
    world.run(12);
    assert_eq!(
        (world.master(), world.observed.record.term),
        (Some("db-2".into()), Term(3))
    );
}

#[test]
fn a_new_operator_completes_what_the_old_one_began_after_every_step() {
    for ran in 1..10 {
        let mut world = World::led(3, 5);
        world.kill("db-0");
        world.run(ran);
        world.state = State::default();
        world.run(20);
        assert_eq!(
            world.master(),
            Some("db-1".into()),
            "after {ran} steps: {:?}",
            world.log
        );
        assert_eq!(labelled(&world), ["db-1"]);
        assert!(world.observed.record.intent.is_none());
    }
}

#[test]
fn automatic_failover_can_be_switched_off_and_a_wish_still_counts() {
    let mut world = World::led(3, 5);
    world.policy.automatic = false;
    world.kill("db-0");
    world.run(100);
    assert_eq!(
        (world.observed.record.term, world.report.decision),
        (Term(1), Decision::Blocked)
    );
    world.ask("db-2");
    world.run(12);
    assert_eq!(world.master(), Some("db-2".into()));
}

#[test]
fn a_label_that_somebody_moved_is_put_right() {
    let mut world = World::led(3, 5);
    for (node, now) in [("db-0", false), ("db-2", true)] {
        if let Pod::Present { labelled_master, .. } = &mut world.view(node).pod {
            *labelled_master = now;
        }
    }
    world.run(5);
    assert_eq!(labelled(&world), ["db-0"]);
    assert_eq!(world.observed.record.term, Term(1));
}

#[test]
fn the_database_grows_and_shrinks_with_the_right_quorum_at_every_moment() {
    let mut world = World::led(3, 5);
    world.grow(5);
    world.run(1600);
    let record = &world.observed.record;
    assert_eq!(
        (record.size, record.acks, record.members.len()),
        (5, acks_for(5), 5)
    );
    assert!(matches!(world.server("db-0").role, Role::Master { acks: 2, .. }));
    world.policy.nodes = 3;
    world.run(1600);
    let record = &world.observed.record;
    assert_eq!((record.size, record.acks, record.members.len()), (3, 1, 3));
    assert!(matches!(world.server("db-0").role, Role::Master { acks: 1, .. }));
    assert_eq!(world.report_of("db-4").fenced, Some(Term(1)));
}

#[test]
fn an_old_master_that_nobody_reached_is_fenced_before_it_follows() {
    let mut world = World::led(3, 5);
    world.cut("db-0", true);
    world.run(20);
    assert_eq!(world.master(), Some("db-1".into()));
    world.view("db-0").session = Session::Open { heard: world.now };
    world.log.clear();
    world.run(5);
    let own: Vec<&String> = world.log.iter().filter(|entry| entry.ends_with("db-0")).collect();
    assert_eq!(own[..2], ["Fence db-0", "Follow db-0"], "{:?}", world.log);
}

#[test]
fn a_node_that_does_not_count_yet_follows_nobody_while_the_master_changes() {
    let mut world = World::led(2, 5);
    world.grow(3);
    world.stuck = vec!["Record"];
    world.run(2);
    world.stuck.clear();
    let set = world.server("db-0").executed.clone();
    world.kill("db-0");
    world.log.clear();
    world.run(4);
    world.reboot("db-0", set);
    world.stuck = vec!["Route"];
    world.run(10);
    assert!(world.observed.record.intent.is_some());
    assert!(!world.log.contains(&"Follow db-2".to_owned()), "{:?}", world.log);
}

#[test]
fn a_first_master_waits_for_every_fence_and_says_whose_it_lacks() {
    let mut world = World::new(3);
    world.stuck = vec!["Fence"];
    world.run(2);
    world.kill("db-1");
    world.stuck.clear();
    world.run(20);
    assert_eq!((world.master(), world.report.decision), (None, Decision::Blocked));
    let [why] = &world.report.waiting_for[..] else {
        panic!("{:?}", world.report)
    };
    assert!(
        why.starts_with("3 of the nodes") && why.contains("db-1 ("),
        "{why}"
    );
}

#[test]
fn a_first_master_is_elected_by_all_nodes_that_exist_also_those_not_asked_for() {
    let mut world = World::new(3);
    world.policy.nodes = 2;
    world.run(2);
    let record = &world.observed.record;
    assert_eq!((record.size, record.members.len()), (3, 3));
    assert_eq!(record.fence_quorum(), 2);
}

#[test]
fn a_volume_lost_before_the_first_master_leads_begins_the_database_anew() {
    let mut world = World::new(3);
    world.stuck = vec!["Fence"];
    world.run(2);
    world.report_of("db-1").volume = "a new volume".into();
    world.stuck.clear();
    world.run(20);
    assert!(world.master().is_some());
    assert_eq!(
        world.observed.record.members.get(&"db-1".into()),
        Some(&"a new volume".into())
    );
}

#[test]
fn a_master_is_shown_only_when_enough_slaves_hold_what_it_inherited() {
    let mut world = World::led(3, 5);
    let tail = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
    world.server("db-1").received = tail;
    world.kill("db-0");
    world.stuck = vec!["Follow"];
    world.run(20);
    assert!(
        labelled(&world).is_empty(),
        "its last row is nowhere else: {:?}",
        world.report
    );
    world.stuck.clear();
    world.run(5);
    assert_eq!(labelled(&world), ["db-1"]);
}

#[test]
fn what_a_lost_node_said_in_an_older_term_does_not_count_for_what_a_new_master_inherits() {
    for (of_term, shown) in [(1, true), (0, false)] {
        let mut world = World::led(3, 5);
        let tail = GtidSet::new().with(&uuid(&"db-0".into()), 6, 6);
        for node in ["db-0", "db-1"] {
            world.server(node).executed = world.server(node).executed.union(&tail);
        }
        assert_eq!(world.observed.record.term, Term(1));
        world.report_of("db-0").term = Term(of_term);
        world.cut("db-0", true);
        world.stuck = vec!["Follow"];
        world.run(50);
        assert_eq!(world.observed.record.term, Term(2));
        assert_eq!(labelled(&world) == ["db-1"], shown, "{:?}", world.report);
    }
}

#[test]
fn a_slave_with_a_transaction_of_its_own_is_cloned_though_it_replicates() {
    let mut world = World::led(3, 5);
    let errant = world
        .server("db-2")
        .executed
        .clone()
        .with(&uuid(&"db-2".into()), 1, 1);
    world.server("db-2").executed = errant;
    world.run(5);
    assert_eq!(world.clones, [("db-2".into(), "db-1".into())]);
}

/// Gives the node a transaction that nobody else has.
fn make_errant(world: &mut World, node: &str) {
    let own = uuid(&node.into());
    let state = world.server(node);
    state.executed = state.executed.clone().with(&own, 1, 1);
}

#[test]
fn two_errant_slaves_are_cloned_one_after_the_other_while_one_acknowledges() {
    let mut world = World::led(3, 5);
    make_errant(&mut world, "db-1");
    make_errant(&mut world, "db-2");
    world.stuck = vec!["Follow"];
    world.run(20);
    let first = ("db-1".into(), "db-0".into());
    assert_eq!(
        world.clones.as_slice(),
        std::slice::from_ref(&first),
        "writes need the other"
    );
    world.stuck.clear();
    world.run(20);
    assert_eq!(world.clones, [first, ("db-2".into(), "db-1".into())]);
    assert_eq!(world.observed.record.term, Term(1));
}

#[test]
fn an_empty_node_is_cloned_where_the_master_has_much_though_it_has_all_logs() {
    for (writes, clones) in [(5, 0), (1500, 1)] {
        let mut world = World::led(3, writes);
        world.reboot("db-2", GtidSet::new());
        let report = world.report_of("db-2");
        (report.volume, report.followed) = ("anew".into(), None);
        world.run(10);
        assert_eq!(world.clones.len(), clones, "{writes} writes");
        assert_eq!(world.server("db-2").executed.count(), writes);
    }
}

/// The clones that the engine asks for now, as node and donor.
fn clones_asked(world: &World) -> Vec<(String, String)> {
    let (_, plan, _) = failover::step(State::default(), &world.observed, &world.policy, world.now);
    let clones = plan.into_iter().filter_map(|action| match action {
        Action::Clone { node, donor, .. } => Some((node.to_string(), donor.to_string())),
        _ => None,
    });
    clones.collect()
}

#[test]
fn a_node_whose_clone_is_refused_lets_others_go_first_and_tries_the_master() {
    let pair = |node: &str, donor: &str| vec![(node.to_owned(), donor.to_owned())];
    let mut world = World::led(3, 1500);
    world.stuck = vec!["Clone"];
    let empty = |world: &mut World, node: &str| {
        world.reboot(node, GtidSet::new());
        let report = world.report_of(node);
        (report.volume, report.followed) = (format!("anew-{node}").into(), None);
        world.run(5);
    };
    empty(&mut world, "db-1");
    assert_eq!(clones_asked(&world), pair("db-1", "db-2"));
    world.report_of("db-1").refused_clones = 1;
    assert_eq!(clones_asked(&world), pair("db-1", "db-0"), "the other donor");
    world.report_of("db-1").refused_clones = 2;
    assert_eq!(clones_asked(&world), pair("db-1", "db-2"), "in turns");
    empty(&mut world, "db-2");
    assert_eq!(clones_asked(&world), pair("db-2", "db-0"));
    world.report_of("db-2").refused_clones = 3;
    assert_eq!(clones_asked(&world), pair("db-1", "db-0"));
}

#[test]
fn the_only_slave_that_acknowledges_is_not_cloned() {
    let mut world = World::led(2, 5);
    make_errant(&mut world, "db-1");
    world.run(20);
    assert_eq!(world.clones, []);
    let notes = world.report.notes.join("; ");
    assert!(
        notes.contains("db-1: is cloned when enough other nodes acknowledge writes"),
        "{notes}"
    );
}

#[test]
fn a_slave_that_cannot_connect_does_not_stand_in_for_the_one_that_acknowledges() {
    let mut world = World::led(3, 5);
    make_errant(&mut world, "db-1");
    if let Role::Slave { receiver, .. } = &mut world.server("db-2").role {
        *receiver = Receiver::Connecting {
            error: "access denied".into(),
        };
    }
    world.run(20);
    assert_eq!(world.clones, []);
}

/// Both slaves came back with empty volumes, the master has purged what they need, and a commit waits on it.
fn waits_alone() -> World {
    let mut world = World::led(3, 5);
    let all = world.server("db-0").executed.clone();
    world.server("db-0").purged = all;
    for node in ["db-1", "db-2"] {
        world.reboot(node, GtidSet::new());
        let report = world.report_of(node);
        (report.volume, report.followed) = (format!("{node} anew").into(), None);
    }
    if let Role::Master { waiting, .. } = &mut world.server("db-0").role {
        *waiting = 1;
    }
    // A copy begins and does not end.
    world.stuck = vec!["Clone"];
    world.log.clear();
    world
}

#[test]
fn a_master_whose_commits_hold_up_the_only_copy_is_copied_at_rest() {
    let mut world = waits_alone();
    world.run(90);
    assert_eq!(world.observed.record.term, Term(1), "they may still end");
    world.run(60);
    assert_eq!(world.observed.record.term, Term(2));
    assert!(!world.log.contains(&"Promote db-0".to_owned()), "{:?}", world.log);
    let waiting = world.report.waiting_for.join("; ");
    assert!(
        waiting.contains("a copy of db-0, which stays closed"),
        "{waiting}"
    );
    world.stuck.clear();
    world.run(20);
    assert_eq!(world.master(), Some("db-0".into()));
    assert_eq!(world.clones[0], ("db-1".into(), "db-0".into()));
    let at = |entry: &str| world.log.iter().position(|it| it == entry);
    assert!(at("Clone db-1") < at("Promote db-0"), "{:?}", world.log);
    assert_eq!(world.clones.len(), 2);
    let change = world.changes.last().unwrap();
    assert_eq!((change.intent.kind, change.term), (Kind::Rest, Term(2)));
}

/// A resting master that is closed, and whose copy goes on.
fn at_rest() -> World {
    let mut world = waits_alone();
    world.run(150);
    assert_eq!(world.observed.record.term, Term(2));
    assert_eq!(world.report_of("db-0").fenced, Some(Term(2)));
    world
}

#[test]
fn a_master_that_is_out_of_reach_for_a_moment_at_rest_leads_again() {
    let mut world = at_rest();
    world.view("db-0").session = Session::Broken { since: world.now };
    world.run(3);
    let intent = world.observed.record.intent.clone().unwrap();
    assert_eq!(
        (intent.kind, intent.to),
        (Kind::Rest, Some("db-0".into())),
        "nobody else holds anything"
    );
    world.view("db-0").session = Session::Open { heard: world.now };
    world.stuck.clear();
    world.run(30);
    assert_eq!(world.master(), Some("db-0".into()));
    assert_eq!(world.observed.record.term, Term(3));
}

#[test]
fn a_resting_master_that_lost_its_promotion_is_closed_again_by_whoever_takes_over() {
    let mut world = at_rest();
    world.state = failover::State::default();
    let report = world.report_of("db-0");
    (report.fenced, report.promoted) = (None, Some(Term(2)));
    world.run(300);
    let term = world.observed.record.term;
    assert!(term > Term(2), "{:?}", world.report);
    assert_eq!(world.report_of("db-0").fenced, Some(term));
}

/// The master has purged what db-1 needs, db-2 is silent, a commit waits, and a copy begins and does not end.
fn waits_for_a_silent_one(world: &mut World) {
    let all = world.server("db-0").executed.clone();
    world.server("db-0").purged = all;
    world.reboot("db-1", GtidSet::new());
    let report = world.report_of("db-1");
    (report.volume, report.followed) = ("anew".into(), None);
    world.cut("db-2", false);
    if let Role::Master { waiting, .. } = &mut world.server("db-0").role {
        *waiting = 1;
    }
    world.stuck = vec!["Clone"];
}

#[test]
fn a_whole_slave_that_comes_back_ends_the_rest() {
    let mut world = World::led(3, 5);
    let whole = world.view("db-2").clone();
    waits_for_a_silent_one(&mut world);
    world.run(1000);
    assert_eq!(world.observed.record.term, Term(1), "db-2 may be whole");
    world.run(700);
    assert_eq!(world.observed.record.term, Term(2));
    *world.view("db-2") = whole;
    world.run(10);
    assert_eq!(world.master(), Some("db-0".into()));
    assert_eq!(world.clones, [], "the copy of db-1 was not waited for");
}

#[test]
fn a_copy_that_is_given_up_again_and_again_does_not_put_the_rest_off() {
    let mut world = World::led(3, 5);
    waits_for_a_silent_one(&mut world);
    for _ in 0..2 {
        world.run(900);
        let server = world.report_of("db-1").server.clone();
        world.kill("db-1");
        world.run(10);
        world.report_of("db-1").server = server;
    }
    world.run(10);
    assert_eq!(world.observed.record.term, Term(2), "{:?}", world.report);
}

#[test]
fn no_other_node_leads_after_a_rest_where_nobody_fails_over_unasked() {
    let mut world = World::led(5, 5);
    world.policy.automatic = false;
    rests_alone_of_five(&mut world);
    world.view("db-0").pod = Pod::Missing;
    world.run(5);
    let intent = world.observed.record.intent.clone().unwrap();
    assert_eq!((intent.kind, intent.to), (Kind::Failover, Some("db-0".into())));
}

/// Two empty slaves, two with transactions of their own, and a master that does not close for its rest.
fn rests_alone_of_five(world: &mut World) {
    let all = world.server("db-0").executed.clone();
    world.server("db-0").purged = all;
    for node in ["db-3", "db-4"] {
        world.reboot(node, GtidSet::new());
        let report = world.report_of(node);
        (report.volume, report.followed) = (format!("{node} anew").into(), None);
    }
    for node in ["db-1", "db-2"] {
        make_errant(world, node);
        world.report_of(node).followed = None;
    }
    if let Role::Master { waiting, .. } = &mut world.server("db-0").role {
        *waiting = 1;
    }
    world.stuck = vec!["Clone", "Fence db-0"];
    world.run(150);
    let resting = world.observed.record.intent.as_ref().map(|intent| intent.kind);
    assert_eq!(resting, Some(Kind::Rest));
}

#[test]
fn a_master_that_is_lost_at_rest_is_replaced_where_enough_others_answer() {
    let mut world = World::led(5, 5);
    rests_alone_of_five(&mut world);
    world.run(2000);
    let intent = world.observed.record.intent.clone().unwrap();
    assert_eq!((intent.kind, intent.to), (Kind::Failover, None));
}

#[test]
fn a_master_with_a_high_number_leaves_the_quorum_once_another_leads() {
    let mut world = World::led(3, 5);
    world.ask("db-2");
    world.run(12);
    world.policy.nodes = 2;
    world.run(1600);
    let members = |world: &World| -> Vec<String> {
        let names = world.observed.record.members.keys();
        names.map(ToString::to_string).collect()
    };
    assert_eq!(members(&world), ["db-0", "db-2"], "the master stays");
    world.ask("db-0");
    world.run(1600);
    assert_eq!(world.master(), Some("db-0".into()));
    assert_eq!(members(&world), ["db-0", "db-1"], "and then makes room");
}

#[test]
fn more_acknowledgements_count_only_after_they_were_in_force_for_a_while() {
    let mut world = World::led(3, 5);
    world.grow(5);
    world.run(100);
    assert!(matches!(world.server("db-0").role, Role::Master { acks: 2, .. }));
    assert_eq!(
        world.observed.record.acks, 1,
        "a command that lowers them may be under way"
    );
    world.run(1500);
    assert_eq!(world.observed.record.acks, 2);
}

#[test]
fn a_promotion_that_broke_off_before_clients_were_let_in_is_finished() {
    let mut world = World::led(3, 5);
    world.kill("db-0");
    world.stuck = vec!["Route"];
    world.run(10);
    world.server("db-1").open = false;
    world.stuck = vec!["Promote"];
    world.run(5);
    assert!(labelled(&world).is_empty());
    assert!(
        world
            .report
            .waiting_for
            .contains(&"db-1 to let clients in".to_owned())
    );
}
