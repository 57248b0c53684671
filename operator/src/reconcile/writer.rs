//! The only place of the reconcile side that writes to the API server. It asks before each write whether this
//! operator still leads, applies by server-side apply with one field manager, and takes over nothing that belongs
//! to somebody else.

use std::fmt::Debug;
use std::sync::Arc;

use api::names;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Error;
use crate::handoff::Leadership;

/// What can be applied: the namespaced kinds of the Kubernetes API.
pub trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned
{
}
impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// Writes the objects of one database.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    leadership: Arc<dyn Leadership>,
    namespace: String,
    cluster: String,
}

impl Writer {
    /// A writer for the objects of the database `cluster`.
    pub fn new(client: Client, leadership: Arc<dyn Leadership>, namespace: String, cluster: String) -> Self {
        Self {
            client,
            leadership,
            namespace,
            cluster,
        }
    }

    /// The namespace's objects of one kind, for reading.
    pub fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn ask(&self) -> Result<(), Error> {
        if self.leadership.is_leader() {
            Ok(())
        } else {
            Err(Error::NotLeader)
        }
    }

    /// Makes the object as described; fields that others set are left alone, ours are taken back. An object of the
    /// same name that does not carry the database's label is refused, because it would be taken over in silence.
    pub async fn apply<K: Object>(&self, object: &K) -> Result<K, Error> {
        let (api, name) = (self.api::<K>(), object.name_any());
        let present = api
            .get_metadata_opt(&name)
            .await
            .map_err(failed::<K>("read", &name))?;
        if present.is_some_and(|present| !self.is_ours(&present)) {
            return Err(self.foreign::<K>(name));
        }
        self.ask()?;
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let result = match api.patch(&name, &params, &Patch::Apply(object)).await {
            // Lists are merged by key, so what somebody changed in a key, such as a Service's port, stands beside
            // ours and contradicts it. A merge patch puts our list in the place of the whole.
            Err(kube::Error::Api(status)) if status.code == 422 => {
                self.ask()?;
                let params = PatchParams {
                    force: false,
                    ..params
                };
                api.patch(&name, &params, &Patch::Merge(object)).await
            }
            result => result,
        };
        result.map_err(failed::<K>("apply", &name))
    }

    /// The error about an object of somebody else's.
    pub fn foreign<K: Object>(&self, name: String) -> Error {
        Error::Foreign {
            kind: K::kind(&()).into_owned(),
            name,
            cluster: self.cluster.clone(),
        }
    }

    /// Whether an object carries the label of this database.
    pub fn is_ours<K: Resource>(&self, object: &K) -> bool {
        object.labels().get(names::LABEL_CLUSTER) == Some(&self.cluster)
    }

    /// Makes an object that is not there; `None` if one of its name is.
    pub async fn create<K: Object>(&self, object: &K) -> Result<Option<K>, Error> {
        self.ask()?;
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.api::<K>().create(&params, object).await {
            Ok(made) => Ok(Some(made)),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
            Err(error) => Err(failed::<K>("create", &object.name_any())(error)),
        }
    }

    /// Puts an object in the place of the one that was read; fails if that one was changed since.
    pub async fn replace<K: Object>(&self, object: &K) -> Result<K, Error> {
        self.ask()?;
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let name = object.name_any();
        self.api::<K>()
            .replace(&name, &params, object)
            .await
            .map_err(failed::<K>("replace", &name))
    }

    /// Asks for the end of exactly the pod that was observed, with its grace period. A pod that is gone or another
    /// one by now is no error: the next look decides anew.
    pub async fn delete_pod(&self, name: &str, uid: &str) -> Result<(), Error> {
        self.ask()?;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api::<Pod>().delete(name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(failed::<Pod>("delete", name)(error)),
            Ok(_) => Ok(()),
        }
    }
}

/// Turns the client's error into ours.
pub fn failed<K: Object>(verb: &'static str, name: &str) -> impl FnOnce(kube::Error) -> Error {
    let (kind, name) = (K::kind(&()).into_owned(), name.to_owned());
    move |source| Error::Api {
        verb,
        kind,
        name,
        source: Box::new(source),
    }
}
