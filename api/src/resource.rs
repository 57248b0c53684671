//! The `DistributedDatabase` resource: what users write, what the operator answers in its status.
//!
//! Validation is in the schema (CEL), with messages that name the field and the mend, and a second time in
//! [`DistributedDatabaseSpec::problems`], so that an object that slipped past the schema is `Invalid` instead of
//! half applied.

use std::collections::BTreeMap;

use failover::record::Change;
use failover::{Cause, GtidSet, Millis, NodeId, Record};
use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::{Message, Rule};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kept::Kept;

/// A replicated MySQL: one master, which accepts writes, and slaves, which hold every acknowledged write and one of
/// which takes over when the master fails.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ddb-operator.io",
    version = "v1alpha1",
    kind = "DistributedDatabase",
    namespaced,
    shortname = "ddb",
    category = "all",
    status = "DistributedDatabaseStatus",
    scale(
        spec_replicas_path = ".spec.nodes",
        status_replicas_path = ".status.readyNodes",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".spec.nodes"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyNodes"),
    printcolumn(name = "Master", type_ = "string", json_path = ".status.master"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Safe-to-lose", type_ = "integer", json_path = ".status.safeToLose"),
    printcolumn(name = "Term", type_ = "integer", json_path = ".status.term", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name: at most 40 characters, because the names of pods and Services are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: must be small letters, digits and '-', and begin with a letter, because a Service has this name"),
    validation = Rule::new("!self.metadata.name.matches('-(master|slaves|nodes)$')")
        .message("metadata.name: must not end in -master, -slaves or -nodes, because the Services of other databases have such names")
)]
#[kube(derive = "PartialEq")]
#[serde(rename_all = "camelCase")]
pub struct DistributedDatabaseSpec {
    /// How many nodes: one master and the rest slaves. A write is acknowledged when ⌊nodes/2⌋ slaves hold it.
    #[serde(default = "default_nodes")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 9")
        .message("spec.nodes: must be from 1 to 9; 3 survives the loss of one node, 5 of two"))]
    pub nodes: i32,
    /// The MySQL server.
    #[serde(default)]
    pub mysql: MysqlSpec,
    /// The volume of each node.
    #[serde(default)]
    pub storage: StorageSpec,
    /// How masters are replaced.
    #[serde(default)]
    pub failover: FailoverSpec,
    /// What happens to writes while slaves are missing.
    #[serde(default)]
    pub durability: Durability,
    /// Maintenance: no failover, no change of master, no clone, no rollout, no change of size, until it is false again.
    #[serde(default)]
    pub paused: bool,
    /// Settings of the node agent beside each MySQL server.
    #[serde(default)]
    pub agent: AgentSpec,
    /// The HTTP data API that every node serves.
    #[serde(default)]
    pub api: ApiSpec,
    /// Rules on which machines the nodes run. Without any, nodes prefer different machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Labels that a machine must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of machines that the nodes tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// How the nodes spread over zones and machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the nodes' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Secrets to pull the images with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
}

/// The MySQL server of every node.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MysqlSpec {
    /// An image that contains `mysqld` 8.4 or newer; the operator's default where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.size() > 0")
        .message("spec.mysql.image: must name an image with mysqld in it, or be left out for the operator's default"))]
    pub image: Option<String>,
    /// Server settings by their names in `my.cnf`. Settings that safety rests on are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = config_rule())]
    #[schemars(extend("maxProperties" = 100))]
    pub config: BTreeMap<String, String>,
    /// CPU and memory of the MySQL container; the buffer pool is sized from the memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// The volume of each node.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
    .message("spec.storage.storageClassName: cannot be changed, a volume stays in the class it was made in; make a new database and move the data"))]
pub struct StorageSpec {
    /// The size of each node's volume, such as `10Gi`. It can grow, where the storage class allows, but not shrink.
    #[serde(default = "default_size")]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("spec.storage.size: must be a size of more than nothing, such as 10Gi"))]
    #[x_kube(validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity(oldSelf)) >= 0")
        .message("spec.storage.size: a volume cannot shrink; set it back to at least its former size"))]
    #[schemars(schema_with = "quantity_schema")]
    pub size: Quantity,
    /// The storage class; the cluster's default where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// What becomes of the volumes when the resource is deleted.
    #[serde(default)]
    pub when_deleted: WhenDeleted,
}

/// What becomes of volumes when their resource is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenDeleted {
    /// They stay, and a resource of the same name finds its data again.
    #[default]
    Retain,
    /// They are deleted with it.
    Delete,
}

/// How masters are replaced.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverSpec {
    /// Replace a failed master without being asked.
    #[serde(default = "default_true")]
    pub automatic: bool,
    /// How many milliseconds a silent master is waited for. A master whose process died is replaced at once.
    #[serde(default = "default_detect_after")]
    #[x_kube(validation = Rule::new("self >= 300 && self <= 60000")
        .message("spec.failover.detectAfterMilliseconds: must be from 300 to 60000"))]
    pub detect_after_milliseconds: i32,
    /// How many milliseconds the old master may take to hand over. Then connections that still write are dropped, and
    /// whichever node can lead safely does.
    #[serde(default = "default_switchover_deadline")]
    #[x_kube(validation = Rule::new("self >= 500 && self <= 60000")
        .message("spec.failover.switchoverDeadlineMilliseconds: must be from 500 to 60000"))]
    pub switchover_deadline_milliseconds: i32,
    /// What happens to a node with transactions that the master lacks.
    #[serde(default)]
    pub errant_policy: ErrantPolicy,
}

/// What happens to writes while slaves are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Durability {
    /// They wait until ⌊nodes/2⌋ slaves hold them.
    #[default]
    Strict,
    /// They go on with fewer slaves after some seconds; a failover then needs more nodes, and status says what may be
    /// lost.
    Available,
}

/// What happens to a node with transactions that the master lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ErrantPolicy {
    /// It keeps them as a file on its volume and is cloned again.
    #[default]
    Repair,
    /// It is held as it is, for a person to look at.
    Quarantine,
}

/// Settings of the node agent.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// CPU and memory of the agent's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// The HTTP data API that every node serves over TLS.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.serviceAccounts) || self.serviceAccounts.all(account, account.role in ['reader', 'writer', 'admin'] || (has(self.roles) && self.roles.exists(role, role.name == account.role)))")
    .message("spec.api.serviceAccounts.role: must be reader, writer, admin, or one of spec.api.roles"))]
pub struct ApiSpec {
    /// Serve it. Without a token nobody is let in; `kubectl ddb token create` makes one.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// What one request may take.
    #[serde(default)]
    pub limits: ApiLimits,
    /// What is recorded besides changes and refusals.
    #[serde(default)]
    pub audit: ApiAudit,
    /// Origins whose scripts a browser lets in, such as `https://console.example.com`. Without any, none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = Rule::new("self.all(origin, origin.matches('^https?://[^/?#@*]+$'))")
        .message("spec.api.corsOrigins: each must be a scheme with a host, such as https://console.example.com, without a path and without *"))]
    #[schemars(extend("maxItems" = 32), inner(length(max = 255)))]
    pub cors_origins: Vec<String>,
    /// A Secret of the type `kubernetes.io/tls` in the database's namespace, whose certificate clients are shown instead of
    /// one by the database's own authority. A renewed one is taken into use without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("spec.api.certificateSecret: must be the name of a Secret"))]
    #[schemars(extend("maxLength" = 253))]
    pub certificate_secret: Option<String>,
    /// Roles besides `reader`, `writer` and `admin`, each with a MySQL account of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = Rule::new("self.all(role, role.like != 'reader' || !has(role.privileges) || role.privileges.all(one, one == 'SELECT'))")
        .message("spec.api.roles: a role like reader can have the privilege SELECT only"))]
    #[x_kube(validation = Rule::new("self.all(role, role.like == 'admin' || !has(role.privileges) || !('DROP' in role.privileges))")
        .message("spec.api.roles: only a role like admin can have the privilege DROP"))]
    #[schemars(extend("maxItems" = 16, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub roles: Vec<ApiCustomRole>,
    /// Kubernetes service accounts that are let in with a token for the audience
    /// `<name>.<namespace>.ddb-operator.io`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub service_accounts: Vec<ApiServiceAccount>,
}

/// What the data API's audit records are kept of, besides changes and refusals.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiAudit {
    /// Record reads too: a record for each, in the file and in the log.
    #[serde(default)]
    pub reads: bool,
    /// Record the values of statements too, in place of `?`. They may be personal or secret: the records are then as well.
    #[serde(default)]
    pub values: bool,
    /// Record whatever takes so many milliseconds or longer, with its statement; 0 for nothing.
    #[serde(default = "default_slow")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 3600000")
        .message("spec.api.audit.slowMilliseconds: must be from 0, which is nothing, to 3600000"))]
    pub slow_milliseconds: i32,
}

/// A Kubernetes service account and what it may do.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServiceAccount {
    /// Its namespace; the database's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 63))]
    pub namespace: Option<String>,
    /// Its name.
    #[x_kube(validation = Rule::new("self.size() > 0")
        .message("spec.api.serviceAccounts.name: must name a service account"))]
    #[schemars(extend("maxLength" = 253))]
    pub name: String,
    /// What it may do: `reader`, `writer`, `admin`, or one of `roles`.
    #[schemars(extend("maxLength" = 20))]
    pub role: String,
    /// The only databases that it reaches; all that the role reaches where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<Vec<String>>,
}

/// A role of this database.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiCustomRole {
    /// Its name, which tokens and service accounts name.
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9-]{0,19}$') && !(self in ['reader', 'writer', 'admin'])")
        .message("spec.api.roles.name: must be up to 20 small letters, digits and '-', begin with a letter, and not be reader, writer or admin"))]
    #[schemars(extend("maxLength" = 20))]
    pub name: String,
    /// Whose paths of the API it may use.
    pub like: ApiRole,
    /// The only databases that it reaches; all where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.all(one, size(one) > 0 && !(one.lowerAscii() in ['mysql', 'sys', 'ddb', 'information_schema', 'performance_schema']))")
        .message("spec.api.roles.databases: each must be the name of a database that is not the system's"))]
    #[schemars(extend("minItems" = 1, "maxItems" = 64), inner(length(max = 64)))]
    pub databases: Option<Vec<String>>,
    /// What its MySQL account may do there; all that `like` may where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1, "maxItems" = 9))]
    pub privileges: Option<Vec<ApiPrivilege>>,
}

/// A privilege in MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ApiPrivilege {
    /// Reads rows.
    Select,
    /// Adds rows.
    Insert,
    /// Changes rows.
    Update,
    /// Deletes rows.
    Delete,
    /// Makes databases and tables.
    Create,
    /// Changes tables.
    Alter,
    /// Makes and drops indexes.
    Index,
    /// Makes foreign keys.
    References,
    /// Drops databases and tables.
    Drop,
}

/// What somebody may do through the data API. Each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApiRole {
    /// Reads rows and definitions.
    Reader,
    /// Changes rows, makes databases and tables.
    Writer,
    /// Drops databases and tables, reads audit records, directs the cluster.
    Admin,
}

/// What one request to the data API may take.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiLimits {
    /// MiB of a request's body.
    #[serde(default = "default_body")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 64")
        .message("spec.api.limits.bodyMebibytes: must be from 1 to 64; larger amounts are imported as a stream"))]
    pub body_mebibytes: i32,
    /// Rows of one reply at most.
    #[serde(default = "default_rows")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000")
        .message("spec.api.limits.rows: must be from 1 to 100000"))]
    pub rows: i32,
    /// Seconds that one statement may take; then it is stopped on the server.
    #[serde(default = "default_statement_seconds")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 3600")
        .message("spec.api.limits.statementSeconds: must be from 1 to 3600"))]
    pub statement_seconds: i32,
    /// Requests that a node carries out at a time; more wait for their turn.
    #[serde(default = "default_requests")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1024")
        .message("spec.api.limits.requests: must be from 1 to 1024"))]
    pub requests: i32,
    /// Requests that wait on a node for their turn; further ones are answered 503 at once.
    #[serde(default = "default_queue")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 65536")
        .message("spec.api.limits.queue: must be from 0 to 65536"))]
    pub queue: i32,
    /// Requests a second that one token may send to a node; 0 for any number.
    #[serde(default = "default_token_rate")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 1000000")
        .message("spec.api.limits.tokenRequestsPerSecond: must be from 0, which is any number, to 1000000"))]
    pub token_requests_per_second: i32,
    /// Requests that one token may have under way on a node.
    #[serde(default = "default_token_requests")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65536")
        .message("spec.api.limits.tokenRequests: must be from 1 to 65536"))]
    pub token_requests: i32,
}

/// What the operator knows and did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistributedDatabaseStatus {
    /// The durable truth about leadership: term, master, members.
    #[serde(flatten)]
    pub record: Record,
    /// The state of the database in one word.
    #[serde(default)]
    pub phase: Phase,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes that serve their role now.
    #[serde(default)]
    pub ready_nodes: i32,
    /// How many nodes may fail now without losing writes or acknowledged data.
    #[serde(default)]
    pub safe_to_lose: i32,
    /// Selector of the nodes' pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// Each node.
    #[serde(default)]
    pub nodes: Vec<NodeStatus>,
    /// The usual conditions: Ready, Available, Progressing, Degraded, `AtRisk`, Paused, Valid.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The last changes of master, newest first, at most ten.
    #[serde(default)]
    pub last_failovers: Vec<FailoverStatus>,
    /// What the failover engine makes of the situation: what it chose, rejected and waits for.
    #[serde(default)]
    pub explanation: Vec<String>,
    /// What came of the last request made by annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<RequestStatus>,
    /// Only where a change of master is needed and too few nodes answer: who is missing, and what could be forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_resort: Option<LastResortStatus>,
}

/// What a person can still do where nothing can be done safely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastResortStatus {
    /// Who is missing, each with the reason.
    pub missing: Vec<String>,
    /// The command that gives up what only the missing hold; absent where no node that answers could lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// The state of a database in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The spec was not looked at yet.
    #[default]
    Pending,
    /// The first master waits for its nodes.
    Creating,
    /// A master leads and every node serves.
    Healthy,
    /// A master leads; not every node serves.
    Degraded,
    /// The master changes.
    FailingOver,
    /// There is no master and none can be made safely.
    Down,
    /// A master leads and `spec.paused` is set: a failed master would not be replaced.
    Paused,
    /// The spec was refused; what ran before runs on.
    Invalid,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name, which is its pod's.
    pub name: NodeId,
    /// What it does.
    pub role: NodeRole,
    /// Whether it serves that role.
    pub ready: bool,
    /// The pod's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `mysqld`'s version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it holds, as last written here (refreshed every few seconds).
    #[serde(default)]
    pub gtid_set: GtidSet,
    /// How many of the master's transactions it has not executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<i64>,
    /// Whether it keeps pace with the master, as a rolling change asks of each slave.
    #[serde(default)]
    pub pace: NodePace,
    /// What is wrong or under way, in a sentence; empty where all is well.
    #[serde(default)]
    pub message: String,
    /// When the operator last heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Time>,
    /// Transactions that it gave up and keeps as files on its volume, where there are such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// How well a node keeps pace with the master.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum NodePace {
    /// It has not received what the master committed some moments ago.
    #[default]
    Behind,
    /// It receives as fast as the master commits, and has some of that to execute still.
    Receives,
    /// It executes as fast as the master commits. So does the master.
    Executes,
}

/// What a node does, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeRole {
    /// It has not been heard of.
    #[default]
    Unknown,
    /// It accepts writes.
    Master,
    /// It follows the master.
    Slave,
    /// It copies another node's data.
    Cloning,
    /// It runs but neither leads nor follows.
    Idle,
    /// Its MySQL server does not run or does not answer.
    Down,
}

/// A change of master that is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// When it was complete.
    pub at: Time,
    /// What was done and how long each step took.
    #[serde(flatten)]
    pub change: Change,
}

/// What came of a request made by annotation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// When it was answered.
    pub at: Time,
    /// It was carried out.
    pub done: bool,
    /// What happened, in a sentence.
    pub message: String,
}

/// Refuses reserved settings by the list that [`crate::mycnf::refused`] uses, in any spelling MySQL would accept.
fn config_rule() -> Rule {
    let reserved = format!(
        "name.lowerAscii().replace('-', '_').matches('{}')",
        crate::mycnf::reserved_pattern()
    );
    Rule::new(format!("self.all(name, !{reserved})")).message(Message::Expression(format!(
        "'spec.mysql.config.' + self.filter(name, {reserved})[0] + \
         ' cannot be set, because the safety of the data or the shape of the pod rests on it; remove it'"
    )))
}

fn default_nodes() -> i32 {
    3
}
fn default_size() -> Quantity {
    Quantity("10Gi".to_owned())
}
fn default_true() -> bool {
    true
}
fn default_detect_after() -> i32 {
    750
}
fn default_switchover_deadline() -> i32 {
    5000
}

fn default_body() -> i32 {
    8
}
fn default_rows() -> i32 {
    10_000
}
fn default_statement_seconds() -> i32 {
    30
}
fn default_requests() -> i32 {
    128
}
fn default_queue() -> i32 {
    1024
}
fn default_token_rate() -> i32 {
    10_000
}
fn default_token_requests() -> i32 {
    1024
}

fn default_slow() -> i32 {
    1000
}

fn quantity_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 32,
    })
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self {
            size: default_size(),
            storage_class_name: None,
            when_deleted: WhenDeleted::default(),
        }
    }
}

impl Default for ApiSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            limits: ApiLimits::default(),
            audit: ApiAudit::default(),
            cors_origins: Vec::new(),
            certificate_secret: None,
            roles: Vec::new(),
            service_accounts: Vec::new(),
        }
    }
}

impl Default for ApiAudit {
    fn default() -> Self {
        Self {
            reads: false,
            values: false,
            slow_milliseconds: default_slow(),
        }
    }
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            body_mebibytes: default_body(),
            rows: default_rows(),
            statement_seconds: default_statement_seconds(),
            requests: default_requests(),
            queue: default_queue(),
            token_requests_per_second: default_token_rate(),
            token_requests: default_token_requests(),
        }
    }
}

impl Default for FailoverSpec {
    fn default() -> Self {
        Self {
            automatic: true,
            detect_after_milliseconds: default_detect_after(),
            switchover_deadline_milliseconds: default_switchover_deadline(),
            errant_policy: ErrantPolicy::default(),
        }
    }
}

/// A slave executes so many small transactions in a second or two, less than a copy takes.
const REPLAY: u64 = 1000;

impl DistributedDatabase {
    /// The policy that the failover engine is to follow.
    pub fn policy(&self) -> failover::Policy {
        let FailoverSpec {
            automatic,
            detect_after_milliseconds,
            switchover_deadline_milliseconds,
            errant_policy,
        } = &self.spec.failover;
        failover::Policy {
            automatic: *automatic,
            paused: self.spec.paused,
            durability: match self.spec.durability {
                Durability::Strict => failover::Durability::Strict,
                Durability::Available => failover::Durability::Available,
            },
            detect_after: Millis::from(detect_after_milliseconds.unsigned_abs()),
            switchover_deadline: Millis::from(switchover_deadline_milliseconds.unsigned_abs()),
            nodes: self.spec.nodes.unsigned_abs(),
            replay: REPLAY,
            errant: match errant_policy {
                ErrantPolicy::Repair => failover::ErrantPolicy::Repair,
                ErrantPolicy::Quarantine => failover::ErrantPolicy::Quarantine,
            },
        }
    }
}

impl FailoverStatus {
    /// Why the master changed.
    pub fn cause(&self) -> Cause {
        self.change.intent.cause
    }
}
