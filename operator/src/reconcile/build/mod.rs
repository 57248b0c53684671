//! Builds the objects of a database: one file a kind, each a pure function of the validated [`Database`] and, where
//! it needs more, of plain facts. Nothing here talks to the API server.

pub mod claim;
pub mod config_map;
mod container;
pub mod disruption_budget;
pub mod pod;
pub mod secrets;
pub mod service_account;
pub mod services;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::database::Database;
use super::observe::Observed;

/// Everything that a database consists of besides its Secrets, built and not yet applied.
pub struct Prepared {
    /// The generated `my.cnf`.
    pub config_map: ConfigMap,
    /// The pods' account, which may do nothing.
    pub service_account: ServiceAccount,
    /// All four Services.
    pub services: Vec<Service>,
    /// Keeps drains from taking more than one node.
    pub disruption_budget: PodDisruptionBudget,
    /// The claim of each node's volume.
    pub claims: Vec<PersistentVolumeClaim>,
    /// The pod of each node, by index.
    pub pods: BTreeMap<u32, Pod>,
}

/// Builds everything, for the nodes of these indices.
pub fn all(database: &Database, observed: &Observed, indices: &BTreeSet<u32>) -> Prepared {
    Prepared {
        config_map: config_map::build(database),
        service_account: service_account::build(database),
        services: services::build(database),
        disruption_budget: disruption_budget::build(database),
        claims: indices
            .iter()
            .map(|index| claim::build(database, *index, observed.claim_size(&database.name, *index)))
            .collect(),
        pods: indices
            .iter()
            .map(|index| (*index, pod::build(database, *index)))
            .collect(),
    }
}
