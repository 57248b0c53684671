//! The Services that the operator leads itself: the master's and the one over every ready node. Each has one endpoint
//! slice, written in one request.
//!
//! kube-proxy holds a second change within a second back. A selector would change at the very moment of a failover,
//! when a pod is deleted or stops being ready, and the swap of the master's address would wait behind it; so the
//! Service over every node is led from here too, after the master's.

use std::collections::{BTreeMap, BTreeSet};

use api::{DistributedDatabase, names, wire};
use failover::{NodeId, Term};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::{Resource, ResourceExt};

use super::{Effect, Failure, Outcome, has_code, written};
use crate::handoff::Leadership;
use crate::snapshot::{MANAGED_BY, PodFacts, SliceFacts, Snapshot, Snapshots, slice_name};

/// The label that binds an endpoint slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The slice that leads the master's Service to this pod; none while the pod has no address.
pub fn to_master(
    object: &DistributedDatabase,
    node: &NodeId,
    term: Term,
    pod: &PodFacts,
) -> Option<EndpointSlice> {
    let service = names::master_service(&object.name_any());
    let mut slice = slice(object, &service, &[("mysql", wire::MYSQL_PORT)], &[(node, pod)])?;
    slice.metadata.annotations = Some(BTreeMap::from([(
        names::ANNOTATION_TERM.to_owned(),
        term.to_string(),
    )]));
    Some(slice)
}

/// The slice that leads the master's Service to nobody, as this term wants it.
pub fn to_nobody(
    object: &DistributedDatabase,
    node: &NodeId,
    term: Term,
    pod: &PodFacts,
) -> Option<EndpointSlice> {
    let mut slice = to_master(object, node, term, pod)?;
    slice.endpoints.clear();
    Some(slice)
}

/// The slice that leads the Service over every node to those that are ready and not `fenced` by hand; none while no
/// pod has an address.
pub fn to_every_ready(
    object: &DistributedDatabase,
    snapshot: &Snapshot,
    fenced: &BTreeSet<NodeId>,
) -> Option<EndpointSlice> {
    let with_address: Vec<_> = snapshot
        .pods
        .iter()
        .filter(|(_, pod)| pod.address.is_some())
        .collect();
    let mut slice = slice(
        object,
        &object.name_any(),
        &[
            ("mysql", wire::PASSAGE_PORT),
            ("http", wire::PROBE_PORT),
            ("api", wire::API_PORT),
        ],
        &with_address,
    )?;
    let ready: Vec<&String> = with_address
        .iter()
        .filter(|(node, pod)| pod.ready && !pod.deleting && !fenced.contains(*node))
        .filter_map(|(_, pod)| pod.address.as_ref())
        .collect();
    slice
        .endpoints
        .retain(|endpoint| endpoint.addresses.iter().any(|address| ready.contains(&address)));
    Some(slice)
}

fn slice(
    object: &DistributedDatabase,
    service: &str,
    ports: &[(&str, u16)],
    pods: &[(&NodeId, &PodFacts)],
) -> Option<EndpointSlice> {
    let first = pods.iter().find_map(|(_, pod)| pod.address.as_deref())?;
    let labels = BTreeMap::from([
        (SERVICE_NAME.to_owned(), service.to_owned()),
        (MANAGED_BY.to_owned(), names::FIELD_MANAGER.to_owned()),
        (names::LABEL_CLUSTER.to_owned(), object.name_any()),
    ]);
    Some(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(slice_name(service)),
            namespace: object.namespace(),
            labels: Some(labels),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: if first.contains(':') { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: pods
            .iter()
            .filter_map(|(node, pod)| endpoint(object, node, pod))
            .collect(),
        ports: Some(
            ports
                .iter()
                .map(|(name, port)| endpoint_port(name, *port))
                .collect(),
        ),
    })
}

fn endpoint_port(name: &str, port: u16) -> EndpointPort {
    EndpointPort {
        name: Some(name.to_owned()),
        port: Some(i32::from(port)),
        protocol: Some("TCP".to_owned()),
        ..EndpointPort::default()
    }
}

fn endpoint(object: &DistributedDatabase, node: &NodeId, pod: &PodFacts) -> Option<Endpoint> {
    Some(Endpoint {
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        node_name: pod.machine.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(node.to_string()),
            namespace: object.namespace(),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        }),
        addresses: vec![pod.address.clone()?],
        ..Endpoint::default()
    })
}

/// True when the Service leads already where the wanted slice would lead it, and nowhere else.
pub fn leads_so(snapshot: &Snapshot, wanted: &EndpointSlice) -> bool {
    let facts = crate::snapshot::slice_facts(wanted);
    snapshot
        .slices
        .get(&wanted.name_any())
        .is_some_and(|now| now.addresses == facts.addresses && now.ports == facts.ports)
}

/// True when the term that wants the slice is the one that wrote it.
pub fn is_of_term(snapshot: &Snapshot, wanted: Option<&EndpointSlice>) -> bool {
    wanted.is_some_and(|wanted| {
        let now = snapshot.slices.get(&wanted.name_any());
        now.is_some_and(|now| now.term == crate::snapshot::slice_facts(wanted).term)
    })
}

/// Leads the Service as wanted, in one request. Where a term wrote the slice before, `seen`, the write is conditional
/// on that: a late operator of an older term leads nobody.
pub async fn carry_out(
    leadership: &dyn Leadership,
    snapshots: &Snapshots,
    api: &Api<EndpointSlice>,
    seen: Option<SliceFacts>,
    wanted: Option<EndpointSlice>,
) -> Outcome {
    let mut wanted = wanted.ok_or(Failure::NoAddress)?;
    let (name, ours) = (wanted.name_any(), crate::snapshot::slice_facts(&wanted).term);
    if let Some(seen) = seen.filter(|seen| seen.term.is_some()) {
        if seen.term > ours {
            return Err(Failure::Changed);
        }
        wanted.metadata.resource_version = Some(seen.version);
    }
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    match written(leadership, api.patch(&name, &params, &Patch::Apply(&wanted))).await {
        Ok(slice) => {
            snapshots.apply_slice(&slice);
            Ok(Effect::Done)
        }
        Err(failure) if has_code(&failure, 409) => {
            // Take in what is there now and let the next plan decide.
            if let Some(now) = written(leadership, api.get_opt(&name)).await? {
                snapshots.apply_slice(&now);
            }
            Err(Failure::Changed)
        }
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodFacts {
        PodFacts {
            uid: "u".to_owned(),
            version: "1".to_owned(),
            address: Some("10.1.2.3".to_owned()),
            machine: Some("m1".to_owned()),
            deleting: false,
            grace: None,
            role: None,
            stamp: Some(Term(3)),
            has_annotations: true,
            ready: true,
        }
    }

    fn database() -> DistributedDatabase {
        let mut object = DistributedDatabase::new("db", api::DistributedDatabaseSpec::default());
        object.metadata.namespace = Some("ns".to_owned());
        object.metadata.uid = Some("uid".to_owned());
        object
    }

    #[test]
    fn the_slice_leads_to_the_masters_address_alone() {
        insta::assert_yaml_snapshot!(to_master(&database(), &"db-1".into(), Term(3), &pod()));
    }

    fn with(wanted: &EndpointSlice) -> Snapshot {
        let facts = crate::snapshot::slice_facts(wanted);
        Snapshot {
            slices: BTreeMap::from([(wanted.name_any(), facts)]),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_slice_with_a_second_address_or_another_port_is_not_right() {
        let right = to_master(&database(), &"db-1".into(), Term(3), &pod()).unwrap();
        assert!(leads_so(&with(&right), &right));
        assert!(!leads_so(&Snapshot::default(), &right));
        let mut two = right.clone();
        two.endpoints.push(two.endpoints[0].clone());
        assert!(!leads_so(&with(&two), &right));
        let mut other = right.clone();
        other.ports.as_mut().unwrap()[0].port = Some(3307);
        assert!(!leads_so(&with(&other), &right));
    }

    #[test]
    fn only_ready_nodes_that_stay_are_led_to() {
        let away = PodFacts {
            deleting: true,
            address: Some("10.1.2.4".to_owned()),
            ..pod()
        };
        let unready = PodFacts {
            ready: false,
            address: Some("10.1.2.5".to_owned()),
            ..pod()
        };
        let pods = [("db-0", pod()), ("db-1", away), ("db-2", unready)];
        let snapshot = Snapshot {
            pods: pods.map(|(name, pod)| (name.into(), pod)).into(),
            ..Snapshot::default()
        };
        let slice = to_every_ready(&database(), &snapshot, &BTreeSet::new()).unwrap();
        assert_eq!(crate::snapshot::slice_facts(&slice).addresses, ["10.1.2.3"]);
        assert!(to_every_ready(&database(), &Snapshot::default(), &BTreeSet::new()).is_none());
    }
}
