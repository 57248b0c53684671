//! Asking for something, and withdrawing it: one annotation or one field of the spec, written only if nobody changed
//! the resource since it was read.

use std::collections::BTreeMap;

use api::{DistributedDatabase, names};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde::Serialize;

use crate::connect::Cluster;
use crate::fetch::{self, ask, databases};

const TRIES: usize = 10;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wish<'a> {
    metadata: Metadata<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    resource_version: Option<&'a str>,
    annotations: BTreeMap<&'a str, Option<&'a str>>,
}

/// A request by annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The annotation.
    pub annotation: &'static str,
    /// Its value.
    pub value: String,
    /// The node that leads once it is carried out; `None` where that is not known before.
    pub to: Option<String>,
}

impl Ask {
    /// For a switchover to `to`.
    pub fn promote(to: &str) -> Self {
        Self {
            annotation: names::ANNOTATION_PROMOTE,
            value: to.to_owned(),
            to: Some(to.to_owned()),
        }
    }

    /// For any other master.
    pub fn promote_any() -> Self {
        Self {
            to: None,
            ..Self::promote(names::PROMOTE_ANY)
        }
    }

    /// For a master without a quorum; `typed` is `<pod>@<term>`.
    pub fn force(typed: &str) -> Self {
        Self {
            annotation: names::ANNOTATION_FORCE,
            value: typed.to_owned(),
            to: typed.split_once('@').map(|(pod, _)| pod.to_owned()),
        }
    }

    /// For a new clone of a slave.
    pub fn resync(pod: &str) -> Self {
        Self {
            annotation: names::ANNOTATION_RESYNC,
            value: pod.to_owned(),
            to: None,
        }
    }

    /// What a resource asks for in this annotation.
    pub fn of<'a>(&self, object: &'a DistributedDatabase) -> Option<&'a str> {
        annotation_of(object, self.annotation)
    }
}

/// The value of an annotation.
pub fn annotation_of<'a>(object: &'a DistributedDatabase, annotation: &str) -> Option<&'a str> {
    object.annotations().get(annotation).map(String::as_str)
}

/// What came of the attempt to write a wish.
#[derive(Debug)]
pub enum Written {
    /// It is written; the resource as it was before.
    Done(Box<DistributedDatabase>),
    /// Another wish is there.
    Other(String),
}

/// Asks.
pub async fn put(cluster: &Cluster, name: &str, wish: &Ask) -> Result<Written, fetch::Error> {
    let change = |before: Option<&str>| before.is_none().then(|| Becomes(Some(wish.value.clone())));
    self::change(cluster, name, wish.annotation, change).await
}

/// Withdraws the wish; another one stays.
pub async fn withdraw(cluster: &Cluster, name: &str, wish: &Ask) -> Result<Written, fetch::Error> {
    let change = |before: Option<&str>| (before == Some(&wish.value)).then_some(Becomes(None));
    self::change(cluster, name, wish.annotation, change).await
}

/// The next value of an annotation; `None` takes it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Becomes(pub Option<String>);

/// Gives an annotation the value that `next` makes of the one it has; `None` leaves it alone.
pub async fn change(
    cluster: &Cluster,
    name: &str,
    annotation: &'static str,
    next: impl Fn(Option<&str>) -> Option<Becomes>,
) -> Result<Written, fetch::Error> {
    let api = databases(cluster);
    let mut tries = 0;
    loop {
        tries += 1;
        let object = fetch::database(cluster, name).await?;
        let before = annotation_of(&object, annotation);
        let Some(Becomes(value)) = next(before) else {
            return Ok(Written::Other(before.unwrap_or_default().to_owned()));
        };
        let wish = Wish {
            metadata: Metadata {
                resource_version: object.metadata.resource_version.as_deref(),
                annotations: BTreeMap::from([(annotation, value.as_deref())]),
            },
        };
        let (how, what) = (PatchParams::default(), Patch::Merge(&wish));
        match ask(cluster, "annotate the database", api.patch(name, &how, &what)).await {
            Ok(_) => return Ok(Written::Done(Box::new(object))),
            // The operator writes its status all the time.
            Err(error) if error.has_code(409) && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

/// `spec.paused`, and nothing else.
#[derive(Debug, Serialize)]
struct Pause {
    spec: PauseSpec,
}

#[derive(Debug, Serialize)]
struct PauseSpec {
    paused: bool,
}

/// Sets `spec.paused`; says whether it was set so before.
pub async fn pause(cluster: &Cluster, name: &str, paused: bool) -> Result<bool, fetch::Error> {
    if fetch::database(cluster, name).await?.spec.paused == paused {
        return Ok(true);
    }
    let patch = Pause {
        spec: PauseSpec { paused },
    };
    let (how, what) = (PatchParams::default(), Patch::Merge(&patch));
    let write = databases(cluster);
    ask(cluster, "change spec.paused", write.patch(name, &how, &what)).await?;
    Ok(false)
}
