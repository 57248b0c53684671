//! Facts for tests: a database `default/shop` of three nodes in several states.

use std::collections::BTreeMap;

use api::kept::{GivenUp, Kept, KeptTransactions};
use api::resource::{FailoverStatus, NodePace, NodeRole, NodeStatus, Phase};
use api::{DistributedDatabase, DistributedDatabaseSpec, DistributedDatabaseStatus, names};
use failover::{Cause, Change, Intent, Kind, NodeId, Record, Term};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ManagedFieldsEntry, Time};
use kube::ResourceExt;

use crate::fetch::{Deployed, Facts, Known, Operator, SERVICE_NAME};

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const NOW: i64 = 1_700_000_000;

/// The moment of all examples, less some seconds.
pub fn before(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW - seconds).unwrap()
}

fn node(index: u32, role: NodeRole) -> NodeStatus {
    NodeStatus {
        name: NodeId::from(names::node("shop", index)),
        role,
        ready: true,
        address: Some(format!("10.0.0.{}", index + 1)),
        version: Some("9.7.4".to_owned()),
        gtid_set: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-10".parse().unwrap(),
        behind: (role == NodeRole::Slave).then_some(0),
        pace: NodePace::Executes,
        message: String::new(),
        last_contact: Some(Time(before(4))),
        kept: None,
    }
}

pub fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(1),
        last_transition_time: Time(before(90)),
    }
}

fn set(status: &mut DistributedDatabaseStatus, with: Condition) {
    status.conditions.retain(|one| one.type_ != with.type_);
    status.conditions.push(with);
}

fn intent(kind: Kind, cause: Cause) -> Intent {
    Intent {
        kind,
        cause,
        from: Some("shop-0".into()),
        to: (kind == Kind::Switchover).then(|| "shop-1".into()),
    }
}

fn change(term: u64, cause: Cause, kind: Kind, age: i64) -> FailoverStatus {
    let steps = [
        ("recorded", 5),
        ("fenced", 40),
        ("drained", 40),
        ("promoted", 60),
        ("routed", 95),
    ];
    FailoverStatus {
        at: Time(before(age)),
        change: Change {
            term: Term(term),
            intent: intent(kind, cause),
            master: "shop-1".into(),
            steps: steps.map(|(step, at)| (step.to_owned(), at)).into(),
            total: 95,
            may_be_lost: None,
            kept: failover::GtidSet::default(),
        },
    }
}

fn status() -> DistributedDatabaseStatus {
    let members = (0..3).map(|index| (names::node("shop", index).into(), "v".into()));
    DistributedDatabaseStatus {
        record: Record {
            term: Term(3),
            master: Some("shop-0".into()),
            intent: None,
            size: 3,
            acks: 1,
            members: members.collect(),
            forced: None,
        },
        phase: Phase::Healthy,
        observed_generation: Some(1),
        ready_nodes: 3,
        safe_to_lose: 1,
        selector: "ddb-operator.io/cluster=shop".to_owned(),
        nodes: vec![
            node(0, NodeRole::Master),
            node(1, NodeRole::Slave),
            node(2, NodeRole::Slave),
        ],
        conditions: vec![
            condition(
                "Ready",
                true,
                "AllNodesServe",
                "A master leads and all 3 nodes serve.",
            ),
            condition(
                "Available",
                true,
                "MasterServes",
                "shop-0 accepts and acknowledges writes.",
            ),
            condition("Degraded", false, "Whole", "Every node serves."),
            condition("AtRisk", false, "NodesToSpare", "One node may fail."),
            condition("Valid", true, "Accepted", "The spec is applied."),
        ],
        last_failovers: Vec::new(),
        explanation: vec!["The master leads; nothing is to be decided.".to_owned()],
        last_request: None,
        last_resort: None,
    }
}

fn pod(index: u32) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(names::node("shop", index));
    let role = if index == 0 {
        names::ROLE_MASTER
    } else {
        names::ROLE_SLAVE
    };
    pod.labels_mut()
        .insert(names::LABEL_ROLE.to_owned(), role.to_owned());
    pod.spec = Some(PodSpec {
        node_name: Some(format!("node{}", index + 1)),
        ..PodSpec::default()
    });
    pod.status = Some(PodStatus {
        pod_ip: Some(format!("10.0.0.{}", index + 1)),
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    pod
}

fn slice(service: String, pods: &[&str]) -> EndpointSlice {
    let mut slice = EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: pods
            .iter()
            .map(|pod| Endpoint {
                addresses: vec!["10.0.0.9".to_owned()],
                target_ref: Some(ObjectReference {
                    name: Some((*pod).to_owned()),
                    ..ObjectReference::default()
                }),
                ..Endpoint::default()
            })
            .collect(),
        ..EndpointSlice::default()
    };
    slice.labels_mut().insert(SERVICE_NAME.to_owned(), service);
    slice
}

fn facts(status: Option<DistributedDatabaseStatus>) -> Facts {
    let spec = DistributedDatabaseSpec {
        nodes: 3,
        ..DistributedDatabaseSpec::default()
    };
    let mut object = DistributedDatabase::new("shop", spec);
    object.metadata.namespace = Some("default".to_owned());
    object.metadata.managed_fields = Some(vec![ManagedFieldsEntry {
        subresource: Some("status".to_owned()),
        time: Some(Time(before(4))),
        ..ManagedFieldsEntry::default()
    }]);
    object.status = status;
    let pods: BTreeMap<String, Pod> = (0..3)
        .map(|index| (names::node("shop", index), pod(index)))
        .collect();
    Facts {
        now: before(0),
        object,
        pods: Known::Yes(pods),
        slices: Known::Yes(vec![
            slice(names::master_service("shop"), &["shop-0"]),
            slice(names::slaves_service("shop"), &["shop-1", "shop-2"]),
        ]),
        operator: Operator::Alive {
            holder: "ddb-operator-1".to_owned(),
            namespace: "ddb-system".to_owned(),
        },
    }
}

/// Three nodes, all well.
pub fn healthy() -> Facts {
    facts(Some(status()))
}

/// Applied a moment ago; nobody looked at it.
pub fn empty() -> Facts {
    let mut facts = facts(None);
    facts.pods = Known::Yes(BTreeMap::new());
    facts.slices = Known::Yes(Vec::new());
    facts
}

/// A slave's server does not run.
pub fn degraded() -> Facts {
    let mut status = status();
    status.phase = Phase::Degraded;
    status.ready_nodes = 2;
    status.safe_to_lose = 0;
    let lost = &mut status.nodes[2];
    lost.role = NodeRole::Down;
    lost.ready = false;
    lost.behind = None;
    lost.message = "mysqld does not run: killed by signal 9".to_owned();
    lost.last_contact = Some(Time(before(40)));
    set(
        &mut status,
        condition(
            "Degraded",
            true,
            "NodesLacking",
            "shop-2: mysqld does not run: killed by signal 9",
        ),
    );
    set(
        &mut status,
        condition(
            "AtRisk",
            true,
            "NoNodeToSpare",
            "The loss of one more node stops writes.",
        ),
    );
    status.last_failovers = vec![change(3, Cause::ServerDied, Kind::Failover, 4000)];
    let mut facts = facts(Some(status));
    unready(&mut facts, "shop-2");
    facts
}

/// The master is being replaced.
pub fn failing_over() -> Facts {
    let mut status = status();
    status.phase = Phase::FailingOver;
    status.safe_to_lose = 0;
    status.record.term = Term(4);
    status.record.master = None;
    status.record.intent = Some(intent(Kind::Failover, Cause::ServerDied));
    status.nodes[0].role = NodeRole::Down;
    status.nodes[0].ready = false;
    status.nodes[0].message = "mysqld does not run: killed by signal 9".to_owned();
    status.explanation = vec![
        "The master changes.".to_owned(),
        "Chosen: shop-1, because it holds all that any fenced node holds.".to_owned(),
        "Not chosen: shop-2, because it lacks 3 transactions.".to_owned(),
        "Waiting for: shop-1 to execute what it received.".to_owned(),
    ];
    set(
        &mut status,
        condition("Available", false, "NoMaster", "There is no master now."),
    );
    facts(Some(status))
}

/// All pods are down, and so is the operator.
pub fn down() -> Facts {
    let mut facts = facts(Some(status()));
    for node in ["shop-0", "shop-1"] {
        unready(&mut facts, node);
    }
    if let Known::Yes(pods) = &mut facts.pods {
        pods.remove("shop-2");
    }
    facts.slices = Known::Not("you may not list endpoint slices".to_owned());
    facts.operator = Operator::Silent {
        since: Some(before(600)),
        namespace: "ddb-system".to_owned(),
        deployment: Some(Deployed {
            name: "ddb-operator".to_owned(),
            replicas: 0,
        }),
    };
    age(&mut facts, 605);
    facts
}

/// The operator is down, all else is well.
pub fn unattended() -> Facts {
    let mut facts = healthy();
    facts.operator = Operator::Silent {
        since: Some(before(600)),
        namespace: "ddb-system".to_owned(),
        deployment: Some(Deployed {
            name: "ddb-operator".to_owned(),
            replicas: 0,
        }),
    };
    age(&mut facts, 605);
    facts
}

/// Has the status written some seconds ago.
fn age(facts: &mut Facts, seconds: i64) {
    for write in facts.object.metadata.managed_fields.iter_mut().flatten() {
        write.time = Some(Time(before(seconds)));
    }
    for node in facts
        .object
        .status
        .iter_mut()
        .flat_map(|status| &mut status.nodes)
    {
        node.last_contact = Some(Time(before(seconds)));
    }
}

/// The master and shop-2 are gone, and shop-1 alone is no quorum.
pub fn blocked() -> Facts {
    let mut status = status();
    status.phase = Phase::Down;
    status.safe_to_lose = 0;
    for (index, why) in [(0, "the session is broken"), (2, "there is no pod of that name")] {
        status.nodes[index].role = NodeRole::Down;
        status.nodes[index].ready = false;
        status.nodes[index].message = why.to_owned();
    }
    status.last_resort = Some(api::resource::LastResortStatus {
        missing: vec![
            "shop-0 (does not answer)".to_owned(),
            "shop-2 (does not answer)".to_owned(),
        ],
        command: Some(
            "kubectl annotate ddb shop -n default --overwrite ddb-operator.io/force-promote=shop-1@3"
                .to_owned(),
        ),
    });
    let message = "The master shop-0 is not known to serve.";
    set(
        &mut status,
        condition("Available", false, "MasterNotServing", message),
    );
    let mut facts = facts(Some(status));
    unready(&mut facts, "shop-0");
    unready(&mut facts, "shop-2");
    facts
}

/// A slave was cloned and keeps what the master lacked.
pub fn keeping() -> Facts {
    let mut facts = healthy();
    let one = |reason, name: &str, age, from| KeptTransactions {
        at: Time(before(age)),
        reason,
        file: Some(format!("/var/lib/ddb/tails/{name}.binlog")),
        bytes: 10_400,
        transactions: failover::GtidSet::new().with(A, from, from + 1),
        missing: failover::GtidSet::new(),
        why_missing: None,
    };
    let newest = KeptTransactions {
        file: None,
        bytes: 0,
        transactions: failover::GtidSet::new(),
        missing: failover::GtidSet::new().with(A, 20, 20),
        why_missing: Some("the binary logs that held them were purged".to_owned()),
        ..one(GivenUp::Extra, "4-1699999990-extra", 10, 20)
    };
    let kept = Kept {
        count: 5,
        newest: vec![
            newest,
            one(GivenUp::Extra, "3-1699999900-extra", 100, 11),
            one(GivenUp::Unacknowledged, "3-1699996400", 3600, 8),
        ],
    };
    let status = facts.object.status.as_mut().expect("it has one");
    status.nodes[2].kept = Some(kept);
    facts
}

/// After a switchover to shop-1.
pub fn switched_over() -> Facts {
    let mut status = status();
    status.record.term = Term(4);
    status.record.master = Some("shop-1".into());
    status.nodes[0] = node(0, NodeRole::Slave);
    status.nodes[1] = node(1, NodeRole::Master);
    status.last_failovers = vec![change(4, Cause::Requested, Kind::Switchover, 10)];
    let mut facts = facts(Some(status));
    facts.slices = Known::Yes(vec![
        slice(names::master_service("shop"), &["shop-1"]),
        slice(names::slaves_service("shop"), &["shop-0", "shop-2"]),
    ]);
    facts
}

/// Takes a pod's readiness away.
pub fn unready(facts: &mut Facts, pod: &str) {
    let Known::Yes(pods) = &mut facts.pods else { return };
    let conditions = pods
        .get_mut(pod)
        .and_then(|pod| pod.status.as_mut())
        .and_then(|status| status.conditions.as_mut());
    for condition in conditions.into_iter().flatten() {
        "False".clone_into(&mut condition.status);
    }
}
