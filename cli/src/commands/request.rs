//! Asking for a switchover, and withdrawing it: one annotation, written only if nobody changed the resource since
//! it was read.

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

/// The wish that a resource carries.
pub fn wish_of(object: &DistributedDatabase) -> Option<&str> {
    object
        .annotations()
        .get(names::ANNOTATION_PROMOTE)
        .map(String::as_str)
}

/// What came of the attempt to write a wish.
#[derive(Debug)]
pub enum Written {
    /// It is written; the resource as it was before.
    Done(Box<DistributedDatabase>),
    /// Another wish is there.
    Other(String),
}

/// Asks for `to`.
pub async fn put(cluster: &Cluster, name: &str, to: &str) -> Result<Written, fetch::Error> {
    change(cluster, name, Some(to), |wish| wish.is_none()).await
}

/// Withdraws the wish for `to`; another one stays.
pub async fn withdraw(cluster: &Cluster, name: &str, to: &str) -> Result<Written, fetch::Error> {
    change(cluster, name, None, |wish| wish == Some(to)).await
}

async fn change(
    cluster: &Cluster,
    name: &str,
    value: Option<&str>,
    expected: impl Fn(Option<&str>) -> bool,
) -> Result<Written, fetch::Error> {
    let api = databases(cluster);
    let mut tries = 0;
    loop {
        tries += 1;
        let object = fetch::database(cluster, name).await?;
        if !expected(wish_of(&object)) {
            return Ok(Written::Other(wish_of(&object).unwrap_or_default().to_owned()));
        }
        let wish = Wish {
            metadata: Metadata {
                resource_version: object.metadata.resource_version.as_deref(),
                annotations: BTreeMap::from([(names::ANNOTATION_PROMOTE, value)]),
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
