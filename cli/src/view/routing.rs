//! Where the Services lead, read from their endpoint slices.

use api::names;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

use super::model::RoutingView;
use crate::fetch::{Facts, SERVICE_NAME};

/// The routing; none where it could not be read.
pub fn of(facts: &Facts) -> Option<RoutingView> {
    let slices = facts.slices.get()?;
    let name = facts.object.name_any();
    let (master_service, slaves_service) = (names::master_service(&name), names::slaves_service(&name));
    let leads_to = targets(slices, &master_service);
    let master = facts
        .object
        .status
        .as_ref()
        .and_then(|status| status.record.master.as_ref());
    Some(RoutingView {
        master_is_right: leads_to
            .iter()
            .map(String::as_str)
            .eq(master.map(failover::NodeId::as_str)),
        master_service,
        master_leads_to: leads_to,
        slaves_lead_to: targets(slices, &slaves_service),
        slaves_service,
    })
}

/// The ready pods, or addresses without one, that a Service leads to.
pub fn targets(slices: &[EndpointSlice], service: &str) -> Vec<String> {
    let mut all: Vec<String> = slices
        .iter()
        .filter(|slice| slice.labels().get(SERVICE_NAME).is_some_and(|of| of == service))
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| is_ready(endpoint))
        .map(target)
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Not said is ready, by the definition of endpoint slices.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true)
}

fn target(endpoint: &Endpoint) -> String {
    endpoint
        .target_ref
        .as_ref()
        .and_then(|pod| pod.name.clone())
        .unwrap_or_else(|| endpoint.addresses.join(","))
}
