//! The nodes: what the operator wrote of each, held against the pod as it is now.

use std::collections::{BTreeMap, BTreeSet};

use api::names;
use api::resource::{NodeRole, NodeStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use super::model::{NodeView, PodView};
use crate::fetch::Facts;

/// Every node that the status names, that has a pod, or that the spec asks for.
pub fn of(facts: &Facts) -> Vec<NodeView> {
    let written: BTreeMap<String, &NodeStatus> = facts
        .object
        .status
        .iter()
        .flat_map(|status| &status.nodes)
        .map(|node| (node.name.to_string(), node))
        .collect();
    let pods = facts.pods.get();
    let name = facts.object.name_any();
    let asked = (0..facts.object.spec.nodes.unsigned_abs()).map(|index| names::node(&name, index));
    let mut all: BTreeSet<String> = asked.chain(written.keys().cloned()).collect();
    all.extend(pods.iter().flat_map(|pods| pods.keys().cloned()));
    all.into_iter()
        .map(|node| {
            let there = pods.and_then(|pods| pods.get(&node));
            let pod = pods.map(|_| pod_view(there));
            let written = written.get(&node).copied();
            one(&node, written, there, pod, facts.operator.is_gone())
        })
        .collect()
}

/// `pod` is none where pods could not be read; `there` is the pod itself, where there is one.
fn one(
    name: &str,
    written: Option<&NodeStatus>,
    there: Option<&Pod>,
    pod: Option<PodView>,
    stale: bool,
) -> NodeView {
    // While nobody keeps the status up to date, Kubernetes' own probe of the pod knows better.
    let ready = written.is_some_and(|node| node.ready)
        && pod.as_ref().is_none_or(|pod| pod.exists && (!stale || pod.ready));
    NodeView {
        name: name.to_owned(),
        role: written.map_or(NodeRole::Unknown, |node| node.role),
        ready,
        health: health(written, pod.as_ref(), ready),
        behind: written.and_then(|node| node.behind),
        address: there
            .and_then(|pod| pod.status.as_ref()?.pod_ip.clone())
            .or_else(|| written.filter(|_| pod.is_none())?.address.clone()),
        machine: there.and_then(|pod| pod.spec.as_ref()?.node_name.clone()),
        version: written.and_then(|node| node.version.clone()),
        last_contact: written.and_then(|node| node.last_contact.as_ref().map(|time| time.0)),
        pod,
        kept: written.and_then(|node| node.kept.clone()),
    }
}

fn health(written: Option<&NodeStatus>, pod: Option<&PodView>, ready: bool) -> String {
    if ready {
        return if pod.is_some_and(|pod| pod.deleting) {
            "its pod is being deleted".to_owned()
        } else {
            "ok".to_owned()
        };
    }
    let said = written.map(|node| node.message.as_str()).unwrap_or_default();
    match pod {
        Some(pod) if !pod.exists => "there is no pod of that name".to_owned(),
        Some(PodView {
            trouble: Some(trouble),
            ..
        }) => trouble.clone(),
        _ if !said.is_empty() => said.to_owned(),
        Some(pod) if pod.deleting => "its pod is being deleted".to_owned(),
        Some(pod) if !pod.ready => "its pod is not ready".to_owned(),
        _ if written.is_none() => "the operator has not looked at it yet".to_owned(),
        _ => "does not serve yet".to_owned(),
    }
}

fn pod_view(pod: Option<&Pod>) -> PodView {
    let Some(pod) = pod else {
        return PodView {
            exists: false,
            ready: false,
            deleting: false,
            label: None,
            restarts: 0,
            trouble: None,
        };
    };
    let condition = |kind: &str| {
        let all = pod.status.as_ref()?.conditions.as_ref()?;
        all.iter().find(|one| one.type_ == kind)
    };
    PodView {
        exists: true,
        ready: condition("Ready").is_some_and(|ready| ready.status == "True"),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        label: pod.labels().get(names::LABEL_ROLE).cloned(),
        restarts: containers(pod).map(|container| container.restart_count).sum(),
        trouble: condition("PodScheduled")
            .filter(|scheduled| scheduled.status == "False")
            .map(|scheduled| {
                let why = scheduled.message.as_deref().unwrap_or("no reason is given");
                format!("its pod finds no machine: {why}")
            })
            .or_else(|| containers(pod).find_map(waits)),
    }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

/// Why a container does not start, where it is more than the moment before it does.
fn waits(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting
        .reason
        .as_deref()
        .filter(|reason| !["PodInitializing", "ContainerCreating"].contains(reason))?;
    let message = waiting
        .message
        .as_ref()
        .map(|message| format!(" ({message})"))
        .unwrap_or_default();
    Some(format!(
        "its container {} does not start: {reason}{message}",
        container.name
    ))
}
