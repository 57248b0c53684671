//! Carries out what was built: everything but the pods at once, then the pods' steps. A failure does not keep the
//! other objects from being applied, because a database with one object missing is better than one with many.

use std::collections::BTreeMap;

use futures::future::join_all;
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::build::Prepared;
use super::build::pod::ANNOTATION_TEMPLATE;
use super::database::Database;
use super::error::Error;
use super::observe::Observed;
use super::rollout::{self, Condition, Step, Wanted};
use super::writer::{Object, Writer, failed};

/// Proof that everything was applied; status speaks of nothing else.
pub struct Applied(());

/// Applies everything. `rested` is told the database's condition and says whether a pod may be replaced in it.
pub async fn all(
    writer: &Writer,
    database: &Database,
    prepared: Prepared,
    observed: &Observed,
    status: &api::DistributedDatabaseStatus,
    rested: impl FnOnce(Condition) -> bool,
) -> Result<Applied, Vec<Error>> {
    let Prepared {
        config_map,
        service_account,
        services,
        disruption_budget,
        claims,
        pods,
    } = prepared;
    let mut requests: Vec<BoxFuture<'_, Result<(), Error>>> = vec![
        one(writer, &config_map),
        one(writer, &service_account),
        one(writer, &disruption_budget),
    ];
    requests.extend(services.iter().map(|service| one(writer, service)));
    requests.extend(
        claims
            .iter()
            // A claim that is going takes no change; the one after it is made when it is gone.
            .filter(|claim| {
                !observed
                    .claims
                    .get(&claim.name_any())
                    .is_some_and(|present| present.deleting)
            })
            .map(|claim| one(writer, claim)),
    );
    let mut errors: Vec<Error> = join_all(requests)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();

    let templates: Vec<String> = pods
        .range(..database.nodes)
        .map(|(_, pod)| {
            pod.annotations()
                .get(ANNOTATION_TEMPLATE)
                .cloned()
                .unwrap_or_default()
        })
        .collect();
    let wanted = Wanted {
        name: &database.name,
        nodes: database.nodes,
        templates: &templates,
    };
    let rested = rested(rollout::condition(&wanted, observed, status));
    let steps = rollout::steps(&wanted, observed, status, rested);
    let outcomes = join_all(steps.into_iter().map(|step| carry_out(writer, &pods, step))).await;
    errors.extend(outcomes.into_iter().filter_map(Result::err));
    if errors.is_empty() {
        Ok(Applied(()))
    } else {
        Err(errors)
    }
}

fn one<'a, K: Object + Send + Sync>(writer: &'a Writer, object: &'a K) -> BoxFuture<'a, Result<(), Error>> {
    async move { writer.apply(object).await.map(drop) }.boxed()
}

async fn carry_out(writer: &Writer, pods: &BTreeMap<u32, Pod>, step: Step) -> Result<(), Error> {
    match step {
        Step::Create { index } => {
            let Some(pod) = pods.get(&index) else {
                return Ok(());
            };
            match writer.create(pod).await? {
                Some(_) => tracing::info!(pod = pod.name_any(), "made the pod"),
                // Ours by the label: the list was older than the pod. Another's: it is in the way.
                None => check_owner(writer, pod).await?,
            }
        }
        Step::Delete { name, uid, reason } => {
            tracing::info!(pod = name, reason, "ends the pod");
            writer.delete_pod(&name, &uid).await?;
        }
    }
    Ok(())
}

async fn check_owner(writer: &Writer, pod: &Pod) -> Result<(), Error> {
    let name = pod.name_any();
    let present = writer
        .api::<Pod>()
        .get_opt(&name)
        .await
        .map_err(failed::<Pod>("read", &name))?;
    if present.is_none_or(|present| writer.is_ours(&present)) {
        return Ok(());
    }
    Err(writer.foreign::<Pod>(name))
}
