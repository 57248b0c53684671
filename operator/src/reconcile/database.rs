//! The validated step border: everything the builders need of one resource, proven complete. What was refused
//! never becomes a [`Database`], so no builder can apply half of it.

use std::collections::BTreeMap;

use api::resource::{AgentSpec, ApiSpec, DistributedDatabaseSpec, MysqlSpec, StorageSpec, WhenDeleted};
use api::{DistributedDatabase, mycnf, names, quantity};
use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use super::Settings;

/// One database that passed every check.
#[derive(Debug, Clone)]
pub struct Database {
    /// The resource's name.
    pub name: String,
    /// The resource's namespace.
    pub namespace: String,
    /// The resource's UID; nodes obey no other resource.
    pub uid: String,
    /// The reference that makes an object vanish with the resource.
    pub owner: OwnerReference,
    /// How many nodes.
    pub nodes: u32,
    /// Image with mysqld.
    pub mysql_image: String,
    /// Image with node agent and supervisor.
    pub node_image: String,
    /// The generated server configuration.
    pub my_cnf: String,
    /// Resources of the MySQL container, as the user gave them.
    pub mysql_resources: Option<ResourceRequirements>,
    /// Resources of the agent's container, as the user gave them.
    pub agent_resources: Option<ResourceRequirements>,
    /// The data API.
    pub api: ApiSpec,
    /// Size of each volume.
    pub volume_size: Quantity,
    /// Storage class of each volume.
    pub storage_class: Option<String>,
    /// What becomes of volumes, and of the Secrets that belong to their data, when the resource is deleted.
    pub when_deleted: WhenDeleted,
    /// Where the pods may run.
    pub placement: Placement,
}

/// Where pods may run and how they get there.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The user's affinity; `None` for the default.
    pub affinity: Option<Affinity>,
    /// Labels that a machine must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated, besides the operator's own.
    pub tolerations: Vec<Toleration>,
    /// Spreading over zones and machines.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class.
    pub priority_class_name: Option<String>,
    /// Secrets to pull images with.
    pub image_pull_secrets: Vec<String>,
}

impl Database {
    /// Checks a resource; what is wrong comes back as sentences.
    pub fn validate(object: &DistributedDatabase, settings: &Settings) -> Result<Self, Vec<String>> {
        let mut problems = object.problems();
        let ObjectMeta {
            name: Some(name),
            namespace: Some(namespace),
            uid: Some(uid),
            ..
        } = object.meta().clone()
        else {
            problems.push(
                "metadata: name, namespace and uid must be there; read the object from the server".to_owned(),
            );
            return Err(problems);
        };
        let Some(owner) = object.controller_owner_ref(&()) else {
            problems.push("metadata: uid must be there; read the object from the server".to_owned());
            return Err(problems);
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let DistributedDatabaseSpec {
            nodes,
            mysql:
                MysqlSpec {
                    image,
                    config,
                    resources: mysql_resources,
                },
            storage:
                StorageSpec {
                    size: volume_size,
                    storage_class_name: storage_class,
                    when_deleted,
                },
            // The engine's, and the rollout's.
            failover: _,
            durability: _,
            paused: _,
            agent: AgentSpec {
                resources: agent_resources,
            },
            api,
            affinity,
            node_selector,
            tolerations,
            topology_spread_constraints,
            priority_class_name,
            image_pull_secrets,
        } = object.spec.clone();
        let Settings {
            node_image,
            mysql_image,
            watch_namespace: _,
        } = settings.clone();
        Ok(Self {
            name,
            namespace,
            uid,
            owner,
            nodes: nodes.unsigned_abs(),
            mysql_image: image.unwrap_or(mysql_image),
            node_image,
            my_cnf: mycnf::my_cnf(&config, memory_limit(mysql_resources.as_ref())),
            mysql_resources,
            agent_resources,
            api,
            volume_size,
            storage_class,
            when_deleted,
            placement: Placement {
                affinity,
                node_selector,
                tolerations,
                topology_spread_constraints,
                priority_class_name,
                image_pull_secrets,
            },
        })
    }

    /// The labels that select all of the database's pods.
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(names::LABEL_CLUSTER.to_owned(), self.name.clone())])
    }

    /// The labels of every object of the database.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.extend(
            [
                ("app.kubernetes.io/name", "mysql"),
                ("app.kubernetes.io/instance", self.name.as_str()),
                ("app.kubernetes.io/managed-by", names::FIELD_MANAGER),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        labels
    }

    /// Metadata of an object that vanishes with the resource.
    pub fn owned(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(vec![self.owner.clone()]),
            ..self.kept(name)
        }
    }

    /// Metadata of an object that outlives the resource.
    pub fn kept(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    /// Metadata of an object that shares the volumes' fate.
    pub fn with_the_data(&self, name: String) -> ObjectMeta {
        match self.when_deleted {
            WhenDeleted::Retain => self.kept(name),
            WhenDeleted::Delete => self.owned(name),
        }
    }
}

fn memory_limit(resources: Option<&ResourceRequirements>) -> Option<u64> {
    quantity::amount(resources?.limits.as_ref()?.get("memory")?)
}

#[cfg(test)]
pub mod example {
    //! The database that the builders' snapshots are made of.

    use super::*;

    /// A validated database `shop` of three nodes, changed as the test likes.
    pub fn database(change: impl FnOnce(&mut DistributedDatabaseSpec)) -> Database {
        let mut spec = DistributedDatabaseSpec {
            nodes: 3,
            ..Default::default()
        };
        change(&mut spec);
        let mut object = DistributedDatabase::new("shop", spec);
        object.metadata.namespace = Some("default".to_owned());
        object.metadata.uid = Some("00000000-0000-4000-8000-000000000000".to_owned());
        let settings = Settings {
            node_image: "ddb/node:1".to_owned(),
            mysql_image: "mysql:9.7".to_owned(),
            watch_namespace: None,
        };
        Database::validate(&object, &settings).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_never_becomes_a_database() {
        let settings = Settings {
            node_image: "n".to_owned(),
            mysql_image: "m".to_owned(),
            watch_namespace: None,
        };
        let object = DistributedDatabase::new("shop-master", DistributedDatabaseSpec::default());
        let problems = Database::validate(&object, &settings).unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.starts_with("spec.nodes")),
            "{problems:?}"
        );
        assert!(
            problems.iter().any(|problem| problem.contains("-master")),
            "{problems:?}"
        );
    }
}
