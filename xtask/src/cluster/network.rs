//! Namespaces, cables and routes: one bridge in the control namespace, a veth pair to each node, no way out.

use std::path::Path;

use anyhow::{Context, Result};

use super::plan::{self, CONTROL_NAMESPACE, Node, Place, namespace_file};
use crate::process::{command, feed, output, run};

/// Makes the whole network; expects that nothing of it exists.
pub fn create(nodes: u8) -> Result<()> {
    for place in Place::all(nodes) {
        let namespace = place.namespace();
        run(&mut command(["ip", "netns", "add", &namespace]))
            .with_context(|| format!("the network namespace {namespace} cannot be made"))?;
    }
    batch(CONTROL_NAMESPACE, &control_lines(nodes))?;
    for node in Node::all(nodes) {
        batch(&node.namespace(), &node_lines(node, nodes))?;
    }
    for place in Place::all(nodes) {
        run(inside(&place.namespace()).args(["sysctl", "-qw", "net.ipv4.ip_forward=1"]))?;
    }
    Ok(())
}

/// Takes away every namespace with a name of ours; cables, bridge and rules end with them.
pub fn remove() -> Result<()> {
    for namespace in existing() {
        run(&mut command(["ip", "netns", "del", &namespace]))?;
    }
    Ok(())
}

/// The names of our namespaces that exist, of any cluster shape.
pub fn existing() -> Vec<String> {
    let all = Place::all(plan::MOST_NODES).map(Place::namespace);
    all.filter(|namespace| Path::new(&namespace_file(namespace)).exists())
        .collect()
}

/// `nsenter` into a network namespace, to be followed by a program.
pub fn inside(namespace: &str) -> std::process::Command {
    command(["nsenter", &format!("--net={}", namespace_file(namespace)), "--"])
}

/// Unplugs or plugs in a node's cable.
///
/// At the control end, because taking the node's own end down would also delete the node's routes.
pub fn set_cable(node: Node, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    run(&mut command([
        "ip",
        "-n",
        CONTROL_NAMESPACE,
        "link",
        "set",
        &node.port(),
        state,
    ]))
}

pub fn is_plugged_in(node: Node) -> bool {
    let shown = output(&mut command([
        "ip",
        "-n",
        CONTROL_NAMESPACE,
        "-o",
        "link",
        "show",
        &node.port(),
    ]));
    shown.is_ok_and(|line| is_administratively_up(&line))
}

fn is_administratively_up(line: &str) -> bool {
    let flags = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map(|(flags, _)| flags);
    flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "UP"))
}

fn control_lines(nodes: u8) -> Vec<String> {
    let mut lines = vec![
        "link set lo up".to_owned(),
        "link add br0 type bridge".to_owned(),
        format!("addr add {}/24 dev br0", plan::CONTROL_ADDRESS),
        "link set br0 up".to_owned(),
        // kube-proxy here turns Service addresses into pods', but the kernel wants a route before it asks the rules.
        format!("route add {} dev br0", plan::SERVICE_RANGE),
    ];
    for node in Node::all(nodes) {
        lines.push(format!(
            "link add {} type veth peer name eth0 netns {}",
            node.port(),
            node.namespace()
        ));
        lines.push(format!("link set {} master br0 up", node.port()));
        lines.push(format!("route add {} via {}", node.pod_range(), node.address()));
    }
    lines
}

fn node_lines(node: Node, nodes: u8) -> Vec<String> {
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("addr add {}/24 dev eth0", node.address()),
        "link set eth0 up".to_owned(),
        format!("route add default via {}", plan::CONTROL_ADDRESS),
    ];
    let others = Node::all(nodes).filter(|other| *other != node);
    lines.extend(others.map(|other| format!("route add {} via {}", other.pod_range(), other.address())));
    lines
}

fn batch(namespace: &str, lines: &[String]) -> Result<()> {
    feed(
        &mut command(["ip", "-n", namespace, "-batch", "-"]),
        &(lines.join("\n") + "\n"),
    )
    .with_context(|| format!("the network of {namespace} cannot be made"))
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_route_to_every_other_nodes_pods_and_none_to_its_own() {
        let lines = node_lines(Node(2), 3).join("\n");
        assert!(lines.contains("route add 10.244.1.0/24 via 172.30.0.11"));
        assert!(lines.contains("route add 10.244.3.0/24 via 172.30.0.13"));
        assert!(!lines.contains("route add 10.244.2.0/24"));
    }

    #[test]
    fn only_the_administrative_flag_decides_whether_a_cable_is_plugged_in() {
        assert!(is_administratively_up(
            "2: v1@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500"
        ));
        assert!(!is_administratively_up(
            "2: v1@if2: <BROADCAST,MULTICAST,LOWER_UP> mtu 1500"
        ));
        assert!(!is_administratively_up(""));
    }
}
