//! Installing the operator as a user does: with helm and the chart, nothing else.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
};

use crate::{
    settings::Target,
    tools::{helm, repository},
    wait::{self, Seen},
};

/// The release's name.
pub const RELEASE: &str = "ddb-operator";
/// The namespace it is installed into.
pub const NAMESPACE: &str = "ddb-system";
/// What selects the operator's pods.
pub const SELECTOR: &str = "app.kubernetes.io/name=ddb-operator";

/// The operator's process, as in /proc/PID/comm.
pub const PROCESS: &str = "ddb-operator";

const READY: Duration = Duration::from_mins(2);

/// `helm upgrade --install`, repeatable, and waits until the operator's pods of this version are ready.
/// `more` are further `--set` values.
pub async fn install(client: &Client, target: &Target, more: &[&str]) -> Result<()> {
    let chart = repository().join("charts/ddb-operator");
    let chart = chart.to_str().context("the repository's path is not UTF-8")?;
    let values = image_values(target)?;
    let mut words = vec![
        "upgrade",
        "--install",
        RELEASE,
        chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
    ];
    for value in values.iter().map(String::as_str).chain(more.iter().copied()) {
        words.extend(["--set-string", value]);
    }
    for value in &target.values {
        words.extend(["--set", value]);
    }
    helm(target.context.as_deref(), &words).await?;
    wait_ready(client).await
}

/// The chart's values that name the images.
pub fn image_values(target: &Target) -> Result<Vec<String>> {
    let mut values = vec![format!("images.mysql={}", target.images.mysql)];
    for (name, reference) in [
        ("operator", &target.images.operator),
        ("node", &target.images.node),
    ] {
        let (repository, tag) = split_reference(reference)?;
        values.push(format!("images.{name}.repository={repository}"));
        values.push(format!("images.{name}.tag={tag}"));
    }
    Ok(values)
}

/// `registry:5000/name:tag` as its two halves.
fn split_reference(reference: &str) -> Result<(&str, &str)> {
    let halves = reference
        .rsplit_once(':')
        .filter(|(name, tag)| !tag.contains('/') && !name.contains('@'));
    halves.with_context(|| format!("the image `{reference}` must be named as repository:tag"))
}

/// Waits until every replica runs the newest version and is ready.
pub async fn wait_ready(client: &Client) -> Result<()> {
    wait::until("ready operator", READY, async || ready(client).await).await
}

/// The same where its processes are killed again and again.
pub async fn wait_ready_after_kills(client: &Client) -> Result<()> {
    wait::until("ready operator", READY, async || {
        replace_held_back(client).await?;
        ready(client).await
    })
    .await
}

async fn ready(client: &Client) -> Result<Seen<()>> {
    let deployment = Api::<Deployment>::namespaced(client.clone(), NAMESPACE)
        .get(RELEASE)
        .await?;
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let (updated, ready) = (
        status.updated_replicas.unwrap_or(0),
        status.ready_replicas.unwrap_or(0),
    );
    let total = status.replicas.unwrap_or(0);
    let seen = status.observed_generation == deployment.metadata.generation;
    let done = seen && updated == wanted && ready == wanted && total == wanted;
    Ok(if done {
        Seen::Done(())
    } else {
        Seen::NotYet(format!("{ready} ready, {updated} new of {wanted}"))
    })
}

/// Deletes pods of the operator that the kubelet holds back, for up to five minutes, because their process ended often:
/// new ones begin at once.
async fn replace_held_back(client: &Client) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    for pod in pods.list(&ListParams::default().labels(SELECTOR)).await? {
        let containers = pod
            .status
            .iter()
            .flat_map(|status| &status.container_statuses)
            .flatten();
        let mut waiting = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
        if waiting.any(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff")) {
            pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

/// `helm uninstall`, and waits until its pods are gone.
pub async fn uninstall(client: &Client, target: &Target) -> Result<()> {
    let words = [
        "uninstall",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--ignore-not-found",
        "--wait",
    ];
    helm(target.context.as_deref(), &words).await?;
    wait::until("end of the operator's pods", READY, async || {
        let left = operator_pods(client).await?.len();
        Ok(if left == 0 {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{left} pods"))
        })
    })
    .await
}

/// The operator's pods.
pub async fn operator_pods(client: &Client) -> Result<Vec<Pod>> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    Ok(pods
        .list(&ListParams::default().labels(SELECTOR))
        .await
        .context("listing the operator's pods")?
        .items)
}

/// The operator's pod that holds the lease.
pub async fn leader(client: &Client) -> Result<Pod> {
    let leases = Api::<Lease>::namespaced(client.clone(), NAMESPACE)
        .list(&ListParams::default())
        .await?;
    let holders: Vec<String> = leases
        .items
        .into_iter()
        .filter_map(|lease| lease.spec.and_then(|spec| spec.holder_identity))
        .collect();
    let pods = operator_pods(client).await?;
    let leads = |pod: &Pod| holders.iter().any(|holder| holder.starts_with(&pod.name_any()));
    pods.into_iter()
        .find(leads)
        .with_context(|| format!("no operator pod holds the lease; holders: {holders:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_port_is_not_taken_for_a_tag() {
        assert_eq!(
            split_reference("localhost:5000/ddb/node:dev").unwrap(),
            ("localhost:5000/ddb/node", "dev")
        );
        assert!(split_reference("localhost:5000/ddb/node").is_err());
        assert!(split_reference("ddb/node@sha256:00").is_err());
    }
}
