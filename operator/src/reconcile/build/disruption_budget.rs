//! The disruption budget: a drain takes one node at a time and waits until it serves again elsewhere.

use api::names;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::reconcile::database::Database;

/// Builds it.
pub fn build(database: &Database) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: database.owned(names::nodes_service(&database.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            min_available: None,
            selector: Some(LabelSelector {
                match_labels: Some([(names::LABEL_CLUSTER.to_owned(), database.name.clone())].into()),
                match_expressions: None,
            }),
            // A node that does not serve anyway may always be moved: that can only help it.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::database::example;

    #[test]
    fn the_disruption_budget_as_built() {
        insta::assert_yaml_snapshot!(build(&example::database(|_| ())));
    }
}
