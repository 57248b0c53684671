//! The first step: what is there. Reads pods, claims and Secrets of one database and reduces them to the facts that
//! the next steps decide by.

use std::collections::BTreeMap;

use api::names;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodStatus, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::ListParams;

use super::build::pod::ANNOTATION_TEMPLATE;
use super::error::Error;
use super::writer::{Writer, failed};

/// What there is of a database.
pub struct Observed {
    /// The pods, by name.
    pub pods: BTreeMap<String, PodFacts>,
    /// The volume claims, by name.
    pub claims: BTreeMap<String, ClaimFacts>,
}

/// A pod, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that hold or not, each by itself"
)]
pub struct PodFacts {
    /// Which life of the pod.
    pub uid: String,
    /// What it was built from; empty where it does not say.
    pub template: String,
    /// It was told to end.
    pub deleting: bool,
    /// It ended and will not start again.
    pub finished: bool,
    /// It serves its role.
    pub ready: bool,
    /// A container cannot be started, or the pod has no machine.
    pub stuck: bool,
    /// Its address.
    pub address: Option<String>,
}

/// A volume claim, as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimFacts {
    /// The size it asks for.
    pub size: Option<Quantity>,
    /// It was told to go.
    pub deleting: bool,
}

/// The Secrets of a database, as they are.
pub struct Secrets {
    /// The authority.
    pub authority: Option<Secret>,
    /// The nodes' certificate.
    pub node_tls: Option<Secret>,
    /// The application account.
    pub account: Option<Secret>,
    /// The data API's tokens.
    pub tokens: Option<Secret>,
    /// The data API's own accounts.
    pub api_accounts: Option<Secret>,
}

impl Observed {
    /// The size that the claim of node `index` asks for.
    pub fn claim_size(&self, database: &str, index: u32) -> Option<&Quantity> {
        self.claims.get(&names::node(database, index))?.size.as_ref()
    }
}

/// Reads pods and claims.
pub async fn objects(writer: &Writer, database: &str) -> Result<Observed, Error> {
    let ours = ListParams::default().labels(&format!("{}={database}", names::LABEL_CLUSTER));
    let (pod_api, claim_api) = (writer.api::<Pod>(), writer.api::<PersistentVolumeClaim>());
    let (pods, claims) = tokio::join!(pod_api.list(&ours), claim_api.list(&ours));
    let pods = pods.map_err(failed::<Pod>("list", database))?;
    let claims = claims.map_err(failed::<PersistentVolumeClaim>("list", database))?;
    Ok(Observed {
        pods: pods
            .items
            .iter()
            .map(|pod| (pod.name_any(), PodFacts::of(pod)))
            .collect(),
        claims: claims
            .items
            .iter()
            .map(|claim| (claim.name_any(), ClaimFacts::of(claim)))
            .collect(),
    })
}

/// Reads the Secrets.
pub async fn secrets(writer: &Writer, database: &str) -> Result<Secrets, Error> {
    let (authority, node_tls, account, tokens, api_accounts) = tokio::try_join!(
        secret(writer, names::ca_secret(database)),
        secret(writer, names::node_tls_secret(database)),
        secret(writer, names::account_secret(database)),
        secret(writer, names::tokens_secret(database)),
        secret(writer, names::api_accounts_secret(database)),
    )?;
    Ok(Secrets {
        authority,
        node_tls,
        account,
        tokens,
        api_accounts,
    })
}

/// Reads one Secret; `None` means that the server says there is none.
pub async fn secret(writer: &Writer, name: String) -> Result<Option<Secret>, Error> {
    writer
        .api::<Secret>()
        .get_opt(&name)
        .await
        .map_err(failed::<Secret>("read", &name))
}

impl PodFacts {
    fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let condition = |kind: &str| {
            status
                .conditions
                .iter()
                .flatten()
                .find(|condition| condition.type_ == kind)
                .map(|found| found.status == "True")
        };
        let phase = status.phase.as_deref().unwrap_or_default();
        Self {
            uid: pod.uid().unwrap_or_default(),
            template: pod
                .annotations()
                .get(ANNOTATION_TEMPLATE)
                .cloned()
                .unwrap_or_default(),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            finished: matches!(phase, "Failed" | "Succeeded"),
            ready: condition("Ready") == Some(true),
            stuck: condition("PodScheduled") == Some(false) || cannot_start(&status),
            address: status.pod_ip,
        }
    }
}

impl ClaimFacts {
    fn of(claim: &PersistentVolumeClaim) -> Self {
        let requests = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        Self {
            size: requests.and_then(|requests| requests.get("storage").cloned()),
            deleting: claim.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// Whether a container waits for what only another template can give: an image, a valid configuration, a program
/// that does not end at once.
fn cannot_start(status: &PodStatus) -> bool {
    const HOPELESS: [&str; 6] = [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "CrashLoopBackOff",
    ];
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    containers
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.as_deref())
        .any(|reason| HOPELESS.contains(&reason))
}
