//! Status as people see it, in whole.

use std::collections::BTreeMap;

use failover::{Cause, Change, Intent, Kind, NodeReport, Pod, Term};

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

fn view(role: Role) -> NodeView {
    let set = GtidSet::new().with(A, 1, 10);
    let state = ServerState {
        uuid: A.to_owned(),
        version: "9.7.4".to_owned(),
        role,
        executed: set.clone(),
        received: GtidSet::new(),
        purged: GtidSet::new(),
        open: true,
        stuck: None,
    };
    NodeView {
        pod: Pod::Present {
            address: Some("10.0.0.1".to_owned()),
            deleting: false,
            labelled_master: false,
            stamp: Term(3),
        },
        session: Session::Open { heard: 900 },
        report: Some(NodeReport {
            term: Term(3),
            ..NodeReport::new("v".into(), Server::Up(Box::new(state)))
        }),
    }
}

fn pace(observed: &Observed) -> Pace {
    let mut pace = Pace::default();
    pace.note(observed);
    pace
}

fn slave() -> NodeView {
    view(Role::Slave {
        term: Term(3),
        source: "db-0".into(),
        address: "10.0.0.1".to_owned(),
        receiver: Receiver::Receiving { age_ms: 10 },
        applier: Applier::Running,
        caught_up: true,
    })
}

fn database(nodes: u32) -> Observed {
    let names: Vec<NodeId> = (0..nodes).map(|index| names::node("db", index).into()).collect();
    let mut views: BTreeMap<NodeId, NodeView> = names.iter().map(|name| (name.clone(), slave())).collect();
    views.insert(
        "db-0".into(),
        view(Role::Master {
            term: Term(3),
            acks: nodes / 2,
            waiting: 0,
        }),
    );
    let record = Record {
        term: Term(3),
        master: Some("db-0".into()),
        intent: None,
        size: nodes,
        acks: nodes / 2,
        members: names.into_iter().map(|name| (name, "v".into())).collect(),
        forced: None,
    };
    Observed {
        record,
        nodes: views,
        switchover: None,
        service: failover::Service::default(),
        asked: failover::Asked::default(),
    }
}

fn policy(nodes: u32) -> Policy {
    let mut policy = object().policy();
    policy.nodes = nodes;
    policy
}

fn object() -> DistributedDatabase {
    let mut object = DistributedDatabase::new(
        "db",
        api::DistributedDatabaseSpec {
            nodes: 3,
            ..Default::default()
        },
    );
    object.metadata.generation = Some(7);
    object
}

fn status(observed: &Observed, report: &Report, completes: Option<Change>) -> DistributedDatabaseStatus {
    status_of(Input {
        object: &object(),
        applied: &Applied::Done,
        observed,
        report,
        policy: &policy(3),
        pace: &pace(observed),
        troubles: &BTreeMap::from([("db-2".into(), "10.0.0.3:8440 does not answer".to_owned())]),
        kept: &BTreeMap::new(),
        completes,
        answered: None,
        now: 1000,
        wall: Timestamp::from_second(1_700_000_000).unwrap(),
    })
}

fn break_session(observed: &mut Observed, node: &str) {
    observed.nodes.get_mut(&NodeId::from(node)).unwrap().session = Session::Broken { since: 500 };
}

#[test]
fn a_whole_database_is_healthy() {
    insta::assert_yaml_snapshot!(status(&database(3), &Report::of(Decision::Steady), None));
}

#[test]
fn a_lost_slave_leaves_a_degraded_database_at_risk() {
    let mut observed = database(3);
    break_session(&mut observed, "db-2");
    insta::assert_yaml_snapshot!(status(&observed, &Report::of(Decision::Steady), None));
}

#[test]
fn a_completed_failover_stands_first_in_the_list() {
    let change = Change {
        term: Term(3),
        intent: Intent {
            kind: Kind::Failover,
            cause: Cause::ServerDied,
            from: Some("db-1".into()),
            to: None,
        },
        master: "db-0".into(),
        steps: BTreeMap::from([("recorded".to_owned(), 4), ("promoted".to_owned(), 60)]),
        total: 90,
        may_be_lost: None,
        kept: failover::GtidSet::default(),
    };
    let status = status(&database(3), &Report::of(Decision::Steady), Some(change));
    insta::assert_yaml_snapshot!(status.last_failovers);
}

#[test]
fn a_blocked_change_says_what_it_waits_for() {
    let mut observed = database(3);
    observed.record.master = None;
    let mut report = Report::of(Decision::Blocked);
    report.waiting_for.push("db-1 does not answer".to_owned());
    let status = status(&observed, &report, None);
    assert_eq!(status.phase, Phase::Down);
    assert!(
        status
            .explanation
            .contains(&"Waiting for: db-1 does not answer.".to_owned()),
        "{status:?}"
    );
}

#[test]
fn where_too_few_nodes_answer_the_status_names_the_missing_and_prints_the_command() {
    let mut observed = database(3);
    observed.record.master = None;
    let mut report = Report::of(Decision::Blocked);
    report.last_resort = Some(failover::LastResort {
        candidate: Some("db-1".into()),
        term: Term(3),
        missing: BTreeMap::from([("db-0".into(), "does not answer".to_owned())]),
    });
    let status = status(&observed, &report, None);
    let last = status.last_resort.unwrap();
    assert_eq!(last.missing, ["db-0 (does not answer)"]);
    let command = "kubectl annotate ddb db -n default --overwrite ddb-operator.io/force-promote=db-1@3";
    assert_eq!(last.command.as_deref(), Some(command));
    assert!(
        status.explanation.iter().any(|line| line.contains(command)),
        "{:?}",
        status.explanation
    );
}

#[test]
fn a_paused_database_says_so_in_phase_and_condition() {
    let input = |policy: &Policy| {
        status_of(Input {
            object: &object(),
            applied: &Applied::Done,
            observed: &database(3),
            report: &Report::of(Decision::Steady),
            policy,
            pace: &pace(&database(3)),
            troubles: &BTreeMap::new(),
            kept: &BTreeMap::new(),
            completes: None,
            answered: None,
            now: 1000,
            wall: Timestamp::from_second(1_700_000_000).unwrap(),
        })
    };
    let paused = input(&Policy {
        paused: true,
        ..policy(3)
    });
    assert_eq!((paused.phase, paused.safe_to_lose), (Phase::Paused, 0));
    let condition = |status: &DistributedDatabaseStatus| {
        let found = status
            .conditions
            .iter()
            .find(|one| one.type_ == "Paused")
            .cloned();
        found.unwrap().status
    };
    assert_eq!(condition(&paused), "True");
    assert_eq!(condition(&input(&policy(3))), "False");
}

#[test]
fn lowered_acknowledgements_are_a_risk_that_names_what_may_be_lost() {
    let mut observed = database(3);
    observed.record.acks = 0;
    let status = status(&observed, &Report::of(Decision::Steady), None);
    let risk = status
        .conditions
        .iter()
        .find(|one| one.type_ == "AtRisk")
        .unwrap();
    assert_eq!(
        (risk.status.as_str(), risk.reason.as_str()),
        ("True", "DurabilityLowered")
    );
    assert!(risk.message.contains("may be lost"), "{}", risk.message);
}

#[test]
fn safe_to_lose_counts_quorum_and_acknowledgements() {
    for (nodes, expected) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3), (9, 4)] {
        assert_eq!(
            safe_to_lose(&database(nodes), &policy(nodes)),
            expected,
            "{nodes} nodes"
        );
    }
}

#[test]
fn nothing_is_safe_to_lose_without_a_spare_slave_a_master_or_automatic_failover() {
    let mut lacking = database(3);
    break_session(&mut lacking, "db-2");
    assert_eq!(safe_to_lose(&lacking, &policy(3)), 0);
    let mut headless = database(3);
    headless.record.master = None;
    assert_eq!(safe_to_lose(&headless, &policy(3)), 0);
    let manual = Policy {
        automatic: false,
        ..policy(3)
    };
    assert_eq!(safe_to_lose(&database(3), &manual), 0);
}

#[test]
fn a_slave_whose_volume_is_no_members_does_not_count() {
    let mut observed = database(3);
    observed.record.members.insert("db-1".into(), "former".into());
    assert_eq!(safe_to_lose(&observed, &policy(3)), 0);
}

#[test]
fn positions_and_contact_alone_are_no_material_difference() {
    let one = status(&database(3), &Report::of(Decision::Steady), None);
    let mut other = one.clone();
    other.nodes[0].gtid_set = GtidSet::new();
    other.nodes[1].last_contact = None;
    assert!(!differs_materially(&one, &other));
    other.ready_nodes = 2;
    assert!(differs_materially(&one, &other));
}

#[test]
fn a_condition_keeps_its_transition_time_while_its_status_stays() {
    let first = status(&database(3), &Report::of(Decision::Steady), None);
    let mut object = object();
    object.status = Some(first.clone());
    let later = status_of(Input {
        object: &object,
        applied: &Applied::Done,
        observed: &database(3),
        report: &Report::of(Decision::Steady),
        policy: &policy(3),
        pace: &pace(&database(3)),
        troubles: &BTreeMap::new(),
        kept: &BTreeMap::new(),
        completes: None,
        answered: None,
        now: 2000,
        wall: Timestamp::from_second(1_700_000_600).unwrap(),
    });
    assert_eq!(later.conditions, first.conditions);
}

#[test]
fn files_are_shown_until_their_node_says_that_there_are_none() {
    let kept = Kept {
        count: 1,
        newest: vec![api::kept::KeptTransactions {
            at: api::kept::moment(1_700_000_000),
            reason: api::kept::GivenUp::Extra,
            file: Some("/var/lib/ddb/tails/3-1700000000.binlog".to_owned()),
            bytes: 400,
            transactions: GtidSet::new().with(A, 11, 12),
            missing: GtidSet::new(),
            why_missing: None,
        }],
    };
    let mut object = object();
    let mut shown = |said: BTreeMap<NodeId, Kept>| {
        let status = status_of(Input {
            object: &object,
            applied: &Applied::Done,
            observed: &database(3),
            report: &Report::of(Decision::Steady),
            policy: &policy(3),
            pace: &pace(&database(3)),
            troubles: &BTreeMap::new(),
            kept: &said,
            completes: None,
            answered: None,
            now: 1000,
            wall: Timestamp::from_second(1_700_000_000).unwrap(),
        });
        let of_node = status.nodes[2].kept.clone();
        object.status = Some(status);
        of_node
    };
    assert_eq!(
        shown(BTreeMap::from([("db-2".into(), kept.clone())])),
        Some(kept.clone())
    );
    assert_eq!(
        shown(BTreeMap::new()),
        Some(kept),
        "another operator has not heard of it yet"
    );
    assert_eq!(shown(BTreeMap::from([("db-2".into(), Kept::default())])), None);
}
