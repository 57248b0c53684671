//! The streams that start a reconcile: the resource itself where it changed in a way that matters here, everything
//! that carries its label, and the moment this operator becomes the leader.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use api::{DistributedDatabase, names};
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Context;
use crate::{handoff::Leadership, watching::persistent};

/// How often it is asked whether this operator leads by now.
const LEADERSHIP_POLL: Duration = Duration::from_millis(100);

/// The controller with all its streams.
pub fn controller(context: &Arc<Context>) -> Controller<DistributedDatabase> {
    let client = &context.client;
    let namespace = context.settings.watch_namespace.as_deref();
    let (reader, writer) = reflector::store();
    let roots = watcher(
        scoped::<DistributedDatabase>(client, namespace),
        watcher::Config::default(),
    );
    let roots = persistent(roots, "databases").map(Ok).reflect(writer);
    let roots = forgetting(roots, Arc::clone(context))
        .applied_objects()
        .predicate_filter(
            |object: &DistributedDatabase| Some(what_matters(object)),
            kube::runtime::PredicateConfig::default(),
        );
    let controller = Controller::for_stream(roots, reader);
    let controller = watching_with::<Pod>(controller, client, namespace, "pods", without_roles);
    let controller = watching::<PersistentVolumeClaim>(controller, client, namespace, "volume claims");
    let controller = watching::<Service>(controller, client, namespace, "services");
    let controller = watching::<ConfigMap>(controller, client, namespace, "config maps");
    let controller = watching::<Secret>(controller, client, namespace, "secrets");
    let controller = watching::<ServiceAccount>(controller, client, namespace, "service accounts");
    let controller = watching::<PodDisruptionBudget>(controller, client, namespace, "disruption budgets");
    controller.reconcile_all_on(leadership_gained(Arc::clone(&context.leadership)))
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    namespace.map_or_else(
        || Api::all(client.clone()),
        |namespace| Api::namespaced(client.clone(), namespace),
    )
}

/// Adds one kind of object, found by label and not by owner, because volumes that are kept have no owner. Only
/// metadata is held in memory, and of Secrets nothing else is ever seen here.
fn watching<K>(
    controller: Controller<DistributedDatabase>,
    client: &Client,
    namespace: Option<&str>,
    what: &'static str,
) -> Controller<DistributedDatabase>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    watching_with::<K>(controller, client, namespace, what, |_, _| true)
}

/// What is remembered of each object between two events.
type Seen = HashMap<String, u64>;

/// As [`watching`], for the events only that `matters` lets pass.
fn watching_with<K>(
    controller: Controller<DistributedDatabase>,
    client: &Client,
    namespace: Option<&str>,
    what: &'static str,
    matters: fn(&Event<PartialObjectMeta<K>>, &mut Seen) -> bool,
) -> Controller<DistributedDatabase>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let config = watcher::Config::default().labels(names::LABEL_CLUSTER);
    let mut seen = Seen::new();
    let objects = watcher(scoped::<PartialObjectMeta<K>>(client, namespace), config);
    let objects = persistent(objects, what)
        .filter(move |event| std::future::ready(matters(event, &mut seen)))
        .map(Ok)
        .touched_objects();
    controller.watches_stream(objects, |object: PartialObjectMeta<K>| {
        let cluster = object.labels().get(names::LABEL_CLUSTER)?;
        Some(ObjectRef::new(cluster).within(object.namespace().as_deref()?))
    })
}

/// Lets every change of a pod pass but those of the engine's own marks, the role label and the term: they mean
/// nothing to what is built, and a reconcile for each would compete with the failover that writes them.
fn without_roles(event: &Event<PartialObjectMeta<Pod>>, seen: &mut Seen) -> bool {
    match event {
        Event::Init | Event::InitDone => true,
        Event::Delete(pod) => {
            seen.remove(&pod.uid().unwrap_or_default());
            true
        }
        Event::Apply(pod) | Event::InitApply(pod) => {
            let mark = unmarked(pod);
            seen.insert(pod.uid().unwrap_or_default(), mark) != Some(mark)
        }
    }
}

fn unmarked(pod: &PartialObjectMeta<Pod>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for label in pod.labels().iter().filter(|(key, _)| *key != names::LABEL_ROLE) {
        label.hash(&mut hasher);
    }
    for note in pod
        .annotations()
        .iter()
        .filter(|(key, _)| *key != names::ANNOTATION_TERM)
    {
        note.hash(&mut hasher);
    }
    pod.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    format!("{:?}", pod.metadata.owner_references).hash(&mut hasher);
    // Only metadata is watched; when the pod's status was written, and how it was, is told by the field managers.
    for entry in pod
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.subresource.is_some())
    {
        format!("{:?} {:?}", entry.time, entry.fields_v1).hash(&mut hasher);
    }
    hasher.finish()
}

/// Only these changes of the resource start a reconcile. The status is rewritten every few seconds, and the most of
/// it means nothing to what is built.
fn what_matters(object: &DistributedDatabase) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.metadata.generation.hash(&mut hasher);
    object.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    object.annotations().hash(&mut hasher);
    if let Some(status) = &object.status {
        format!("{:?} {:?}", status.record, status.phase).hash(&mut hasher);
        for node in &status.nodes {
            (node.name.as_str(), node.ready, &node.address).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Tells the engine of databases that are gone, those included that went while the watch was down.
fn forgetting(
    events: impl Stream<Item = watcher::Result<Event<DistributedDatabase>>> + Send + 'static,
    context: Arc<Context>,
) -> impl Stream<Item = watcher::Result<Event<DistributedDatabase>>> + Send + 'static {
    let (mut known, mut listed) = (BTreeSet::new(), BTreeSet::new());
    events.inspect(move |event| match event {
        Ok(Event::Apply(object)) => {
            known.insert(key(object));
        }
        Ok(Event::Delete(object)) => {
            known.remove(&key(object));
            context.forget(&key(object));
        }
        Ok(Event::Init) => listed.clear(),
        Ok(Event::InitApply(object)) => {
            listed.insert(key(object));
        }
        Ok(Event::InitDone) => {
            known.difference(&listed).for_each(|gone| context.forget(gone));
            known.clone_from(&listed);
        }
        Err(_) => {}
    })
}

fn key(object: &DistributedDatabase) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// One item each time this operator becomes the leader: what the former one left undone must not wait.
fn leadership_gained(leadership: Arc<dyn Leadership>) -> impl Stream<Item = ()> + Send + 'static {
    let polls = futures::stream::unfold((leadership, false), |(leadership, led)| async move {
        tokio::time::sleep(LEADERSHIP_POLL).await;
        let leads = leadership.is_leader();
        Some((leads && !led, (leadership, leads)))
    });
    polls.filter_map(|gained| futures::future::ready(gained.then_some(())))
}

#[cfg(test)]
mod tests {
    use api::{DistributedDatabaseSpec, DistributedDatabaseStatus};

    use super::*;

    #[test]
    fn a_role_label_or_a_term_starts_no_reconcile_and_a_deletion_does() {
        let mut pod = PartialObjectMeta::<Pod>::default();
        pod.metadata.uid = Some("u".to_owned());
        let mut seen = Seen::new();
        assert!(without_roles(&Event::InitApply(pod.clone()), &mut seen));
        pod.labels_mut()
            .insert(names::LABEL_ROLE.to_owned(), names::ROLE_MASTER.to_owned());
        pod.annotations_mut()
            .insert(names::ANNOTATION_TERM.to_owned(), "7".to_owned());
        assert!(!without_roles(&Event::Apply(pod.clone()), &mut seen));
        pod.labels_mut().insert("else".to_owned(), "1".to_owned());
        assert!(without_roles(&Event::Apply(pod.clone()), &mut seen));
        assert!(without_roles(&Event::Delete(pod.clone()), &mut seen));
        assert!(without_roles(&Event::Apply(pod), &mut seen));
    }

    #[test]
    fn a_status_that_only_refreshes_figures_starts_no_reconcile() {
        let mut object = DistributedDatabase::new("shop", DistributedDatabaseSpec::default());
        object.status = Some(DistributedDatabaseStatus::default());
        let before = what_matters(&object);
        let status = object.status.get_or_insert_default();
        status.explanation.push("news".to_owned());
        status.ready_nodes = 2;
        assert_eq!(what_matters(&object), before);
        object.status.get_or_insert_default().phase = api::resource::Phase::Healthy;
        assert_ne!(what_matters(&object), before);
    }
}
