//! Names that operator, node agent and tests must agree on: labels, annotations, objects, and where things are
//! inside a node's pod.

/// The API group of the resource and the prefix of all labels and annotations.
pub const GROUP: &str = "ddb-operator.io";
/// The field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "ddb-operator";

/// Label: the resource a pod, volume or Service belongs to.
pub const LABEL_CLUSTER: &str = "ddb-operator.io/cluster";
/// Label: the node a pod or volume belongs to (the pod's name).
pub const LABEL_NODE: &str = "ddb-operator.io/node";
/// Label: what the node does; absent while it is neither master nor slave.
pub const LABEL_ROLE: &str = "ddb-operator.io/role";
/// Value of [`LABEL_ROLE`] on the one node that accepts writes.
pub const ROLE_MASTER: &str = "master";
/// Value of [`LABEL_ROLE`] on nodes that follow the master and serve reads.
pub const ROLE_SLAVE: &str = "slave";
/// Annotation on pods: the newest term that took or gave the role label. Label writes are conditional on it.
pub const ANNOTATION_TERM: &str = "ddb-operator.io/term";
/// Annotation on the resource: `<pod>` asks for a switchover to that pod, [`PROMOTE_ANY`] to whichever can lead.
pub const ANNOTATION_PROMOTE: &str = "ddb-operator.io/promote";
/// Value of [`ANNOTATION_PROMOTE`] that leaves the choice to the operator.
pub const PROMOTE_ANY: &str = "any";
/// Annotation on the resource: `<pod>@<current term>` makes the pod the master without a quorum.
pub const ANNOTATION_FORCE: &str = "ddb-operator.io/force-promote";
/// Annotation on the resource: `<pod>[,<pod>…]` are kept closed for as long as it stands.
pub const ANNOTATION_FENCE: &str = "ddb-operator.io/fence";
/// Annotation on the resource: `<pod>` has that slave cloned again.
pub const ANNOTATION_RESYNC: &str = "ddb-operator.io/resync";

/// Name of the init container that copies the supervisor into the MySQL container's reach.
pub const CONTAINER_INSTALL: &str = "install";
/// Name of the native sidecar that runs mysqld under the supervisor.
pub const CONTAINER_MYSQL: &str = "mysql";
/// Name of the main container, the node agent.
pub const CONTAINER_NODE: &str = "node";

/// The node's volume, mounted in both containers.
pub const DATA_DIR: &str = "/var/lib/ddb";
/// mysqld's data directory, on the node's volume.
pub const MYSQL_DATA_DIR: &str = "/var/lib/ddb/mysql";
/// What the agent must remember: term, fence, volume identity; on the node's volume.
pub const AGENT_DIR: &str = "/var/lib/ddb/agent";
/// Sockets shared by the containers of a pod.
pub const RUN_DIR: &str = "/run/ddb";
/// mysqld's socket.
pub const MYSQL_SOCKET: &str = "/run/ddb/mysql.sock";
/// The supervisor's socket.
pub const SUPERVISOR_SOCKET: &str = "/run/ddb/supervisor.sock";
/// Where the supervisor is installed for the MySQL container.
pub const BIN_DIR: &str = "/opt/ddb-bin";
/// The generated server configuration (a `ConfigMap`'s directory).
pub const MY_CNF: &str = "/etc/ddb/config/my.cnf";
/// Certificates of the node: `ca.crt`, `tls.crt`, `tls.key` (a Secret's directory).
pub const TLS_DIR: &str = "/etc/ddb/tls";
/// The application account: `username`, `password` (a Secret's directory, in the agent's container only).
pub const ACCOUNT_DIR: &str = "/etc/ddb/account";

/// Tokens of the data API: one file for each (a Secret's directory, in the agent's container only).
pub const TOKENS_DIR: &str = "/etc/ddb/tokens";
/// Passwords of the data API's own accounts: one file for each role (a Secret's directory, in the agent's container
/// only).
pub const API_ACCOUNTS_DIR: &str = "/etc/ddb/api-accounts";
/// Where the node's container sees the user's certificate for the data API.
pub const API_TLS_DIR: &str = "/etc/ddb/api-tls";
/// Audit records of the data API, on the node's volume.
pub const AUDIT_DIR: &str = "/var/lib/ddb/audit";

/// The MySQL account that slaves replicate with: no password, a client certificate of the cluster's CA instead.
pub const REPLICATION_USER: &str = "ddb_replication";
/// The MySQL account that CLONE connects to a donor with: no password, a client certificate instead.
pub const CLONE_USER: &str = "ddb_clone";
/// The first line of the subject of the operator's client certificate, the only one a node's session accepts.
pub const OPERATOR_COMMON_NAME: &str = "ddb-operator";

/// Name of node `index` of the database `name`: its pod and its volume claim.
pub fn node(name: &str, index: u32) -> String {
    format!("{name}-{index}")
}

/// Service that leads to the master only; its `EndpointSlice` is written by the operator.
pub fn master_service(name: &str) -> String {
    format!("{name}-master")
}

/// Service over all slaves that serve reads.
pub fn slaves_service(name: &str) -> String {
    format!("{name}-slaves")
}

/// Headless Service that names every node, ready or not.
pub fn nodes_service(name: &str) -> String {
    format!("{name}-nodes")
}

/// `ConfigMap` with the generated `my.cnf`.
pub fn config_map(name: &str) -> String {
    format!("{name}-config")
}

/// Secret with the database's own certificate authority; read by the operator only.
pub fn ca_secret(name: &str) -> String {
    format!("{name}-ca")
}

/// Secret with the nodes' certificate.
pub fn node_tls_secret(name: &str) -> String {
    format!("{name}-node-tls")
}

/// Secret with the application account: `username`, `password`, `host`, `port`.
pub fn account_secret(name: &str) -> String {
    format!("{name}-app")
}

/// Secret with the data API's tokens: one key for each, which `kubectl ddb token` writes.
pub fn tokens_secret(name: &str) -> String {
    format!("{name}-api-tokens")
}

/// Secret with the passwords of the data API's own MySQL accounts: one key for each role.
pub fn api_accounts_secret(name: &str) -> String {
    format!("{name}-api-accounts")
}

/// The audience that a service account's token must be made for, so that it opens this database and nothing else.
pub fn api_audience(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.{GROUP}")
}

/// DNS name that the nodes' certificate is valid for, as the operator expects it of node `node`.
pub fn node_host(name: &str, namespace: &str, node: &str) -> String {
    format!("{node}.{}.{namespace}.svc", nodes_service(name))
}
