//! One `DistributedDatabase` as its user sees it: apply, wait, ask who is master, find its addresses.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::{
    DistributedDatabase, DistributedDatabaseStatus, names,
    resource::{Phase, RequestStatus},
};
use failover::Millis;
use k8s_openapi::api::{
    core::v1::{Pod, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};

use sqlx::MySqlConnection;

use crate::{
    sql::{self, Address},
    tools::kubectl,
    wait::{self, Seen},
};

/// A name in a namespace.
#[derive(Clone)]
pub struct Database {
    /// The API server.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// The resource's name.
    pub name: String,
}

/// A node's pod, reduced to what tests look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its life.
    pub uid: String,
    /// Its role label.
    pub role: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// The machine it runs on.
    pub machine: String,
    /// Container restarts, all containers together.
    pub restarts: i32,
}

impl From<&Pod> for Node {
    fn from(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.iter().flatten();
        let restarts = containers.chain(status.init_container_statuses.iter().flatten());
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            role: pod.labels().get(names::LABEL_ROLE).cloned(),
            ip: status.pod_ip,
            machine: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
            restarts: restarts.map(|container| container.restart_count).sum(),
        }
    }
}

fn stays(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Database {
    /// The database `name`, whether it exists or not.
    pub fn new(client: &Client, namespace: &str, name: &str) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn api(&self) -> Api<DistributedDatabase> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its pods' API.
    pub fn pod_api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Server-side apply, as a user's `kubectl apply --server-side`.
    pub async fn apply(&self, wanted: &DistributedDatabase) -> Result<DistributedDatabase, kube::Error> {
        self.api()
            .patch(
                &self.name,
                &PatchParams::apply("e2e").force(),
                &Patch::Apply(wanted),
            )
            .await
    }

    /// A merge patch, as a user's `kubectl patch`.
    pub async fn patch(&self, patch: serde_json::Value) -> Result<DistributedDatabase, kube::Error> {
        self.api()
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
    }

    /// Deletes the resource.
    pub async fn delete(&self) -> Result<()> {
        self.api()
            .delete(&self.name, &kube::api::DeleteParams::default())
            .await?;
        Ok(())
    }

    /// Whether the resource exists.
    pub async fn exists(&self) -> Result<bool> {
        Ok(self.api().get_opt(&self.name).await?.is_some())
    }

    /// Every object that carries the database's label, as `kind/name`.
    pub async fn objects(&self, context: Option<&str>) -> Result<Vec<String>> {
        let kinds = "pods,services,endpointslices,secrets,configmaps,serviceaccounts,roles,rolebindings,\
                     poddisruptionbudgets,persistentvolumeclaims";
        let label = format!("{}={}", names::LABEL_CLUSTER, self.name);
        let words = [
            "get",
            kinds,
            "--namespace",
            &self.namespace,
            "--selector",
            &label,
            "--output",
            "name",
        ];
        let listed = kubectl(context, &words).await?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// The resource.
    pub async fn get(&self) -> Result<DistributedDatabase> {
        self.api()
            .get(&self.name)
            .await
            .with_context(|| format!("reading database {}", self.name))
    }

    /// Its status, empty where there is none yet.
    pub async fn status(&self) -> Result<DistributedDatabaseStatus> {
        Ok(self.get().await?.status.unwrap_or_default())
    }

    /// Its nodes' pods, by name.
    pub async fn pods(&self) -> Result<Vec<Node>> {
        let all = self
            .pod_api()
            .list(&self.selector())
            .await
            .context("listing pods")?;
        let mut nodes: Vec<Node> = all.items.iter().map(Node::from).collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(nodes)
    }

    /// What selects everything of this database.
    pub fn selector(&self) -> ListParams {
        ListParams::default().labels(&format!("{}={}", names::LABEL_CLUSTER, self.name))
    }

    /// The pod of the master, by its label.
    pub async fn master_pod(&self) -> Result<Pod> {
        self.pod_with_role(names::ROLE_MASTER).await
    }

    /// The pods of all slaves, by their labels and names.
    pub async fn slave_pods(&self) -> Result<Vec<Pod>> {
        let mut pods = self.pods_with_role(names::ROLE_SLAVE).await?;
        pods.sort_by_key(ResourceExt::name_any);
        Ok(pods)
    }

    /// The pod of this node.
    pub async fn pod(&self, node: &str) -> Result<Pod> {
        self.pod_api()
            .get(node)
            .await
            .with_context(|| format!("reading pod {node}"))
    }

    /// The pod of one slave, by its label.
    pub async fn slave_pod(&self) -> Result<Pod> {
        self.pod_with_role(names::ROLE_SLAVE).await
    }

    async fn pod_with_role(&self, role: &str) -> Result<Pod> {
        let found = self.pods_with_role(role).await?;
        found
            .into_iter()
            .next()
            .with_context(|| format!("no pod of {} has role={role}", self.name))
    }

    async fn pods_with_role(&self, role: &str) -> Result<Vec<Pod>> {
        let selector = format!(
            "{}={},{}={role}",
            names::LABEL_CLUSTER,
            self.name,
            names::LABEL_ROLE
        );
        let found = self
            .pod_api()
            .list(&ListParams::default().labels(&selector))
            .await?;
        Ok(found.items)
    }

    /// Waits for phase Healthy with every node ready, for the newest spec.
    pub async fn wait_healthy(&self, bound: Duration) -> Result<DistributedDatabaseStatus> {
        wait::until("healthy database", bound, async || {
            let database = self.get().await?;
            let status = database.status.clone().unwrap_or_default();
            let current = status.observed_generation == database.metadata.generation;
            let healthy = status.phase == Phase::Healthy && status.ready_nodes == database.spec.nodes;
            Ok(if current && healthy {
                Seen::Done(status)
            } else {
                Seen::NotYet(describe(&status))
            })
        })
        .await
    }

    /// Waits until every pod is there to stay and Ready, whatever the status says.
    pub async fn wait_pods_ready(&self, bound: Duration) -> Result<()> {
        wait::until("pods", bound, async || {
            let wanted = self.get().await?.spec.nodes;
            let pods = self.pod_api().list(&self.selector()).await?.items;
            let ready = pods.iter().filter(|pod| stays(pod) && is_ready(pod)).count();
            let whole = pods.len() == ready && i32::try_from(ready) == Ok(wanted);
            Ok(if whole {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{ready} of {wanted} are Ready; there are {}", pods.len()))
            })
        })
        .await
    }

    /// Waits for a term after `term`, be it led already or not.
    pub async fn wait_term(&self, term: u64, bound: Duration) -> Result<()> {
        wait::until("new term", bound, async || {
            let now = self.status().await?.record.term.0;
            Ok(if now > term {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("term {now}"))
            })
        })
        .await
    }

    /// Waits until the operator has removed the annotation of a request, as it does of one that it has answered.
    pub async fn wait_taken(&self, annotation: &str, bound: Duration) -> Result<()> {
        wait::until("answer to the request", bound, async || {
            let left = self.get().await?.metadata.annotations.unwrap_or_default();
            Ok(if left.contains_key(annotation) {
                Seen::NotYet("the annotation is still there".to_owned())
            } else {
                Seen::Done(())
            })
        })
        .await
    }

    /// Waits for the answer to a request whose message contains these words.
    pub async fn answer(&self, words: &str, bound: Duration) -> Result<RequestStatus> {
        wait::until("answer in status.lastRequest", bound, async || {
            let request = self.status().await?.last_request;
            Ok(match request {
                Some(request) if request.message.contains(words) => Seen::Done(request),
                other => Seen::NotYet(format!("{other:?}")),
            })
        })
        .await
    }

    /// Waits for a master in a term after `term`.
    pub async fn wait_led(&self, term: u64, bound: Duration) -> Result<()> {
        wait::until("new master", bound, async || {
            let status = self.status().await?;
            let done = status.record.term.0 > term && status.record.master.is_some();
            Ok(if done {
                Seen::Done(())
            } else {
                Seen::NotYet(describe(&status))
            })
        })
        .await
    }

    /// Waits for a master in a term after `term`, and for health.
    pub async fn wait_healed(&self, term: u64, bound: Duration) -> Result<DistributedDatabaseStatus> {
        self.wait_led(term, bound).await?;
        self.wait_healthy(bound).await
    }

    /// The condition of this kind, as `status: message`.
    pub async fn condition(&self, kind: &str) -> Result<(String, String)> {
        let status = self.status().await?;
        let found = status
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == kind);
        let found = found.with_context(|| format!("status has no condition {kind}"))?;
        Ok((found.status, format!("{}: {}", found.reason, found.message)))
    }

    /// Reason and message of every event of this namespace.
    pub async fn events(&self) -> Result<Vec<(String, String)>> {
        let events =
            Api::<k8s_openapi::api::core::v1::Event>::namespaced(self.client.clone(), &self.namespace);
        let events = events.list(&ListParams::default()).await?.into_iter();
        Ok(events
            .map(|event| {
                (
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default(),
                )
            })
            .collect())
    }

    /// What the events of this reason say.
    pub async fn told(&self, reason: &str) -> Result<Vec<String>> {
        let events = self.events().await?.into_iter();
        let of_reason = events.filter(|(of, _)| of == reason);
        Ok(of_reason.map(|(_, message)| message).collect())
    }

    /// Addresses that a Service leads to now.
    pub async fn endpoints(&self, service: &str) -> Result<Vec<String>> {
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), &self.namespace);
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let endpoints = slices
            .list(&of_service)
            .await?
            .into_iter()
            .flat_map(|slice| slice.endpoints);
        let ready = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        });
        Ok(ready.flat_map(|endpoint| endpoint.addresses).collect())
    }

    /// The operator's own account of the change of master after `term`: total, and the end of each step from the first
    /// evidence, in order of time.
    pub async fn account_of_change_after(&self, term: u64) -> Result<(Millis, Vec<(String, Millis)>)> {
        wait::until(
            "account of the change of master in status",
            Duration::from_secs(15),
            async || {
                let status = self.status().await?;
                let found = status
                    .last_failovers
                    .iter()
                    .find(|failover| failover.change.term.0 > term);
                let Some(change) = found.map(|failover| &failover.change) else {
                    return Ok(Seen::NotYet("no entry in lastFailovers".to_owned()));
                };
                let steps = change.steps_in_order().into_iter();
                let steps = steps.map(|(name, millis)| (name.to_owned(), millis)).collect();
                Ok(Seen::Done((change.total, steps)))
            },
        )
        .await
    }

    /// The application account at a node's own address.
    pub async fn at(&self, host: &str) -> Result<Address> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let secret = secrets
            .get(&names::account_secret(&self.name))
            .await
            .context("reading the account's Secret")?;
        let field = |key: &str| -> Result<String> {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            let bytes = bytes.with_context(|| format!("the account's Secret has no `{key}`"))?;
            Ok(String::from_utf8(bytes.0.clone())?)
        };
        Ok(Address {
            host: host.to_owned(),
            user: field("username")?,
            password: field("password")?,
        })
    }

    /// The application account at the master's Service, by its cluster address.
    pub async fn master_address(&self) -> Result<Address> {
        self.at(&self.service_address(&names::master_service(&self.name)).await?)
            .await
    }

    /// A connection through the master's Service, to the master. The resource may be ready a second before every machine of
    /// the cluster knows where the Service leads, and one that takes a port over on which a former master refused a client
    /// less than ten seconds ago is still led to that one; so both are tried again.
    pub async fn master_connection(&self) -> Result<MySqlConnection> {
        wait::until(
            "login through the master's Service",
            Duration::from_secs(30),
            async || {
                let address = self.master_address().await?;
                let mut connection = sql::connect(&address, Duration::from_secs(2)).await?;
                let read_only = sql::setting(&mut connection, "read_only").await?;
                Ok(if read_only == "0" {
                    Seen::Done(connection)
                } else {
                    Seen::NotYet("it led to a slave".to_owned())
                })
            },
        )
        .await
    }

    /// The application account at the Service over every node, which passes clients through to the master.
    pub async fn any_address(&self) -> Result<Address> {
        self.at(&self.service_address(&self.name).await?).await
    }

    /// The application account at the slaves' Service, by its cluster address.
    pub async fn slaves_address(&self) -> Result<Address> {
        self.at(&self.service_address(&names::slaves_service(&self.name)).await?)
            .await
    }

    async fn service_address(&self, name: &str) -> Result<String> {
        let services = Api::<Service>::namespaced(self.client.clone(), &self.namespace);
        let service = services
            .get(name)
            .await
            .with_context(|| format!("reading Service {name}"))?;
        match service.spec.and_then(|spec| spec.cluster_ip) {
            Some(address) if address != "None" => Ok(address),
            _ => bail!("Service {name} has no cluster address"),
        }
    }
}

/// A status in one line.
pub fn describe(status: &DistributedDatabaseStatus) -> String {
    let nodes: Vec<String> = status
        .nodes
        .iter()
        .map(|node| {
            let ready = if node.ready { "" } else { ", not ready" };
            let why = if node.message.is_empty() {
                String::new()
            } else {
                format!(": {}", node.message)
            };
            format!("{} {:?}{ready}{why}", node.name, node.role)
        })
        .collect();
    let master = status.record.master.as_ref().map_or("none", |node| node.as_str());
    format!(
        "phase {:?}, term {}, master {master}, nodes [{}]",
        status.phase,
        status.record.term,
        nodes.join("; ")
    )
}
