//! Reads all that is shown of a database: the resource, its pods, where its Services lead, and whether an operator
//! is at work. Only the resource must be readable; the rest may be [`Known::Not`].

mod error;
mod operator;

use std::collections::BTreeMap;

use api::{DistributedDatabase, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

pub use error::{DEADLINE, Error, INSTALL};
pub use operator::{Deployed, LABEL as OPERATOR_LABEL, Operator, namespace_of as operator_namespace};

use crate::clock;
use crate::connect::Cluster;

/// The label that binds an endpoint slice to its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Something that was read, or why it was not. Not knowing is never read as "there is none".
#[derive(Debug, Clone)]
pub enum Known<T> {
    /// It was read.
    Yes(T),
    /// It was not, with the reason.
    Not(String),
}

impl<T> Known<T> {
    /// What was read.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Yes(value) => Some(value),
            Self::Not(_) => None,
        }
    }

    fn of(result: Result<T, Error>) -> Self {
        match result {
            Ok(value) => Self::Yes(value),
            Err(error) => Self::Not(error.to_string()),
        }
    }
}

/// All that is shown of one database.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When it was read.
    pub now: Timestamp,
    /// The resource.
    pub object: DistributedDatabase,
    /// Its pods by name.
    pub pods: Known<BTreeMap<String, Pod>>,
    /// Its endpoint slices.
    pub slices: Known<Vec<EndpointSlice>>,
    /// Who looks after it.
    pub operator: Operator,
}

/// A request with a deadline; failures become sentences.
pub async fn ask<T>(
    cluster: &Cluster,
    what: &'static str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(|error| Error::of(what, &cluster.address, error)),
        Err(_) => Err(Error::silent(&cluster.address)),
    }
}

/// The databases of the namespace.
pub fn databases(cluster: &Cluster) -> Api<DistributedDatabase> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// One database. Where there is none, the error names those that exist.
pub async fn database(cluster: &Cluster, name: &str) -> Result<DistributedDatabase, Error> {
    match ask(cluster, "read the database", databases(cluster).get(name)).await {
        Err(error) if error.has_code(404) => Err(missing(cluster, name).await),
        other => other,
    }
}

async fn missing(cluster: &Cluster, name: &str) -> Error {
    let everywhere = match list(cluster, true).await {
        Err(error) if error.is_forbidden() => list(cluster, false).await,
        other => other,
    };
    match everywhere {
        Ok(all) => Error::NoSuchDatabase {
            name: name.to_owned(),
            namespace: cluster.namespace.clone(),
            existing: all
                .iter()
                .map(|object| (object.namespace().unwrap_or_default(), object.name_any()))
                .collect(),
        },
        Err(error) => error,
    }
}

/// All databases, of the namespace or of all.
pub async fn list(cluster: &Cluster, everywhere: bool) -> Result<Vec<DistributedDatabase>, Error> {
    let api = if everywhere {
        Api::all(cluster.client.clone())
    } else {
        databases(cluster)
    };
    match ask(cluster, "list databases", api.list(&ListParams::default())).await {
        Ok(all) => Ok(all.items),
        Err(error) if error.has_code(404) => Err(Error::NotInstalled),
        Err(error) => Err(error),
    }
}

/// Everything about one database.
pub async fn facts(cluster: &Cluster, name: &str, operators_place: Option<&str>) -> Result<Facts, Error> {
    let object = database(cluster, name).await?;
    let operator = operator::find(cluster, operators_place).await;
    Ok(around(cluster, object, operator).await)
}

/// Everything about all databases.
pub async fn all_facts(
    cluster: &Cluster,
    everywhere: bool,
    operators_place: Option<&str>,
) -> Result<Vec<Facts>, Error> {
    let objects = list(cluster, everywhere).await?;
    let operator = operator::find(cluster, operators_place).await;
    let mut all = Vec::with_capacity(objects.len());
    for object in objects {
        all.push(around(cluster, object, operator.clone()).await);
    }
    Ok(all)
}

async fn around(cluster: &Cluster, object: DistributedDatabase, operator: Operator) -> Facts {
    let cluster = Cluster {
        namespace: object.namespace().unwrap_or_else(|| cluster.namespace.clone()),
        ..cluster.clone()
    };
    let name = object.name_any();
    let (pods, slices) = tokio::join!(pods(&cluster, &name), slices(&cluster, &name));
    Facts {
        now: clock::wall(),
        object,
        pods: Known::of(pods),
        slices: Known::of(slices),
        operator,
    }
}

fn of_database(name: &str) -> ListParams {
    ListParams::default().labels(&format!("{}={name}", names::LABEL_CLUSTER))
}

/// The pods of a database.
pub async fn pods(cluster: &Cluster, name: &str) -> Result<BTreeMap<String, Pod>, Error> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let all = ask(cluster, "list pods", api.list(&of_database(name))).await?;
    Ok(all.items.into_iter().map(|pod| (pod.name_any(), pod)).collect())
}

async fn slices(cluster: &Cluster, name: &str) -> Result<Vec<EndpointSlice>, Error> {
    let api: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let all = ask(cluster, "list endpoint slices", api.list(&of_database(name))).await?;
    Ok(all.items)
}
