//! The pod of a node: the MySQL server as a native sidecar under the supervisor, the node agent as the main
//! container. A pod is created once and never applied again, because the failover engine changes its role label and
//! its term annotation; a pod whose template differs is replaced ([`template_hash`]).

use api::names;
use k8s_openapi::api::core::v1::{
    Affinity, EmptyDirVolumeSource, LocalObjectReference, Pod, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, SeccompProfile, Toleration, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, PersistentVolumeClaimVolumeSource, SecretVolumeSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use sha2::{Digest, Sha256};

use super::container;
use crate::reconcile::database::{Database, Placement};

/// Annotation: what the pod was built from.
pub const ANNOTATION_TEMPLATE: &str = "ddb-operator.io/template";

/// The user and group of every process of the pod; that of official MySQL images.
const USER: i64 = 999;
/// Long enough for a switchover and a clean end of mysqld.
const GRACE_SECONDS: i64 = 40;
/// Secrets and certificates are for the owner and the group alone.
const PRIVATE: i32 = 0o440;

/// Names of the pod's volumes.
pub mod volume {
    /// The node's data.
    pub const DATA: &str = "data";
    /// Sockets between the containers.
    pub const RUN: &str = "run";
    /// The supervisor's binary.
    pub const BIN: &str = "bin";
    /// Scratch space.
    pub const TMP: &str = "tmp";
    /// The generated configuration.
    pub const CONFIG: &str = "config";
    /// Certificates.
    pub const TLS: &str = "tls";
    /// The application account.
    pub const ACCOUNT: &str = "account";
    /// The data API's tokens.
    pub const TOKENS: &str = "tokens";
    /// The data API's own accounts.
    pub const API_ACCOUNTS: &str = "api-accounts";
    /// The user's certificate for the data API.
    pub const API_TLS: &str = "api-tls";
}

/// Builds the pod of node `index`.
pub fn build(database: &Database, index: u32) -> Pod {
    let node = names::node(&database.name, index);
    let mut metadata = database.owned(node.clone());
    metadata
        .labels
        .get_or_insert_default()
        .insert(names::LABEL_NODE.to_owned(), node.clone());
    let spec = spec(database, &node);
    let template = template_hash(database, &spec);
    metadata.annotations = Some(
        [
            (names::ANNOTATION_TERM, "0"),
            (ANNOTATION_TEMPLATE, template.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
    );
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

/// What the pod is built from as a short text: equal for pods that need no replacement. The server's configuration
/// counts, because mysqld reads it only when it starts.
fn template_hash(database: &Database, spec: &PodSpec) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(spec).unwrap_or_default());
    hash.update(&database.my_cnf);
    hash.finalize()
        .iter()
        .take(8)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn spec(database: &Database, node: &str) -> PodSpec {
    let Placement {
        affinity,
        node_selector,
        tolerations: users_tolerations,
        topology_spread_constraints,
        priority_class_name,
        image_pull_secrets,
    } = database.placement.clone();
    PodSpec {
        init_containers: Some(vec![
            container::install(database),
            container::mysql(database, node),
        ]),
        containers: vec![container::node(database, node)],
        volumes: Some(volumes(database, node)),
        hostname: Some(node.to_owned()),
        subdomain: Some(names::nodes_service(&database.name)),
        restart_policy: Some("Always".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        service_account_name: Some(names::nodes_service(&database.name)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(security()),
        affinity: Some(affinity.unwrap_or_else(|| apart(database))),
        node_selector: Some(node_selector).filter(|selector| !selector.is_empty()),
        tolerations: Some(tolerations(users_tolerations)),
        topology_spread_constraints: Some(topology_spread_constraints).filter(|all| !all.is_empty()),
        priority_class_name,
        image_pull_secrets: Some(image_pull_secrets).filter(|all| !all.is_empty()).map(|all| {
            all.into_iter()
                .map(|name| LocalObjectReference { name })
                .collect()
        }),
        ..PodSpec::default()
    }
}

fn security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A large volume's files are not all touched at every start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// Preferred, not required: a database of three nodes must also start on one machine.
fn apart(database: &Database) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(database.selector()),
            match_expressions: None,
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                pod_affinity_term: term,
                weight: 100,
            }]),
            required_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

/// A machine that is cut off keeps its node for ever. Eviction could not end the pod there anyway, only mark it, so
/// that it dies the moment the machine is back; failing over does not wait for Kubernetes to give a machine up. A
/// machine that is removed, or marked with `node.kubernetes.io/out-of-service`, loses its pods as usual.
fn tolerations(users: Vec<Toleration>) -> Vec<Toleration> {
    let mut all: Vec<Toleration> = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .into_iter()
        // What the user says of these taints holds instead.
        .filter(|key| users.iter().all(|users| users.key.as_deref() != Some(*key)))
        .map(|key| Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            ..Toleration::default()
        })
        .collect();
    all.extend(users);
    all
}

fn volumes(database: &Database, node: &str) -> Vec<Volume> {
    let mounted = |name: &str, secret: String, optional: Option<bool>| Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(PRIVATE),
            optional,
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let secret = |name: &str, secret: String| mounted(name, secret, None);
    // Without it the data API lets nobody in; MySQL must not wait for that.
    let of_the_api = |name: &str, secret: String| mounted(name, secret, Some(true));
    let empty = |name: &str, limit: Option<&str>| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: limit.map(|limit| Quantity(limit.to_owned())),
            medium: None,
        }),
        ..Volume::default()
    };
    vec![
        Volume {
            name: volume::DATA.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: node.to_owned(),
                read_only: None,
            }),
            ..Volume::default()
        },
        empty(volume::RUN, Some("16Mi")),
        empty(volume::BIN, Some("64Mi")),
        // Without a limit: a large sort or ALTER TABLE writes here, and passing a limit would evict the pod.
        empty(volume::TMP, None),
        Volume {
            name: volume::CONFIG.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(&database.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        secret(volume::TLS, names::node_tls_secret(&database.name)),
        secret(volume::ACCOUNT, names::account_secret(&database.name)),
        of_the_api(volume::TOKENS, names::tokens_secret(&database.name)),
        of_the_api(volume::API_ACCOUNTS, names::api_accounts_secret(&database.name)),
    ]
    .into_iter()
    .chain(
        database
            .api
            .certificate_secret
            .clone()
            .map(|name| of_the_api(volume::API_TLS, name)),
    )
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::Container;

    use super::*;
    use crate::reconcile::database::example;

    fn hash(database: &Database) -> String {
        build(database, 0).metadata.annotations.unwrap()[ANNOTATION_TEMPLATE].clone()
    }

    #[test]
    fn a_pod_as_built() {
        let mut pod = build(&example::database(|_| ()), 0);
        // Its own test is the next one; here it would only change with every word of my.cnf.
        pod.metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert(ANNOTATION_TEMPLATE.to_owned(), "hash".to_owned());
        insta::assert_yaml_snapshot!(pod);
    }

    #[test]
    fn a_certificate_of_the_users_is_mounted_for_the_agent_alone() {
        let named = |spec: &mut api::DistributedDatabaseSpec| {
            spec.api.certificate_secret = Some("shop-tls".to_owned());
        };
        let spec = build(&example::database(named), 0).spec.unwrap();
        let volumes = spec.volumes.unwrap();
        let secret = volumes.last().unwrap().secret.as_ref().unwrap();
        assert_eq!(secret.secret_name.as_deref(), Some("shop-tls"));
        assert_eq!(secret.optional, Some(true), "MySQL does not wait for it");
        let sees = |container: &Container| {
            let mounts = container.volume_mounts.as_ref().unwrap();
            mounts.iter().any(|mount| mount.mount_path == names::API_TLS_DIR)
        };
        let seeing: Vec<&str> = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .filter(|container| sees(container))
            .map(|container| container.name.as_str())
            .collect();
        assert_eq!(seeing, [names::CONTAINER_NODE]);
    }

    #[test]
    fn what_mysqld_reads_changes_the_template_and_what_it_does_not_read_leaves_it() {
        let plain = hash(&example::database(|_| ()));
        assert_eq!(plain, hash(&example::database(|spec| spec.nodes = 5)));
        assert_eq!(
            plain,
            hash(&example::database(
                |spec| spec.storage.size = Quantity("20Gi".to_owned())
            ))
        );
        assert_eq!(
            plain,
            hash(&example::database(|spec| spec.failover.automatic = false))
        );
        let config = |spec: &mut api::DistributedDatabaseSpec| {
            spec.mysql.config = BTreeMap::from([("max_connections".to_owned(), "7".to_owned())]);
        };
        assert_ne!(plain, hash(&example::database(config)));
        assert_ne!(
            plain,
            hash(&example::database(
                |spec| spec.mysql.image = Some("other".to_owned())
            ))
        );
    }

    #[test]
    fn the_users_word_on_a_taint_replaces_ours() {
        let own = Toleration {
            key: Some("node.kubernetes.io/unreachable".to_owned()),
            toleration_seconds: Some(5),
            ..Toleration::default()
        };
        let all = tolerations(vec![own.clone()]);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], own);
    }
}
