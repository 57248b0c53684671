//! What is wrong, in order of weight, each with the command that mends it; where only a person can know the mend,
//! with the command that shows more.

use std::collections::BTreeMap;

use api::names;
use api::resource::Phase;

use super::model::{NodeView, View, Warning};
use super::verdict::condition;
use super::words::{ago, and, moment};
use crate::fetch::{Deployed, Facts, INSTALL, OPERATOR_LABEL, Operator};

/// All warnings.
pub fn of(view: &View, facts: &Facts) -> Vec<Warning> {
    let mut all = Vec::new();
    all.extend(operator(facts));
    all.extend(spec(view, facts));
    all.extend(request(view));
    all.extend(commanded(view, facts));
    if facts.object.status.is_some() {
        all.extend(view.nodes.iter().filter_map(|node| of_node(node, view)));
    } else if !facts.operator.is_gone() {
        all.push(unseen(view));
    }
    all.extend(routing(view));
    all.extend(crowded(view));
    all
}

fn operator(facts: &Facts) -> Option<Warning> {
    match &facts.operator {
        Operator::Alive { .. } | Operator::Unknown { .. } => None,
        Operator::Absent => Some(Warning {
            text: "No operator is installed, or none ever ran: nothing is failed over, and this status is as it was \
                   last written."
                .to_owned(),
            command: INSTALL.to_owned(),
        }),
        Operator::Silent {
            since,
            namespace,
            deployment,
        } => {
            let since = since
                .map(|since| format!(" since {} UTC ({})", moment(since), ago(since, facts.now)))
                .unwrap_or_default();
            Some(Warning {
                text: format!(
                    "The operator is silent{since}: nothing is failed over, and this status is as it was last written."
                ),
                command: revive(namespace, deployment.as_ref()),
            })
        }
    }
}

fn revive(namespace: &str, deployment: Option<&Deployed>) -> String {
    match deployment {
        Some(Deployed { name, replicas: 0 }) => {
            format!("kubectl scale deployment {name} -n {namespace} --replicas 2")
        }
        Some(Deployed { name, .. }) => format!("kubectl rollout restart deployment {name} -n {namespace}"),
        None => format!("kubectl get pods -n {namespace} -l {OPERATOR_LABEL}"),
    }
}

fn spec(view: &View, facts: &Facts) -> Vec<Warning> {
    let View { name, namespace, .. } = view;
    let spec = &facts.object.spec;
    let mut all = Vec::new();
    let Some(status) = &facts.object.status else {
        return all;
    };
    if let Some(valid) = condition(status, "Valid") {
        if status.phase == Phase::Invalid {
            all.push(Warning {
                text: format!("The spec is refused: {}", valid.message),
                command: format!("kubectl edit ddb {name} -n {namespace}"),
            });
        } else if valid.reason == "NotAppliedYet" {
            all.push(Warning {
                text: valid.message.clone(),
                command: format!("kubectl describe ddb {name} -n {namespace}"),
            });
        }
    }
    if !spec.failover.automatic {
        all.push(Warning {
            text: "Automatic failover is switched off: a failed master is not replaced.".to_owned(),
            command: format!(
                "kubectl patch ddb {name} -n {namespace} --type merge -p '{{\"spec\":{{\"failover\":{{\"automatic\":true}}}}}}'"
            ),
        });
    }
    if spec.nodes < 3 {
        all.push(Warning {
            text: "Fewer than three nodes cannot survive the loss of one.".to_owned(),
            command: format!("kubectl scale ddb {name} -n {namespace} --replicas 3"),
        });
    }
    all
}

/// A moment after it was made this is as it should be; later it is not.
fn unseen(view: &View) -> Warning {
    let View { name, namespace, .. } = view;
    Warning {
        text:
            "The operator has written no status yet. If that lasts, it may look after another namespace only \
               (watchNamespace), or its logs say why."
                .to_owned(),
        command: format!("kubectl ddb logs {name} -n {namespace}"),
    }
}

fn request(view: &View) -> Option<Warning> {
    let View { name, namespace, .. } = view;
    let to = view.requested.as_ref()?;
    Some(Warning {
        text: format!("A switchover to {to} is asked for and has no answer yet."),
        command: format!(
            "kubectl annotate ddb {name} -n {namespace} {}-   # withdraws it",
            names::ANNOTATION_PROMOTE
        ),
    })
}

/// What people commanded and what it costs, and what only a person can decide.
fn commanded(view: &View, facts: &Facts) -> Vec<Warning> {
    let View { name, namespace, .. } = view;
    let mut all = Vec::new();
    if let Some(last) = &view.last_resort {
        let lost = "If they will not return, and writes that only they hold may be lost, a node can be forced to lead.";
        all.push(Warning {
            text: format!(
                "Too few nodes answer. Missing: {}. {lost}",
                last.missing.join(", ")
            ),
            command: last
                .command
                .clone()
                .unwrap_or_else(|| format!("kubectl ddb explain {name} -n {namespace}")),
        });
    }
    if view.paused {
        all.push(Warning {
            text: "The database is paused: a failed master is not replaced, and nothing else changes."
                .to_owned(),
            command: format!("kubectl ddb resume {name} -n {namespace}"),
        });
    }
    if !view.fenced.is_empty() {
        all.push(Warning {
            text: format!("Kept closed by hand: {}.", and(&view.fenced)),
            command: format!(
                "kubectl ddb unfence {name} {} -n {namespace}",
                view.fenced.join(" ")
            ),
        });
    }
    let status = facts.object.status.as_ref();
    if let Some(forced) = status.and_then(|status| status.record.forced.as_ref()) {
        let nodes: Vec<&str> = forced.unjudged.iter().map(failover::NodeId::as_str).collect();
        all.push(Warning {
            text: format!(
                "Term {} was forced. What {} held beyond the master's data is given up; this stands until they follow.",
                forced.term,
                and(&nodes)
            ),
            command: format!("kubectl ddb history {name} -n {namespace}"),
        });
    }
    let notes = status.into_iter().flat_map(|status| &status.explanation);
    let held = notes.filter_map(|note| note.split_once(": held, because"));
    all.extend(held.map(|(pod, why)| Warning {
        text: format!(
            "{pod} is held, because{}.",
            why.split("; annotate").next().unwrap_or(why)
        ),
        command: format!("kubectl ddb resync {name} {pod} -n {namespace}   # throws these transactions away"),
    }));
    all
}

fn of_node(node: &NodeView, view: &View) -> Option<Warning> {
    let View { name, namespace, .. } = view;
    let pod = &node.name;
    if node.ready || view.fenced.contains(pod) {
        return None;
    }
    let show = |what: String| Warning {
        text: format!("{pod}: {}.", node.health.trim_end_matches('.')),
        command: what,
    };
    let Some(there) = &node.pod else {
        return Some(show(format!("kubectl ddb logs {name} -n {namespace}")));
    };
    Some(if !there.exists {
        // The operator makes the pod again by itself; what keeps it from that is in the events.
        show(format!("kubectl describe ddb {name} -n {namespace}"))
    } else if there.trouble.is_some() {
        show(format!("kubectl describe pod {pod} -n {namespace}"))
    } else {
        show(format!("kubectl ddb logs {name} -n {namespace} --since 10m"))
    })
}

fn routing(view: &View) -> Option<Warning> {
    let routing = view.routing.as_ref()?;
    let master = view.master.as_ref()?;
    if routing.master_is_right {
        return None;
    }
    let to = if routing.master_leads_to.is_empty() {
        "nowhere".to_owned()
    } else {
        format!("to {}", and(&routing.master_leads_to))
    };
    Some(Warning {
        text: format!(
            "The Service {} leads {to} instead of to {master}; the operator mends that, unless something else writes \
             the endpoint slice.",
            routing.master_service
        ),
        command: format!(
            "kubectl get endpointslice -n {} -l kubernetes.io/service-name={} -o yaml",
            view.namespace, routing.master_service
        ),
    })
}

/// More nodes on one machine than may fail.
fn crowded(view: &View) -> Option<Warning> {
    let mut machines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &view.nodes {
        if let Some(machine) = &node.machine {
            machines.entry(machine).or_default().push(&node.name);
        }
    }
    let (machine, nodes) = machines.into_iter().max_by_key(|(_, nodes)| nodes.len())?;
    let spare = usize::try_from(view.safe_to_lose).unwrap_or(0);
    (nodes.len() > 1 && spare > 0 && nodes.len() > spare).then(|| Warning {
        text: format!(
            "{} run on the same machine {machine}; its loss takes {} nodes, and {spare} may fail.",
            and(&nodes),
            nodes.len()
        ),
        command: format!(
            "kubectl get pods -n {} -l {}={} -o wide",
            view.namespace,
            names::LABEL_CLUSTER,
            view.name
        ),
    })
}
