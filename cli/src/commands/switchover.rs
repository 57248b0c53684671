//! `kubectl ddb switchover`, `failover`, `force-promote`, `resync`: asks, follows live, prints the answer.

mod follow;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use api::DistributedDatabase;
use api::names;
use api::resource::NodeRole;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, ResourceExt};

use self::follow::{Ending, Seen, Tracker};
use super::request::{self, Ask, Written};
use super::say;
use crate::arguments::{Failover, ForcePromote, Place, Resync, Switchover};
use crate::clock;
use crate::connect::Cluster;
use crate::fetch::{self, Facts};
use crate::view::View;

/// What the watches tell.
type News = BoxStream<'static, Seen>;

/// How long at most the watches are waited for before the request.
const LOOK_FIRST: Duration = Duration::from_secs(1);

/// Why there is no switchover.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such node.
    #[error("{database} has no node {pod}; its nodes are {existing}")]
    NoSuchNode {
        /// The database.
        database: String,
        /// What was asked for.
        pod: String,
        /// What there is.
        existing: String,
    },
    /// Nobody could take over.
    #[error(
        "no slave of {database} serves now, so none can take over; if the master changed just now, ask again in a \
         second, else look at: kubectl ddb status {database}"
    )]
    NoSlave {
        /// The database.
        database: String,
    },
    /// Nobody would carry it out.
    #[error("no operator is at work, so nobody would carry it out; look at: kubectl ddb status {database}")]
    NoOperator {
        /// The database.
        database: String,
    },
    /// Another request waits.
    #[error(
        "{annotation}={other} is asked for already; wait for its answer, or withdraw it: kubectl annotate ddb \
         {database} {annotation}-"
    )]
    Pending {
        /// The database.
        database: String,
        /// The annotation.
        annotation: &'static str,
        /// The other wish.
        other: String,
    },
}

/// Makes another node the master.
pub async fn run(cluster: &Cluster, place: &Place, arguments: &Switchover) -> Result<ExitCode, super::Error> {
    let name = &arguments.name;
    let facts = fetch::facts(cluster, name, place.operator_namespace.as_deref()).await?;
    let view = View::of(&facts);
    let to = choose(&view, arguments.to.as_deref())?;
    if view.master.as_ref() == Some(&to) && view.change_under_way.is_none() {
        say(&format!(
            "{to} is the master of {name} already (term {}); nothing to do.\n",
            view.term
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let from = view.master.as_deref().unwrap_or("no master");
    let said = format!("{from} -> {to}");
    carry_out(
        cluster,
        name,
        &facts,
        &Ask::promote(&to),
        &said,
        arguments.timeout,
    )
    .await
}

/// Makes any other node the master, now.
pub async fn failover(
    cluster: &Cluster,
    place: &Place,
    arguments: &Failover,
) -> Result<ExitCode, super::Error> {
    let Failover { name, timeout } = arguments;
    let facts = fetch::facts(cluster, name, place.operator_namespace.as_deref()).await?;
    let from = View::of(&facts).master.unwrap_or_else(|| "no master".to_owned());
    let said = format!("{from} -> any other node");
    carry_out(cluster, name, &facts, &Ask::promote_any(), &said, *timeout).await
}

/// Makes a node the master without a quorum.
pub async fn force(
    cluster: &Cluster,
    place: &Place,
    arguments: &ForcePromote,
) -> Result<ExitCode, super::Error> {
    let ForcePromote { name, typed, timeout } = arguments;
    let facts = fetch::facts(cluster, name, place.operator_namespace.as_deref()).await?;
    let said = format!("by force: {typed}");
    carry_out(cluster, name, &facts, &Ask::force(typed), &said, *timeout).await
}

/// Has a slave cloned again.
pub async fn resync(cluster: &Cluster, place: &Place, arguments: &Resync) -> Result<ExitCode, super::Error> {
    let Resync { name, pod, timeout } = arguments;
    let facts = fetch::facts(cluster, name, place.operator_namespace.as_deref()).await?;
    let said = format!("a new copy for {pod}");
    carry_out(cluster, name, &facts, &Ask::resync(pod), &said, *timeout).await
}

/// Asks, and follows until there is an answer.
async fn carry_out(
    cluster: &Cluster,
    name: &str,
    facts: &Facts,
    wish: &Ask,
    said: &str,
    timeout: Duration,
) -> Result<ExitCode, super::Error> {
    refuse_in_vain(facts, wish)?;
    // The watches stand before the request, so that nothing of what follows is missed or told late.
    let mut tracker = Tracker::new(&facts.object, wish);
    let mut news = everything(cluster, name);
    look_first(&mut news, &mut tracker, View::of(facts).nodes.len()).await;
    let started = clock::now();
    if let Written::Other(other) = request::put(cluster, name, wish).await? {
        return Err(pending(name, wish, &other).into());
    }
    say(&format!("{:>7} ms  asked for: {said}\n", elapsed(started)))?;
    let ending = tokio::select! {
        ending = watch(&mut news, &mut tracker, started) => ending?,
        () = tokio::time::sleep(timeout) => Ending::TimedOut,
        _ = tokio::signal::ctrl_c() => Ending::Interrupted,
    };
    conclude(cluster, name, wish, &ending, started).await
}

/// Takes in how everything is before the request: the resource, its pods and the master's slice, or what there is
/// of them in a short time.
async fn look_first(news: &mut News, tracker: &mut Tracker, nodes: usize) {
    let first = async {
        for _ in 0..nodes + 2 {
            if let Some(seen) = news.next().await {
                tracker.see(&seen, Duration::ZERO);
            }
        }
    };
    let _ = tokio::time::timeout(LOOK_FIRST, first).await;
}

fn elapsed(started: Instant) -> u128 {
    clock::now().duration_since(started).as_millis()
}

/// The node that is to lead.
fn choose(view: &View, asked: Option<&str>) -> Result<String, Error> {
    if let Some(pod) = asked {
        let exists = view.nodes.iter().any(|node| node.name == pod);
        return exists.then(|| pod.to_owned()).ok_or_else(|| Error::NoSuchNode {
            database: view.name.clone(),
            pod: pod.to_owned(),
            existing: view
                .nodes
                .iter()
                .map(|node| node.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        });
    }
    view.nodes
        .iter()
        .filter(|node| node.role == NodeRole::Slave && node.ready && view.master.as_ref() != Some(&node.name))
        .min_by_key(|node| (node.behind.unwrap_or(i64::MAX), node.name.clone()))
        .map(|node| node.name.clone())
        .ok_or_else(|| Error::NoSlave {
            database: view.name.clone(),
        })
}

fn refuse_in_vain(facts: &Facts, wish: &Ask) -> Result<(), Error> {
    let database = facts.object.name_any();
    if facts.operator.is_gone() {
        return Err(Error::NoOperator { database });
    }
    match wish.of(&facts.object) {
        Some(other) => Err(pending(&database, wish, other)),
        None => Ok(()),
    }
}

fn pending(database: &str, wish: &Ask, other: &str) -> Error {
    Error::Pending {
        database: database.to_owned(),
        annotation: wish.annotation,
        other: other.to_owned(),
    }
}

/// Follows the resource, its pods and the master's endpoint slice until there is an answer.
async fn watch(news: &mut News, tracker: &mut Tracker, started: Instant) -> Result<Ending, std::io::Error> {
    loop {
        // Without news the answer may be implied by the time that passed.
        let next = tokio::time::timeout(follow::PATIENCE, news.next()).await;
        let at = clock::now().duration_since(started);
        if let Ok(Some(seen)) = next {
            for line in tracker.see(&seen, at) {
                say(&format!("{:>7} ms  {line}\n", at.as_millis()))?;
            }
        }
        if let Some(ending) = tracker.ending(at) {
            return Ok(ending);
        }
    }
}

fn everything(cluster: &Cluster, name: &str) -> News {
    let labels = format!("{}={name}", names::LABEL_CLUSTER);
    let master = format!("{labels},{}={}", fetch::SERVICE_NAME, names::master_service(name));
    let field = format!("metadata.name={name}");
    let (client, namespace) = (&cluster.client, &cluster.namespace);
    let objects: Api<DistributedDatabase> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let objects = told(watcher(objects, Config::default().fields(&field)), |object| {
        Seen::Object(Box::new(object))
    });
    let pods = told(watcher(pods, Config::default().labels(&labels)), |pod| {
        Seen::Pod(Box::new(pod))
    });
    let slices = told(watcher(slices, Config::default().labels(&master)), |slice| {
        Seen::Slice(Box::new(slice))
    });
    futures::stream::select(objects, futures::stream::select(pods, slices)).boxed()
}

/// A watch whose failures are tried again in silence: what counts is the answer, and there is a time limit.
fn told<K>(
    stream: impl Stream<Item = kube::runtime::watcher::Result<kube::runtime::watcher::Event<K>>> + Send + 'static,
    wrap: impl Fn(K) -> Seen + Send + 'static,
) -> News
where
    K: Send + 'static,
{
    stream
        .default_backoff()
        .applied_objects()
        .filter_map(move |object| std::future::ready(object.ok().map(&wrap)))
        .boxed()
}

/// Says how it ended; what nobody waits for any more is withdrawn.
async fn conclude(
    cluster: &Cluster,
    name: &str,
    wish: &Ask,
    ending: &Ending,
    started: Instant,
) -> Result<ExitCode, super::Error> {
    let at = elapsed(started);
    match ending {
        Ending::Done(message) => {
            say(&format!("{at:>7} ms  done: {message}\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Ending::Refused(message) => {
            eprintln!("refused after {at} ms: {message}");
            return Ok(ExitCode::FAILURE);
        }
        Ending::Withdrawn => {
            eprintln!(
                "somebody else withdrew or changed the request {}={}; it was not carried out",
                wish.annotation, wish.value
            );
            return Ok(ExitCode::FAILURE);
        }
        Ending::TimedOut => eprintln!("no answer after {at} ms"),
        Ending::Interrupted => eprintln!("interrupted after {at} ms"),
    }
    match request::withdraw(cluster, name, wish).await? {
        Written::Done(before)
            if before
                .status
                .as_ref()
                .is_some_and(|status| status.record.intent.is_some()) =>
        {
            eprintln!(
                "the request is withdrawn, but the change of master had begun and goes on; follow it: kubectl ddb \
                 status {name} --watch"
            );
        }
        Written::Done(_) => eprintln!("the request is withdrawn; see why: kubectl ddb explain {name}"),
        Written::Other(_) => eprintln!("it was answered just now; see: kubectl ddb status {name}"),
    }
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::example;

    #[test]
    fn without_a_target_the_slave_with_the_smallest_gap_is_chosen() {
        let mut view = View::of(&example::healthy());
        view.nodes[1].behind = Some(4);
        assert_eq!(choose(&view, None).unwrap(), "shop-2");
        view.nodes[2].ready = false;
        assert_eq!(choose(&view, None).unwrap(), "shop-1");
        view.nodes[1].ready = false;
        assert!(matches!(choose(&view, None), Err(Error::NoSlave { .. })));
    }

    #[test]
    fn a_node_that_does_not_exist_is_refused_with_those_that_do() {
        let error = choose(&View::of(&example::healthy()), Some("shop-7")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shop has no node shop-7; its nodes are shop-0, shop-1, shop-2"
        );
    }
}
