//! The claim of a node's volume. It grows with the spec and never shrinks: a smaller size is a mistake that the
//! schema refuses, and a volume of an earlier life of the database may be larger than the spec.

use api::{names, quantity};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::reconcile::database::Database;

/// Builds the claim of node `index`; `present` is the size that an existing claim asks for.
pub fn build(database: &Database, index: u32, present: Option<&Quantity>) -> PersistentVolumeClaim {
    let node = names::node(&database.name, index);
    let mut metadata = database.with_the_data(node.clone());
    metadata
        .labels
        .get_or_insert_default()
        .insert(names::LABEL_NODE.to_owned(), node);
    let size = present
        .filter(|present| quantity::exceeds(present, &database.volume_size))
        .unwrap_or(&database.volume_size);
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), size.clone())].into()),
                limits: None,
            }),
            storage_class_name: database.storage_class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use api::resource::WhenDeleted;

    use super::*;
    use crate::reconcile::database::example;

    #[test]
    fn a_claim_as_built() {
        insta::assert_yaml_snapshot!(build(&example::database(|_| ()), 0, None));
    }

    #[test]
    fn a_claim_grows_but_never_shrinks() {
        let size = |wanted: &str, present: &str| {
            let database = example::database(|spec| spec.storage.size = Quantity(wanted.to_owned()));
            let claim = build(&database, 0, Some(&Quantity(present.to_owned())));
            claim.spec.unwrap().resources.unwrap().requests.unwrap()["storage"]
                .0
                .clone()
        };
        assert_eq!(size("20Gi", "10Gi"), "20Gi");
        assert_eq!(size("10Gi", "20Gi"), "20Gi");
        assert_eq!(size("10Gi", "10240Mi"), "10Gi");
    }

    #[test]
    fn volumes_vanish_with_the_resource_only_if_that_was_asked_for() {
        let kept = build(&example::database(|_| ()), 0, None);
        assert_eq!(kept.metadata.owner_references, None);
        let deleted = build(
            &example::database(|spec| spec.storage.when_deleted = WhenDeleted::Delete),
            0,
            None,
        );
        assert!(deleted.metadata.owner_references.is_some());
    }
}
