//! Whether an operator is at work: read from its lease, by watching that it is renewed. Clocks of two machines are
//! never compared to find out; they only tell since when.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::{Error, ask};
use crate::clock;
use crate::connect::Cluster;

/// The lease's name; `operator/src/lease.rs` has the other end.
const LEASE: &str = "ddb-operator";
/// The label of the operator's pods and Deployment.
pub const LABEL: &str = "app.kubernetes.io/name=ddb-operator";
/// Where the installation's instructions put the operator.
const USUAL_PLACE: &str = "ddb-system";
/// A lease that seems to be younger is taken as alive at once.
const FRESH: SignedDuration = SignedDuration::from_secs(3);
/// The holder renews every 0.7 s.
const SECOND_LOOK: Duration = Duration::from_millis(2500);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Who looks after databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// One that renews its lease.
    Alive {
        /// The pod that leads.
        holder: String,
        /// Its namespace.
        namespace: String,
    },
    /// The lease is not renewed any more.
    Silent {
        /// The last renewal.
        since: Option<Timestamp>,
        /// Its namespace.
        namespace: String,
        /// Its Deployment there, as far as it can be read.
        deployment: Option<Deployed>,
    },
    /// There is no lease anywhere.
    Absent,
    /// It cannot be read.
    Unknown {
        /// Why.
        why: String,
    },
}

/// The operator's Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// Its name.
    pub name: String,
    /// How many replicas are asked for.
    pub replicas: i32,
}

impl Operator {
    /// True where it is certain that nobody is at work.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Absent)
    }
}

/// Looks for a lease that is renewed.
pub async fn find(cluster: &Cluster, place: Option<&str>) -> Operator {
    match leases(cluster, place).await {
        Ok(leases) => match newest(leases) {
            Some(lease) => judge(cluster, lease).await,
            None => Operator::Absent,
        },
        Err(error) => Operator::Unknown {
            why: error.to_string(),
        },
    }
}

/// The operator's namespace, as far as it can be found.
pub async fn namespace_of(cluster: &Cluster, place: Option<&str>) -> Option<String> {
    newest(leases(cluster, place).await.ok()?)?.namespace()
}

async fn leases(cluster: &Cluster, place: Option<&str>) -> Result<Vec<Lease>, Error> {
    let wanted = ListParams::default().fields(&format!("metadata.name={LEASE}"));
    let in_place = |place: &str| Api::<Lease>::namespaced(cluster.client.clone(), place);
    if let Some(place) = place {
        let found = ask(
            cluster,
            "read the operator's lease",
            in_place(place).list(&wanted),
        )
        .await?;
        return Ok(found.items);
    }
    let everywhere = Api::<Lease>::all(cluster.client.clone());
    match ask(cluster, "look for the operator's lease", everywhere.list(&wanted)).await {
        Ok(found) => Ok(found.items),
        Err(refused) if refused.is_forbidden() => {
            // Nothing found in the usual place says nothing about the others.
            match ask(
                cluster,
                "read the operator's lease",
                in_place(USUAL_PLACE).get(LEASE),
            )
            .await
            {
                Ok(lease) => Ok(vec![lease]),
                Err(_) => Err(refused),
            }
        }
        Err(error) => Err(error),
    }
}

fn newest(leases: Vec<Lease>) -> Option<Lease> {
    leases.into_iter().max_by_key(renewed)
}

fn renewed(lease: &Lease) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    spec.renew_time.as_ref().map(|time| time.0)
}

fn holder(lease: &Lease) -> Option<String> {
    let spec = lease.spec.as_ref()?;
    spec.holder_identity.clone().filter(|holder| !holder.is_empty())
}

async fn judge(cluster: &Cluster, lease: Lease) -> Operator {
    let namespace = lease.namespace().unwrap_or_default();
    let since = renewed(&lease);
    let alive = |lease: &Lease| {
        holder(lease).map(|holder| Operator::Alive {
            holder,
            namespace: namespace.clone(),
        })
    };
    let age = since.map(|since| clock::wall().duration_since(since));
    if age.is_some_and(|age| age.abs() < FRESH)
        && let Some(operator) = alive(&lease)
    {
        return operator;
    }
    let api = Api::<Lease>::namespaced(cluster.client.clone(), &namespace);
    let begun = clock::now();
    while clock::now().duration_since(begun) < SECOND_LOOK {
        tokio::time::sleep(LOOK_EVERY).await;
        match ask(cluster, "read the operator's lease", api.get(LEASE)).await {
            Ok(again) if again.metadata.resource_version != lease.metadata.resource_version => {
                if let Some(operator) = alive(&again) {
                    return operator;
                }
            }
            Ok(_) => {}
            Err(error) => {
                return Operator::Unknown {
                    why: error.to_string(),
                };
            }
        }
    }
    Operator::Silent {
        since,
        deployment: deployed(cluster, &namespace).await,
        namespace,
    }
}

async fn deployed(cluster: &Cluster, namespace: &str) -> Option<Deployed> {
    let api = Api::<Deployment>::namespaced(cluster.client.clone(), namespace);
    let wanted = ListParams::default().labels(LABEL);
    let found = ask(cluster, "read the operator's Deployment", api.list(&wanted)).await;
    let deployment = found.ok()?.items.into_iter().next()?;
    Some(Deployed {
        name: deployment.name_any(),
        replicas: deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1),
    })
}
