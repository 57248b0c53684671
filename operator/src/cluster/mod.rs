//! The failover side: one task per database, fed by sessions, pods and the reconcile side, around the pure crate
//! `failover`. This file is the register of the tasks.

mod asked;
mod given_up;
mod observe;
pub(crate) mod pace;
mod perform;
mod publish;
mod roles;
mod routes;
mod task;
mod told;
mod unheard;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::{Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::Instrument;

use crate::events::Events;
use crate::handoff::{Applied, Clusters, Desired};
use crate::lease::LeaderLease;
use crate::metrics::{Metrics, ReconcileLabels};
use crate::snapshot::{Key, Snapshots};

/// What all databases' tasks share.
pub struct Shared {
    /// The API server.
    pub client: Client,
    /// Whether this operator may write.
    pub lease: Arc<LeaderLease>,
    /// Pods and endpoint slices.
    pub snapshots: Arc<Snapshots>,
    /// Kubernetes Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// The register of databases.
pub struct Register {
    shared: Arc<Shared>,
    tasks: Mutex<HashMap<Key, Entry>>,
}

struct Entry {
    inbox: mpsc::UnboundedSender<task::Event>,
    task: AbortHandle,
}

impl Register {
    /// An empty register.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            tasks: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, key: &Key) -> Entry {
        let (inbox, events) = mpsc::unbounded_channel();
        let span = tracing::info_span!(parent: None, "database", namespace = key.0, database = key.1, term = tracing::field::Empty);
        let task = task::Task::new(Arc::clone(&self.shared), key.clone(), inbox.clone());
        let task = tokio::spawn(task.run(events).instrument(span)).abort_handle();
        Entry { inbox, task }
    }
}

impl Clusters for Register {
    fn put(&self, desired: Desired) {
        let result = match desired.applied {
            Applied::Done => "done",
            Applied::Invalid { .. } => "invalid",
            Applied::Failed { .. } => "failed",
        };
        self.shared
            .metrics
            .reconciles
            .get_or_create(&ReconcileLabels { result })
            .inc();
        let Some(namespace) = desired.object.namespace() else {
            return;
        };
        let key = (namespace, desired.object.name_any());
        let mut tasks = self.lock();
        // A task that found its resource gone ended by itself; this one is of the same name and may be a new one.
        tasks.retain(|_, entry| !entry.inbox.is_closed());
        let entry = tasks.entry(key).or_insert_with_key(|key| self.start(key));
        if entry.inbox.send(task::Event::Put(desired)).is_err() {
            tracing::error!("a database's task ended just now; it is started again at its next change");
        }
    }

    fn forget(&self, namespace: &str, name: &str) {
        if let Some(entry) = self.lock().remove(&(namespace.to_owned(), name.to_owned())) {
            entry.task.abort();
        }
    }
}
