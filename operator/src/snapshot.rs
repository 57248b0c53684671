//! What Kubernetes has of each database, as seen by one watch on pods and one on endpoint slices for the whole
//! operator, reduced to the few facts that are needed.
//!
//! The reply to a write of our own is newer than the watch; both go through [`Snapshots::apply_pod`], where the
//! higher resourceVersion wins, so that a late watch event never takes back what we know we wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::names;
use failover::{NodeId, Term};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ObjectMeta;
use kube::runtime::reflector::Lookup;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::watching::persistent;

/// A database: namespace and name.
pub type Key = (String, String);

/// A node's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// The pod's UID.
    pub uid: String,
    /// The resourceVersion, as text for conditional writes.
    pub version: String,
    /// The pod's address.
    pub address: Option<String>,
    /// The machine it runs on.
    pub machine: Option<String>,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// The seconds that its deletion gives it to end.
    pub grace: Option<i64>,
    /// The value of the role label.
    pub role: Option<String>,
    /// The term annotation.
    pub stamp: Option<Term>,
    /// It has any labels, annotations: a JSON patch must know.
    pub has_annotations: bool,
    /// Kubernetes considers it ready.
    pub ready: bool,
}

/// An endpoint slice that the operator writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceFacts {
    /// The resourceVersion.
    pub version: String,
    /// The addresses it leads to.
    pub addresses: Vec<String>,
    /// Ports by name.
    pub ports: Vec<(String, i32)>,
    /// The term that wrote it, where it leads to a master.
    pub term: Option<Term>,
}

/// All of one database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its pods.
    pub pods: BTreeMap<NodeId, PodFacts>,
    /// The slices of the Services that the operator leads itself, by name.
    pub slices: BTreeMap<String, SliceFacts>,
}

/// The snapshots of all databases.
#[derive(Default)]
pub struct Snapshots {
    all: Mutex<HashMap<Key, watch::Sender<Arc<Snapshot>>>>,
}

/// The name of the one endpoint slice of a Service that the operator leads itself.
pub fn slice_name(service: &str) -> String {
    format!("{service}-active")
}

impl Snapshots {
    /// The snapshot of a database, now and at every change.
    pub fn subscribe(&self, key: &Key) -> watch::Receiver<Arc<Snapshot>> {
        self.lock().entry(key.clone()).or_default().subscribe()
    }

    /// Takes in a pod that was read or written.
    pub fn apply_pod(&self, pod: &Pod) {
        let (Some(key), Some(name)) = (key_of(&pod.metadata), pod.metadata.name.as_deref()) else {
            return;
        };
        let facts = pod_facts(pod);
        self.change(&key, |snapshot| {
            let node = NodeId::from(name);
            let newer = snapshot
                .pods
                .get(&node)
                .is_none_or(|known| !is_older(&facts.version, &known.version));
            if newer {
                snapshot.pods.insert(node, facts);
            }
        });
    }

    /// Takes in that a pod is gone.
    pub fn remove_pod(&self, key: &Key, name: &str, uid: &str) {
        self.change(key, |snapshot| {
            let node = NodeId::from(name);
            if snapshot.pods.get(&node).is_some_and(|known| known.uid == uid) {
                snapshot.pods.remove(&node);
            }
        });
    }

    /// Takes in a slice that was read or written.
    pub fn apply_slice(&self, slice: &EndpointSlice) {
        let (Some(key), Some(name)) = (key_of(&slice.metadata), slice.metadata.name.clone()) else {
            return;
        };
        let facts = slice_facts(slice);
        self.change(&key, |snapshot| {
            let newer = snapshot
                .slices
                .get(&name)
                .is_none_or(|known| !is_older(&facts.version, &known.version));
            if newer {
                snapshot.slices.insert(name, facts);
            }
        });
    }

    fn remove_slice(&self, key: &Key, name: &str) {
        self.change(key, |snapshot| _ = snapshot.slices.remove(name));
    }

    /// After a complete list: forgets every pod that was not in it.
    fn retain_pods(&self, listed: &BTreeSet<String>) {
        let keys: Vec<Key> = self.lock().keys().cloned().collect();
        for key in keys {
            self.change(&key, |snapshot| {
                snapshot.pods.retain(|_, facts| listed.contains(&facts.uid));
            });
        }
    }

    fn retain_slices(&self, listed: &BTreeSet<(Key, String)>) {
        let keys: Vec<Key> = self.lock().keys().cloned().collect();
        for key in keys {
            self.change(&key, |snapshot| {
                snapshot
                    .slices
                    .retain(|name, _| listed.contains(&(key.clone(), name.clone())));
            });
        }
    }

    fn change(&self, key: &Key, change: impl FnOnce(&mut Snapshot)) {
        let mut all = self.lock();
        let sender = all.entry(key.clone()).or_default();
        sender.send_if_modified(|current| {
            let mut next = Snapshot::clone(current);
            change(&mut next);
            let changed = next != **current;
            if changed {
                *current = Arc::new(next);
            }
            changed
        });
        if sender.is_closed() && sender.borrow().is_empty() {
            all.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<Arc<Snapshot>>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.slices.is_empty()
    }
}

fn key_of(meta: &ObjectMeta) -> Option<Key> {
    let cluster = meta.labels.as_ref()?.get(names::LABEL_CLUSTER)?;
    Some((meta.namespace.clone()?, cluster.clone()))
}

/// Whether a resourceVersion is older than another; unreadable ones never are.
pub fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

fn pod_facts(pod: &Pod) -> PodFacts {
    let meta = &pod.metadata;
    let annotations = meta.annotations.as_ref();
    let status = pod.status.as_ref();
    PodFacts {
        uid: meta.uid.clone().unwrap_or_default(),
        version: meta.resource_version.clone().unwrap_or_default(),
        address: status
            .and_then(|status| status.pod_ip.clone())
            .filter(|address| !address.is_empty()),
        machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        deleting: meta.deletion_timestamp.is_some(),
        grace: meta.deletion_grace_period_seconds,
        role: meta
            .labels
            .as_ref()
            .and_then(|labels| labels.get(names::LABEL_ROLE))
            .cloned(),
        stamp: annotations
            .and_then(|all| all.get(names::ANNOTATION_TERM))
            .and_then(|text| text.parse().ok())
            .map(Term),
        has_annotations: annotations.is_some_and(|all| !all.is_empty()),
        ready: status
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True")),
    }
}

/// The facts of a slice as it was read, or as it is wanted.
pub fn slice_facts(slice: &EndpointSlice) -> SliceFacts {
    SliceFacts {
        version: slice.metadata.resource_version.clone().unwrap_or_default(),
        addresses: slice
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.clone())
            .collect(),
        ports: slice
            .ports
            .iter()
            .flatten()
            .map(|port| {
                (
                    port.name.clone().unwrap_or_default(),
                    port.port.unwrap_or_default(),
                )
            })
            .collect(),
        term: slice
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(names::ANNOTATION_TERM))
            .and_then(|text| text.parse().ok())
            .map(Term),
    }
}

fn scoped<K>(client: Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Watches the pods of all databases; never ends by itself.
pub async fn watch_pods(snapshots: Arc<Snapshots>, client: Client, namespace: Option<String>) {
    let api = scoped::<Pod>(client, namespace.as_deref());
    let config = watcher::Config::default()
        .labels(names::LABEL_CLUSTER)
        .any_semantic();
    let mut listed = BTreeSet::new();
    let mut stream = std::pin::pin!(persistent(watcher(api, config), "pods"));
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.extend(pod.metadata.uid.clone());
                snapshots.apply_pod(&pod);
            }
            Event::InitDone => snapshots.retain_pods(&listed),
            Event::Apply(pod) => snapshots.apply_pod(&pod),
            Event::Delete(pod) => {
                if let (Some(key), Some(name)) = (key_of(&pod.metadata), pod.metadata.name.as_deref()) {
                    snapshots.remove_pod(&key, name, pod.metadata.uid.as_deref().unwrap_or_default());
                }
            }
        }
    }
}

/// Watches the endpoint slices that the operator itself writes; never ends by itself.
pub async fn watch_slices(snapshots: Arc<Snapshots>, client: Client, namespace: Option<String>) {
    let api = scoped::<EndpointSlice>(client, namespace.as_deref());
    let selector = format!("{},{MANAGED_BY}={}", names::LABEL_CLUSTER, names::FIELD_MANAGER);
    let config = watcher::Config::default().labels(&selector).any_semantic();
    let mut listed = BTreeSet::new();
    let mut stream = std::pin::pin!(persistent(watcher(api, config), "endpoint slices"));
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(slice) => {
                listed.extend(key_of(&slice.metadata).zip(slice.metadata.name.clone()));
                snapshots.apply_slice(&slice);
            }
            Event::InitDone => snapshots.retain_slices(&listed),
            Event::Apply(slice) => snapshots.apply_slice(&slice),
            Event::Delete(slice) => {
                if let (Some(key), Some(name)) = (key_of(&slice.metadata), slice.name()) {
                    snapshots.remove_slice(&key, &name);
                }
            }
        }
    }
}

/// The label that says who keeps an endpoint slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(version: &str, role: Option<&str>) -> Pod {
        let mut labels = BTreeMap::from([(names::LABEL_CLUSTER.to_owned(), "db".to_owned())]);
        labels.extend(role.map(|role| (names::LABEL_ROLE.to_owned(), role.to_owned())));
        let metadata = ObjectMeta {
            name: Some("db-0".to_owned()),
            namespace: Some("ns".to_owned()),
            uid: Some("u".to_owned()),
            resource_version: Some(version.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        Pod {
            metadata,
            ..Pod::default()
        }
    }

    fn role_of(snapshots: &Snapshots) -> Option<String> {
        let now = snapshots.subscribe(&("ns".to_owned(), "db".to_owned()));
        let snapshot = Arc::clone(&now.borrow());
        snapshot
            .pods
            .get(&NodeId::from("db-0"))
            .and_then(|facts| facts.role.clone())
    }

    #[test]
    fn a_late_watch_event_does_not_take_back_our_own_write() {
        let snapshots = Snapshots::default();
        snapshots.apply_pod(&pod("12", None));
        snapshots.apply_pod(&pod("9", Some("master")));
        assert_eq!(role_of(&snapshots), None);
        snapshots.apply_pod(&pod("13", Some("slave")));
        assert_eq!(role_of(&snapshots).as_deref(), Some("slave"));
    }

    #[test]
    fn the_deletion_of_a_former_pod_of_the_name_does_not_remove_the_new_one() {
        let snapshots = Snapshots::default();
        let key = ("ns".to_owned(), "db".to_owned());
        let _held = snapshots.subscribe(&key);
        snapshots.apply_pod(&pod("12", Some("slave")));
        snapshots.remove_pod(&key, "db-0", "former");
        assert!(role_of(&snapshots).is_some());
        snapshots.remove_pod(&key, "db-0", "u");
        assert!(role_of(&snapshots).is_none());
    }
}
