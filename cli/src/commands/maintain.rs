//! `kubectl ddb fence`, `unfence`, `pause`, `resume`: writes what the operator is to keep to, and says where it shows.

use std::collections::BTreeSet;
use std::process::ExitCode;

use api::names;

use super::request::{self, Becomes, Written};
use super::say;
use crate::arguments::{Named, Nodes};
use crate::connect::Cluster;
use crate::fetch;

/// The nodes of a list with commas.
fn listed(value: Option<&str>) -> BTreeSet<String> {
    let nodes = value.unwrap_or_default().split(',').map(str::trim);
    nodes.filter(|node| !node.is_empty()).map(str::to_owned).collect()
}

/// The list with `pods` added or taken away; `None` where that changes nothing.
fn next(value: Option<&str>, pods: &[String], fence: bool) -> Option<Becomes> {
    let before = listed(value);
    let mut after = before.clone();
    for pod in pods {
        if fence {
            after.insert(pod.clone());
        } else {
            after.remove(pod);
        }
    }
    if after == before {
        return None;
    }
    let all: Vec<String> = after.into_iter().collect();
    Some(Becomes((!all.is_empty()).then(|| all.join(","))))
}

/// Has nodes kept closed, or no longer.
pub async fn fence(cluster: &Cluster, arguments: &Nodes, fence: bool) -> Result<ExitCode, super::Error> {
    let Nodes { name, pods } = arguments;
    if fence {
        let exists = fetch::database(cluster, name).await?.spec.nodes;
        for pod in pods {
            let index = pod
                .strip_prefix(&format!("{name}-"))
                .and_then(|index| index.parse::<i32>().ok());
            if index.is_none_or(|index| index >= exists) {
                eprintln!(
                    "{name} has no node {pod}; its nodes are {name}-0 to {name}-{}",
                    exists - 1
                );
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    let written = request::change(cluster, name, names::ANNOTATION_FENCE, |value| {
        next(value, pods, fence)
    })
    .await?;
    let pods = pods.join(", ");
    say(&match (written, fence) {
        (Written::Done(_), true) => format!(
            "{pods}: kept closed and out of the Services until: kubectl ddb unfence {name} {}\nA master hands over \
             first, where another node can lead; follow it: kubectl ddb status {name} --watch\n",
            pods.replace(',', "")
        ),
        (Written::Done(_), false) => {
            format!("{pods}: comes back; follow it: kubectl ddb status {name} --watch\n")
        }
        (Written::Other(_), true) => format!("{pods}: kept closed already; nothing to do.\n"),
        (Written::Other(_), false) => format!("{pods}: not kept closed; nothing to do.\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Sets or clears `spec.paused`.
pub async fn pause(cluster: &Cluster, arguments: &Named, paused: bool) -> Result<ExitCode, super::Error> {
    let name = &arguments.name;
    let same = request::pause(cluster, name, paused).await?;
    say(&match (same, paused) {
        (true, true) => format!("{name} is paused already; nothing to do.\n"),
        (true, false) => format!("{name} is not paused; nothing to do.\n"),
        (false, true) => format!(
            "{name} is paused: a failed master is NOT replaced, and nothing else changes, until: kubectl ddb resume \
             {name}\n"
        ),
        (false, false) => format!("{name} is looked after again.\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_added_to_the_list_and_taken_from_it() {
        let pods = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let becomes = |value: &str| Some(Becomes(Some(value.to_owned())));
        assert_eq!(next(None, &pods(&["shop-2"]), true), becomes("shop-2"));
        let both = next(Some("shop-2"), &pods(&["shop-1"]), true);
        assert_eq!(both, becomes("shop-1,shop-2"));
        assert_eq!(next(Some("shop-1, shop-2"), &pods(&["shop-2"]), true), None);
        assert_eq!(
            next(Some("shop-2"), &pods(&["shop-2"]), false),
            Some(Becomes(None))
        );
    }
}
