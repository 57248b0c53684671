//! The three containers of a node's pod.

use api::resource::{ApiAudit, ApiLimits, ApiSpec};
use api::{names, wire};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, Probe,
    ResourceRequirements, SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::volume;
use crate::reconcile::database::Database;

const HTTP: &str = "http";
/// A node that starts again must not wait for a registry.
const PULL_POLICY: &str = "IfNotPresent";

/// Copies the supervisor to where the MySQL container can run it, whatever that container's image holds.
pub fn install(database: &Database) -> Container {
    Container {
        name: names::CONTAINER_INSTALL.to_owned(),
        image: Some(database.node_image.clone()),
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        command: Some(words(&["/ddb-supervisor", "install", &supervisor()])),
        resources: Some(small(None)),
        volume_mounts: Some(vec![mount(volume::BIN, names::BIN_DIR)]),
        security_context: Some(security()),
        ..Container::default()
    }
}

/// mysqld under the supervisor. No probe: only the agent and the supervisor decide when mysqld is restarted, since
/// a restart at the wrong moment acknowledges lost writes.
pub fn mysql(database: &Database, node: &str) -> Container {
    Container {
        name: names::CONTAINER_MYSQL.to_owned(),
        image: Some(database.mysql_image.clone()),
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        command: Some(words(&[&supervisor(), "run"])),
        restart_policy: Some("Always".to_owned()),
        ports: Some(vec![port("mysql", wire::MYSQL_PORT)]),
        env: Some(vec![value("DDB_NODE", node)]),
        resources: Some(
            database
                .mysql_resources
                .clone()
                .unwrap_or_else(|| ResourceRequirements {
                    // No limit: a server that the kernel kills for a limit nobody chose is a failover for nothing.
                    requests: Some(amounts(&[("memory", "768Mi")])),
                    ..ResourceRequirements::default()
                }),
        ),
        volume_mounts: Some(vec![
            mount(volume::DATA, names::DATA_DIR),
            mount(volume::RUN, names::RUN_DIR),
            mount(volume::TMP, "/tmp"),
            read_only(volume::BIN, names::BIN_DIR),
            read_only(volume::CONFIG, directory(names::MY_CNF)),
            read_only(volume::TLS, names::TLS_DIR),
        ]),
        security_context: Some(security()),
        ..Container::default()
    }
}

/// The node agent.
pub fn node(database: &Database, node: &str) -> Container {
    Container {
        name: names::CONTAINER_NODE.to_owned(),
        image: Some(database.node_image.clone()),
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        command: Some(words(&["/ddb-node"])),
        ports: Some(vec![
            port("session", wire::SESSION_PORT),
            port(HTTP, wire::PROBE_PORT),
            port("passage", wire::PASSAGE_PORT),
            port("api", wire::API_PORT),
        ]),
        env: Some(node_environment(database, node)),
        resources: Some(small(database.agent_resources.as_ref())),
        readiness_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(2),
            ..probe("/readyz")
        }),
        // Generous: the agent watches MySQL, not the other way round, and its restart gains little.
        liveness_probe: Some(Probe {
            initial_delay_seconds: Some(10),
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(6),
            ..probe("/healthz")
        }),
        volume_mounts: Some(
            [
                mount(volume::DATA, names::DATA_DIR),
                mount(volume::RUN, names::RUN_DIR),
                mount(volume::TMP, "/tmp"),
                read_only(volume::TLS, names::TLS_DIR),
                read_only(volume::ACCOUNT, names::ACCOUNT_DIR),
                read_only(volume::TOKENS, names::TOKENS_DIR),
                read_only(volume::API_ACCOUNTS, names::API_ACCOUNTS_DIR),
            ]
            .into_iter()
            .chain(
                database
                    .api
                    .certificate_secret
                    .as_ref()
                    .map(|_| read_only(volume::API_TLS, names::API_TLS_DIR)),
            )
            .collect(),
        ),
        security_context: Some(security()),
        ..Container::default()
    }
}

/// Whose agent it is, and what was settled of the data API.
fn node_environment(database: &Database, node: &str) -> Vec<EnvVar> {
    let ApiSpec {
        enabled,
        limits:
            ApiLimits {
                body_mebibytes,
                rows,
                statement_seconds,
                requests,
                queue,
                token_requests_per_second,
                token_requests,
            },
        audit: ApiAudit {
            reads,
            values,
            slow_milliseconds,
        },
        cors_origins,
        // A volume.
        certificate_secret: _,
        roles,
        // The operator asks for whom a token stands.
        service_accounts: _,
    } = &database.api;
    let body = i64::from(*body_mebibytes) << 20;
    vec![
        value("DDB_NODE", node),
        value("DDB_CLUSTER", &database.uid),
        EnvVar {
            name: "DDB_POD_IP".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "status.podIP".to_owned(),
                    api_version: None,
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        },
        value("DDB_API_OFF", if *enabled { "false" } else { "true" }),
        value("DDB_API_BODY", &body.to_string()),
        value("DDB_API_ROWS", &rows.to_string()),
        value("DDB_API_STATEMENT_SECONDS", &statement_seconds.to_string()),
        value("DDB_API_REQUESTS", &requests.to_string()),
        value("DDB_API_QUEUE", &queue.to_string()),
        value("DDB_API_TOKEN_RATE", &token_requests_per_second.to_string()),
        value("DDB_API_TOKEN_REQUESTS", &token_requests.to_string()),
        value("DDB_API_AUDIT_READS", &reads.to_string()),
        // What has names and words only is always written.
        value(
            "DDB_API_ROLES",
            &serde_json::to_string(roles).unwrap_or_else(|_| "[]".to_owned()),
        ),
        value("DDB_API_AUDIT_VALUES", &values.to_string()),
        value("DDB_API_AUDIT_SLOW", &slow_milliseconds.to_string()),
        value("DDB_API_CORS_ORIGINS", &cors_origins.join(",")),
    ]
}

fn security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(words(&["ALL"])),
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// The user's resources, or the little that the agent needs.
fn small(users: Option<&ResourceRequirements>) -> ResourceRequirements {
    users.cloned().unwrap_or_else(|| ResourceRequirements {
        requests: Some(amounts(&[("cpu", "20m"), ("memory", "32Mi")])),
        limits: Some(amounts(&[("memory", "128Mi")])),
        ..ResourceRequirements::default()
    })
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(HTTP.to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn supervisor() -> String {
    format!("{}/ddb-supervisor", names::BIN_DIR)
}

fn directory(file: &str) -> &str {
    file.rsplit_once('/').map_or(file, |(directory, _)| directory)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn amounts(amounts: &[(&str, &str)]) -> std::collections::BTreeMap<String, Quantity> {
    amounts
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect()
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        // The kubelet would take a dollar for the beginning of another variable.
        value: Some(value.replace('$', "$$")),
        value_from: None,
    }
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

fn read_only(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount(volume, path)
    }
}
