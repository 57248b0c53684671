//! Imports images into the nodes' containerds, all nodes at once, and only what a node lacks.

use std::thread;

use anyhow::{Context, Result, anyhow};

use super::builder::Image;
use crate::{
    cluster::{Cluster, Node},
    host,
    process::{output, run},
    progress::Step,
};

/// After this every node has every image, under both its tags.
pub fn into_nodes(cluster: &Cluster, images: &[Image]) -> Result<()> {
    let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
    let _step = Step::begin(format!("loading {} into the nodes", names.join(", ")));
    let cache = host::cache_dir()?;
    thread::scope(|scope| {
        let nodes: Vec<_> = cluster
            .nodes()
            .map(|node| {
                scope.spawn({
                    let cache = &cache;
                    move || {
                        images
                            .iter()
                            .try_for_each(|image| into_node(cluster, node, image, cache))
                    }
                })
            })
            .collect();
        nodes
            .into_iter()
            .try_for_each(|node| node.join().unwrap_or_else(|_| Err(anyhow!("loading broke off"))))
    })
}

/// The content tag is set last, so its presence proves a whole import.
fn into_node(cluster: &Cluster, node: Node, image: &Image, cache: &std::path::Path) -> Result<()> {
    let (moving, content) = (image.moving_reference(), image.content_reference());
    let images = output(cluster.ctr(node).args(["images", "ls", "-q"]))
        .with_context(|| format!("asking {} for its images", node.name()))?;
    let present = images.lines().any(|line| line == content);
    let tag = |from: &str, to: &str| run(cluster.ctr(node).args(["images", "tag", "--force", from, to]));
    if present {
        return tag(&content, &moving).map(drop);
    }
    run(cluster
        .ctr(node)
        .args(["images", "import"])
        .arg(image.archive(cache)))
    .with_context(|| format!("importing {} into {}", image.name, node.name()))?;
    tag(&moving, &content)
}
