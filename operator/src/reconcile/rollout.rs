//! Decides which pods are made and which are ended: pure, from the facts to a list of steps.
//!
//! Missing pods are made at once. A pod of an old template is replaced by ending it, one at a time and only while
//! every node serves: slaves first, the master last (ending it in order makes the failover engine hand over first).
//! A pod that does not get ready stops the rollout; a mended spec may replace it. A node that the spec no longer
//! asks for goes only after the engine has taken it out of the quorum, and never while it leads.
//!
//! Before each turn the database rests. A slave that just came back still catches up, and writes would wait for it once
//! another is taken away; and kube-proxy holds changes of endpoints that follow one another closely back for
//! a second each. A failover cannot choose its moment, this can.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::DistributedDatabaseStatus;
use api::names;
use api::resource::{NodePace, Phase};
use failover::{NodeId, Record};

use super::observe::{ClaimFacts, Observed, PodFacts};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the pod of this node.
    Create {
        /// The node's index.
        index: u32,
    },
    /// End this very pod.
    Delete {
        /// Its name.
        name: String,
        /// Which life of it.
        uid: String,
        /// Why, for the log.
        reason: &'static str,
    },
}

/// What is wanted.
pub struct Wanted<'a> {
    /// The database's name.
    pub name: &'a str,
    /// How many nodes.
    pub nodes: u32,
    /// The template of each node, by index.
    pub templates: &'a [String],
}

/// How long the database must have been at rest before a pod is replaced.
pub const REST: Duration = Duration::from_millis(2500);
/// After so long a pod is replaced though a slave still catches up: under a load that it cannot follow, it
/// might never have all.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// How far a database is from a state in which a pod can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// A node does not serve.
    Broken,
    /// Every node serves; a slave still catches up with what it missed.
    CatchingUp,
    /// Every node serves and every slave keeps pace, as well as the next turn asks for.
    AtRest,
}

/// The condition of the database now.
pub fn condition(wanted: &Wanted, observed: &Observed, status: &DistributedDatabaseStatus) -> Condition {
    let current = current(wanted, &observed.pods);
    let serve = status.phase == Phase::Healthy
        && current.len() == wanted.nodes as usize
        && current
            .iter()
            .all(|(name, pod, _)| !pod.deleting && serves(name, pod, status));
    // Writes wait for what a slave has not received when another slave is replaced, and for what the new master has not
    // executed when the master is.
    let master = status.record.master.as_ref().map(failover::NodeId::as_str);
    let slaves_turn = current
        .iter()
        .any(|(name, _, outdated)| *outdated && Some(name.as_str()) != master);
    let needed = if slaves_turn {
        NodePace::Receives
    } else {
        NodePace::Executes
    };
    match serve {
        false => Condition::Broken,
        true if status.nodes.iter().all(|node| node.pace >= needed) => Condition::AtRest,
        true => Condition::CatchingUp,
    }
}

/// The nodes that are to have a pod: those that the spec asks for, and those that the quorum counts still. Without its pod
/// such a node could not hold what it must before it may go, and nobody could take its place.
pub fn indices(nodes: u32, record: &Record) -> BTreeSet<u32> {
    let counted = record.members.keys().filter_map(NodeId::number);
    (0..nodes).chain(counted).collect()
}

/// Decides. `rested`: it has been at rest for [`REST`], or catching up for [`PATIENCE`].
pub fn steps(
    wanted: &Wanted,
    observed: &Observed,
    status: &DistributedDatabaseStatus,
    rested: bool,
) -> Vec<Step> {
    let Observed { pods, claims } = observed;
    let mut steps = Vec::new();
    let mut whole = true;
    for index in indices(wanted.nodes, &status.record) {
        let name = names::node(wanted.name, index);
        match pods.get(&name) {
            None => {
                whole = false;
                // A pod of a claim that is going could not start; the claim's end is an event.
                if !claims
                    .get(&name)
                    .is_some_and(|ClaimFacts { deleting, size: _ }| *deleting)
                {
                    steps.push(Step::Create { index });
                }
            }
            Some(pod) if pod.deleting => whole = false,
            Some(pod) if pod.finished => {
                whole = false;
                steps.push(end(&name, pod, "it ended and does not start again"));
            }
            Some(_) => {}
        }
    }
    steps.extend(surplus(wanted, pods, status));
    if whole {
        steps.extend(replacement(wanted, pods, status, rested));
    }
    steps
}

/// Pods of nodes that the spec does not ask for any more.
fn surplus(
    wanted: &Wanted,
    pods: &BTreeMap<String, PodFacts>,
    status: &DistributedDatabaseStatus,
) -> Vec<Step> {
    let record = &status.record;
    // The quorum must not count them any more; a size of 0 is a database that never led.
    let settled = record.size > 0 && record.size <= wanted.nodes && record.intent.is_none();
    if !settled {
        return Vec::new();
    }
    let wanted_names: BTreeSet<String> = (0..wanted.nodes)
        .map(|index| names::node(wanted.name, index))
        .collect();
    let leads = |name: &str| {
        record
            .master
            .as_ref()
            .is_none_or(|master| master.as_str() == name)
    };
    pods.iter()
        .filter(|(name, pod)| !pod.deleting && !wanted_names.contains(*name) && !leads(name))
        .filter(|(name, _)| {
            !record
                .members
                .contains_key(&failover::NodeId::from(name.as_str()))
        })
        .map(|(name, pod)| end(name, pod, "the spec asks for fewer nodes"))
        .collect()
}

/// The next pod of an old template; none while the rollout has to wait.
fn replacement(
    wanted: &Wanted,
    pods: &BTreeMap<String, PodFacts>,
    status: &DistributedDatabaseStatus,
    rested: bool,
) -> Vec<Step> {
    let master = status.record.master.as_ref().map(failover::NodeId::as_str);
    let current = current(wanted, pods);
    let outdated = || current.iter().filter(|(_, _, outdated)| *outdated);
    // What cannot run under its old template loses nothing by a new one, in whatever state the database is.
    let never_led = status.record.term.0 == 0;
    let hopeless: Vec<Step> = outdated()
        .filter(|(_, pod, _)| !pod.ready && (pod.stuck || never_led))
        .map(|(name, pod, _)| end(name, pod, "it cannot start and its template is out of date"))
        .collect();
    if !hopeless.is_empty() {
        return hopeless;
    }
    let unready: Vec<&str> = current
        .iter()
        .filter(|(name, pod, _)| !serves(name, pod, status))
        .map(|(name, ..)| name.as_str())
        .collect();
    let next = match unready.as_slice() {
        // Slaves from the last to the first, then the master.
        [] if status.phase == Phase::Healthy && rested => outdated()
            .rfind(|(name, ..)| Some(name.as_str()) != master)
            .or_else(|| outdated().next()),
        // The one node that does not serve is the one that a mended spec is to mend.
        [only]
            if status.record.intent.is_none() && Some(*only) != master && status.phase != Phase::Paused =>
        {
            outdated().find(|(name, ..)| name == only)
        }
        _ => None,
    };
    next.map(|(name, pod, _)| end(name, pod, "its template is out of date"))
        .into_iter()
        .collect()
}

/// The pods that there are of the nodes that are wanted, with their names; true of those of an old template.
fn current<'a>(wanted: &Wanted, pods: &'a BTreeMap<String, PodFacts>) -> Vec<(String, &'a PodFacts, bool)> {
    (0..wanted.nodes)
        .zip(wanted.templates)
        .filter_map(|(index, template)| {
            let name = names::node(wanted.name, index);
            let pod = pods.get(&name)?;
            Some((name, pod, pod.template != *template))
        })
        .collect()
}

/// Whether the node serves its role according to the pod and to the engine, which must speak of the same pod.
fn serves(name: &str, pod: &PodFacts, status: &DistributedDatabaseStatus) -> bool {
    let known = status.nodes.iter().find(|node| node.name.as_str() == name);
    pod.ready && known.is_some_and(|node| node.ready && node.address == pod.address)
}

fn end(name: &str, pod: &PodFacts, reason: &'static str) -> Step {
    Step::Delete {
        name: name.to_owned(),
        uid: pod.uid.clone(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use api::resource::{NodeStatus, Phase};
    use failover::Term;

    use super::*;

    fn pod(template: &str) -> PodFacts {
        PodFacts {
            uid: "uid".to_owned(),
            template: template.to_owned(),
            deleting: false,
            finished: false,
            ready: true,
            stuck: false,
            address: Some("10.0.0.1".to_owned()),
        }
    }

    fn observed(pods: &[(&str, PodFacts)]) -> Observed {
        let pods = pods
            .iter()
            .map(|(name, pod)| ((*name).to_owned(), pod.clone()))
            .collect();
        Observed {
            pods,
            claims: BTreeMap::new(),
        }
    }

    fn healthy(master: &str, size: u32) -> DistributedDatabaseStatus {
        let node = |index| NodeStatus {
            name: NodeId::from(names::node("shop", index)),
            ready: true,
            pace: NodePace::Executes,
            address: Some("10.0.0.1".to_owned()),
            ..NodeStatus::default()
        };
        DistributedDatabaseStatus {
            record: Record {
                term: Term(1),
                master: Some(NodeId::from(master)),
                size,
                ..Record::default()
            },
            phase: Phase::Healthy,
            nodes: (0..size).map(node).collect(),
            ..DistributedDatabaseStatus::default()
        }
    }

    fn decide(nodes: u32, observed: &Observed, status: &DistributedDatabaseStatus) -> Vec<String> {
        decide_when(true, nodes, observed, status)
    }

    fn decide_when(
        rested: bool,
        nodes: u32,
        observed: &Observed,
        status: &DistributedDatabaseStatus,
    ) -> Vec<String> {
        let templates = vec!["new".to_owned(); nodes as usize];
        let told = |step| match step {
            Step::Create { index } => format!("create {index}"),
            Step::Delete { name, .. } => format!("delete {name}"),
        };
        steps(
            &Wanted {
                name: "shop",
                nodes,
                templates: &templates,
            },
            observed,
            status,
            rested,
        )
        .into_iter()
        .map(told)
        .collect()
    }

    fn three(templates: [&str; 3]) -> Observed {
        let [first, second, third] = templates.map(pod);
        observed(&[("shop-0", first), ("shop-1", second), ("shop-2", third)])
    }

    #[test]
    fn a_member_that_is_not_asked_for_any_more_is_made_anew_until_it_counts_no_more() {
        let mut status = healthy("shop-0", 2);
        let member = |index| (NodeId::from(names::node("shop", index)), "a volume".into());
        status.record.members = [member(0), member(2)].into();
        let pods = observed(&[("shop-0", pod("new")), ("shop-1", pod("new"))]);
        assert_eq!(decide(2, &pods, &status), ["create 2"]);
        status.record.members = [member(0), member(1)].into();
        assert_eq!(decide(2, &pods, &status), Vec::<String>::new());
    }

    #[test]
    fn missing_pods_are_made_at_once_in_any_state() {
        let status = DistributedDatabaseStatus::default();
        assert_eq!(
            decide(3, &observed(&[]), &status),
            ["create 0", "create 1", "create 2"]
        );
        let status = DistributedDatabaseStatus {
            phase: Phase::Down,
            ..healthy("shop-0", 3)
        };
        assert_eq!(
            decide(2, &observed(&[("shop-0", pod("old"))]), &status),
            ["create 1"]
        );
    }

    #[test]
    fn a_pod_waits_for_its_claim_that_is_being_deleted() {
        let mut observed = observed(&[]);
        observed.claims.insert(
            "shop-0".to_owned(),
            ClaimFacts {
                size: None,
                deleting: true,
            },
        );
        assert_eq!(
            decide(1, &observed, &DistributedDatabaseStatus::default()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_finished_pod_is_ended_so_that_it_can_be_made_anew() {
        let finished = PodFacts {
            finished: true,
            ready: false,
            ..pod("new")
        };
        assert_eq!(
            decide(1, &observed(&[("shop-0", finished)]), &healthy("shop-0", 1)),
            ["delete shop-0"]
        );
    }

    #[test]
    fn a_rollout_takes_slaves_first_and_the_master_last_one_at_a_time() {
        let status = healthy("shop-1", 3);
        assert_eq!(
            decide(3, &three(["old", "old", "old"]), &status),
            ["delete shop-2"]
        );
        assert_eq!(
            decide(3, &three(["old", "old", "new"]), &status),
            ["delete shop-0"]
        );
        assert_eq!(
            decide(3, &three(["new", "old", "new"]), &status),
            ["delete shop-1"]
        );
        assert_eq!(
            decide(3, &three(["new", "new", "new"]), &status),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_rollout_rests_before_each_turn_and_a_slave_that_fetches_what_it_missed_is_no_rest() {
        let mut status = healthy("shop-1", 3);
        let pods = three(["old", "old", "new"]);
        assert_eq!(decide_when(false, 3, &pods, &status), Vec::<String>::new());
        let templates = vec!["new".to_owned(); 3];
        let wanted = Wanted {
            name: "shop",
            nodes: 3,
            templates: &templates,
        };
        assert_eq!(condition(&wanted, &pods, &status), Condition::AtRest);
        status.nodes[2].pace = NodePace::Receives;
        assert_eq!(condition(&wanted, &pods, &status), Condition::AtRest);
        let masters = three(["new", "old", "new"]);
        assert_eq!(condition(&wanted, &masters, &status), Condition::CatchingUp);
        status.nodes[2].pace = NodePace::Behind;
        assert_eq!(condition(&wanted, &pods, &status), Condition::CatchingUp);
        status.nodes[1].ready = false;
        assert_eq!(condition(&wanted, &pods, &status), Condition::Broken);
    }

    #[test]
    fn a_rollout_waits_until_every_node_serves_and_the_engine_has_seen_the_new_pod() {
        let mut pods = three(["old", "old", "new"]);
        pods.pods.get_mut("shop-2").unwrap().ready = false;
        assert_eq!(decide(3, &pods, &healthy("shop-1", 3)), Vec::<String>::new());
        let mut pods = three(["old", "old", "new"]);
        pods.pods.get_mut("shop-2").unwrap().address = Some("10.0.0.9".to_owned());
        assert_eq!(decide(3, &pods, &healthy("shop-1", 3)), Vec::<String>::new());
        let degraded = DistributedDatabaseStatus {
            phase: Phase::Degraded,
            ..healthy("shop-1", 3)
        };
        assert_eq!(
            decide(3, &three(["old", "old", "new"]), &degraded),
            Vec::<String>::new()
        );
    }

    #[test]
    fn while_the_database_is_paused_no_pod_is_replaced() {
        let mut pods = three(["older", "older", "bad"]);
        let paused = DistributedDatabaseStatus {
            phase: Phase::Paused,
            ..healthy("shop-1", 3)
        };
        assert_eq!(decide(3, &pods, &paused), Vec::<String>::new());
        pods.pods.get_mut("shop-2").unwrap().ready = false;
        assert_eq!(decide(3, &pods, &paused), Vec::<String>::new());
    }

    #[test]
    fn a_mended_spec_replaces_the_node_that_a_bad_one_broke() {
        let mut pods = three(["older", "older", "bad"]);
        pods.pods.get_mut("shop-2").unwrap().ready = false;
        let degraded = DistributedDatabaseStatus {
            phase: Phase::Degraded,
            ..healthy("shop-1", 3)
        };
        assert_eq!(decide(3, &pods, &degraded), ["delete shop-2"]);
    }

    #[test]
    fn a_database_that_never_led_is_replaced_whole() {
        let mut pods = three(["bad", "bad", "bad"]);
        pods.pods.values_mut().for_each(|pod| pod.ready = false);
        let expected = ["delete shop-0", "delete shop-1", "delete shop-2"];
        assert_eq!(decide(3, &pods, &DistributedDatabaseStatus::default()), expected);
    }

    #[test]
    fn a_scale_down_waits_for_the_quorum_and_never_takes_the_master() {
        let pods = three(["new", "new", "new"]);
        assert_eq!(decide(2, &pods, &healthy("shop-0", 3)), Vec::<String>::new());
        assert_eq!(decide(2, &pods, &healthy("shop-0", 2)), ["delete shop-2"]);
        assert_eq!(decide(2, &pods, &healthy("shop-2", 2)), Vec::<String>::new());
    }
}
