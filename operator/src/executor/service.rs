//! The master's Service: one endpoint slice with one address, swapped in one write.

use std::collections::BTreeMap;

use api::{DistributedDatabase, names, wire};
use failover::{NodeId, Term};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::{Resource, ResourceExt};

use super::{Effect, Failure, Outcome, written};
use crate::handoff::Leadership;
use crate::snapshot::{MANAGED_BY, PodFacts, SliceFacts, Snapshots, slice_name};

/// The label that binds an endpoint slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const PORT_NAME: &str = "mysql";
const PORT: i32 = wire::MYSQL_PORT as i32;

/// The slice that leads the master's Service to this pod; none while the pod has no address.
pub fn slice(
    object: &DistributedDatabase,
    node: &NodeId,
    term: Term,
    pod: &PodFacts,
) -> Option<EndpointSlice> {
    let address = pod.address.clone()?;
    let database = object.name_any();
    let labels = BTreeMap::from([
        (SERVICE_NAME.to_owned(), names::master_service(&database)),
        (MANAGED_BY.to_owned(), names::FIELD_MANAGER.to_owned()),
        (names::LABEL_CLUSTER.to_owned(), database.clone()),
    ]);
    let endpoint = Endpoint {
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
        addresses: vec![address.clone()],
        ..Endpoint::default()
    };
    let port = EndpointPort {
        name: Some(PORT_NAME.to_owned()),
        port: Some(PORT),
        protocol: Some("TCP".to_owned()),
        ..EndpointPort::default()
    };
    Some(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(slice_name(&database)),
            namespace: object.namespace(),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(
                names::ANNOTATION_TERM.to_owned(),
                term.to_string(),
            )])),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: if address.contains(':') { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: vec![endpoint],
        ports: Some(vec![port]),
    })
}

/// True when the slice as it is leads to this pod and nowhere else.
pub fn leads_to(slice: Option<&SliceFacts>, pod: &PodFacts) -> bool {
    slice.is_some_and(|slice| {
        slice.addresses.iter().map(Some).eq([pod.address.as_ref()])
            && slice
                .ports
                .iter()
                .map(|(name, port)| (name.as_str(), *port))
                .eq([(PORT_NAME, PORT)])
    })
}

/// Leads the Service to the pod: one request, whatever the slice was before.
pub async fn carry_out(
    leadership: &dyn Leadership,
    snapshots: &Snapshots,
    api: &Api<EndpointSlice>,
    wanted: Option<EndpointSlice>,
) -> Outcome {
    let wanted = wanted.ok_or(Failure::NoAddress)?;
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let (name, patch) = (wanted.name_any(), Patch::Apply(&wanted));
    let slice = written(leadership, api.patch(&name, &params, &patch)).await?;
    snapshots.apply_slice(&slice);
    Ok(Effect::Done)
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
        insta::assert_yaml_snapshot!(slice(&database(), &"db-1".into(), Term(3), &pod()));
    }

    #[test]
    fn a_slice_with_a_second_address_or_another_port_is_not_right() {
        let right = SliceFacts {
            version: "1".to_owned(),
            addresses: vec!["10.1.2.3".to_owned()],
            ports: vec![("mysql".to_owned(), 3306)],
        };
        assert!(leads_to(Some(&right), &pod()));
        assert!(!leads_to(None, &pod()));
        let two = SliceFacts {
            addresses: vec!["10.1.2.3".to_owned(), "10.1.2.4".to_owned()],
            ..right.clone()
        };
        assert!(!leads_to(Some(&two), &pod()));
        let other = SliceFacts {
            ports: vec![("mysql".to_owned(), 3307)],
            ..right
        };
        assert!(!leads_to(Some(&other), &pod()));
    }
}
