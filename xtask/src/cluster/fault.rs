//! Faults made for real, and their mending: cables unplugged, packets dropped, nodes frozen or without power.
//!
//! All of it happens inside the cluster's namespaces and control groups. Which faults are in force is read from the
//! kernel, not remembered, so `heal` also finds those of an interrupted command.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};

use super::{
    Cluster, control_plane, network,
    node::holder_name,
    plan::{self, Node, Place},
};
use crate::process::{output, run as run_command};

/// Marks our rules: `ddb-fault:FROM:TO`.
const MARK: &str = "ddb-fault";

#[derive(Subcommand)]
pub enum Command {
    /// Unplug a node, or drop packets between two endpoints.
    Cut(Target),
    /// Mend a node, a pair of endpoints, or (without arguments) everything.
    Heal(Target),
    /// Stop every process of a node, without telling it.
    Freeze { node: String },
    /// Let a frozen node go on.
    Thaw { node: String },
    /// End the API server; `heal` without arguments starts it again.
    StopApiServer,
    /// Take a node's power: its cable falls silent and all its processes end at once; `heal` starts it again.
    Kill { node: String },
}

#[derive(Args)]
pub struct Target {
    /// A node's name.
    #[arg(conflicts_with_all = ["from", "to"])]
    node: Option<String>,
    /// A node's name, a pod's address, or `control`.
    #[arg(long, requires = "to")]
    from: Option<String>,
    /// A node's name, a pod's address, or `control`.
    #[arg(long, requires = "from")]
    to: Option<String>,
    /// Only packets from FROM to TO; those in the other direction still pass.
    #[arg(long, requires = "from")]
    one_way: bool,
    /// Only TCP to this port of TO, such as 6443 for the API server.
    #[arg(long, requires = "to")]
    port: Option<u16>,
}

pub fn run(cluster: &mut Cluster, command: Command) -> Result<()> {
    match command {
        Command::Cut(Target { node: Some(node), .. }) => network::set_cable(cluster.node(&node)?, false),
        Command::Cut(Target {
            from: Some(from),
            to: Some(to),
            one_way,
            port,
            ..
        }) => cut(cluster, &from, &to, one_way, port),
        Command::Cut(_) => bail!("say what to cut: a node, or --from and --to"),
        Command::Heal(Target { node: Some(node), .. }) => {
            let node = cluster.node(&node)?;
            remove_rules(cluster, |from, to| [from, to].contains(&node.name().as_str()))?;
            heal_node(cluster, node)
        }
        Command::Heal(Target {
            from: Some(from),
            to: Some(to),
            one_way,
            ..
        }) => remove_rules(cluster, |a, b| {
            (a, b) == (from.as_str(), to.as_str()) || !one_way && (a, b) == (to.as_str(), from.as_str())
        }),
        Command::Heal(_) => heal_everything(cluster),
        Command::Freeze { node } => {
            let node = cluster.node(&node)?;
            ensure!(
                cluster.state.process(&holder_name(node)).is_some(),
                "{} has no power, there is nothing to freeze",
                node.name()
            );
            cluster.groups.freeze(Place::Node(node))
        }
        Command::Thaw { node } => {
            cluster.groups.thaw(Place::Node(cluster.node(&node)?));
            Ok(())
        }
        Command::StopApiServer => cluster.stop(control_plane::API_SERVER),
        Command::Kill { node } => {
            let node = cluster.node(&node)?;
            // A machine without power answers nothing; with the cable in, the kernel would refuse connections for it.
            network::set_cable(node, false)?;
            cluster.groups.kill(Some(Place::Node(node)))
        }
    }
}

/// Mends all that `run` can break.
pub fn heal_everything(cluster: &mut Cluster) -> Result<()> {
    remove_rules(cluster, |_, _| true)?;
    cluster.start_api_server()?;
    cluster.nodes().try_for_each(|node| heal_node(cluster, node))
}

fn heal_node(cluster: &mut Cluster, node: Node) -> Result<()> {
    cluster.groups.thaw(Place::Node(node));
    network::set_cable(node, true)?;
    cluster.start_node(node)
}

/// One sentence for each fault in force.
pub fn in_force(cluster: &Cluster) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    if cluster.state.process(control_plane::API_SERVER).is_none() {
        faults.push("the API server is stopped".to_owned());
    }
    for node in cluster.nodes() {
        let name = node.name();
        if cluster.state.process(&holder_name(node)).is_none() {
            faults.push(format!("{name} has no power"));
        } else if cluster.groups.is_frozen(Place::Node(node)) {
            faults.push(format!("{name} is frozen"));
        }
        if !network::is_plugged_in(node) {
            faults.push(format!("{name} is cut off"));
        }
    }
    for place in Place::all(cluster.state.nodes) {
        let rules = rules_of(place)?;
        let pairs = rules.iter().filter_map(|rule| pair(rule));
        faults.extend(pairs.map(|(from, to)| format!("packets from {from} to {to} are dropped")));
    }
    faults.sort();
    faults.dedup();
    Ok(faults)
}

impl Cluster {
    fn node(&self, name: &str) -> Result<Node> {
        let count = self.state.nodes;
        Node::parse(name, count)
            .with_context(|| format!("there is no node `{name}`: this cluster has node1 to node{count}"))
    }
}

/// One side of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    name: String,
    home: Place,
    addresses: Vec<String>,
}

impl Endpoint {
    fn parse(name: &str, nodes: u8) -> Result<Self> {
        let endpoint = |home, addresses| {
            Ok(Self {
                name: name.to_owned(),
                home,
                addresses,
            })
        };
        if name == "control" {
            return endpoint(Place::Control, vec![plan::CONTROL_ADDRESS.to_owned()]);
        }
        if let Some(node) = Node::parse(name, nodes) {
            return endpoint(Place::Node(node), vec![node.address(), node.pod_range()]);
        }
        if let Ok([10, 244, third, _]) = name.parse::<Ipv4Addr>().map(|address| address.octets())
            && let Some(node) = Node::all(nodes).find(|node| node.0 == third)
        {
            return endpoint(Place::Node(node), vec![name.to_owned()]);
        }
        bail!(
            "`{name}` is no endpoint here: give node1 to node{nodes}, `control`, or the address of a pod ({})",
            plan::POD_RANGE
        )
    }
}

/// A rule to add: namespace, chain, source, destination.
#[derive(Debug, PartialEq, Eq)]
struct Drop<'a> {
    place: Place,
    chain: &'static str,
    from: &'a str,
    to: &'a str,
}

/// Between two namespaces the receiver drops what arrives, as a cable would, so that the sender gets no error. Inside
/// one namespace nothing arrives by cable: there the packet is dropped on its way out to a pod, or in to the node.
/// All in the mangle table: at these places Service addresses are already pods' addresses, and kube-proxy has no rules.
fn drops<'a>(from: &'a Endpoint, to: &'a Endpoint) -> Vec<Drop<'a>> {
    let chains: &[&str] = if from.home == to.home {
        &["POSTROUTING", "INPUT"]
    } else {
        &["PREROUTING"]
    };
    let mut drops = Vec::new();
    for chain in chains {
        for source in &from.addresses {
            drops.extend(to.addresses.iter().map(|target| Drop {
                place: to.home,
                chain,
                from: source,
                to: target,
            }));
        }
    }
    drops
}

fn cut(cluster: &Cluster, from: &str, to: &str, one_way: bool, port: Option<u16>) -> Result<()> {
    let nodes = cluster.state.nodes;
    let (from, to) = (Endpoint::parse(from, nodes)?, Endpoint::parse(to, nodes)?);
    ensure!(from.name != to.name, "the two endpoints are the same");
    // Answers come from the port that questions go to.
    let mut directions = vec![(&from, &to, "--dport")];
    if !one_way {
        directions.push((&to, &from, "--sport"));
    }
    // Cutting twice must not need healing twice.
    remove_rules(cluster, |a, b| {
        directions
            .iter()
            .any(|(from, to, _)| from.name == a && to.name == b)
    })?;
    for (from, to, side) in directions {
        let comment = format!("{MARK}:{}:{}", from.name, to.name);
        for drop in drops(from, to) {
            let mut command = mangle(drop.place);
            command.args(["-I", drop.chain, "-s", drop.from, "-d", drop.to]);
            if let Some(port) = port {
                command.args(["-p", "tcp", side, &port.to_string()]);
            }
            run_command(command.args(["-m", "comment", "--comment", &comment, "-j", "DROP"]))?;
        }
    }
    Ok(())
}

fn remove_rules(cluster: &Cluster, chosen: impl Fn(&str, &str) -> bool) -> Result<()> {
    for place in Place::all(cluster.state.nodes) {
        for rule in rules_of(place)? {
            if pair(&rule).is_some_and(|(from, to)| chosen(from, to)) {
                let words = rule
                    .strip_prefix("-A ")
                    .context("a rule of an unknown form")?
                    .split(' ');
                run_command(
                    mangle(place)
                        .arg("-D")
                        .args(words.map(|word| word.trim_matches('"'))),
                )?;
            }
        }
    }
    Ok(())
}

/// Our rules of one namespace, as iptables prints them.
fn rules_of(place: Place) -> Result<Vec<String>> {
    let all = output(mangle(place).arg("-S"))?;
    Ok(all
        .lines()
        .filter(|line| line.starts_with("-A ") && line.contains(MARK))
        .map(str::to_owned)
        .collect())
}

/// Whom a rule parts, from its comment.
fn pair(rule: &str) -> Option<(&str, &str)> {
    let comment = rule
        .split([' ', '"'])
        .find_map(|word| word.strip_prefix(MARK)?.strip_prefix(':'))?;
    comment.split_once(':')
}

fn mangle(place: Place) -> std::process::Command {
    let mut command = network::inside(&place.namespace());
    command.args(["iptables", "-w", "10", "-t", "mangle"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_nodes_with_their_pods_single_pods_or_the_control_plane() {
        assert_eq!(
            Endpoint::parse("node2", 3).unwrap().addresses,
            ["172.30.0.12", "10.244.2.0/24"]
        );
        assert_eq!(
            Endpoint::parse("10.244.3.7", 3).unwrap().home,
            Place::Node(Node(3))
        );
        assert_eq!(Endpoint::parse("control", 3).unwrap().home, Place::Control);
        for name in ["node4", "10.244.4.7", "10.96.0.1", "8.8.8.8", "", "::1"] {
            assert!(Endpoint::parse(name, 3).is_err(), "{name}");
        }
    }

    #[test]
    fn between_machines_the_receiver_drops_and_inside_one_the_machine_itself() {
        let parse = |name| Endpoint::parse(name, 3).unwrap();
        let (one, two, other) = (parse("10.244.1.2"), parse("10.244.2.2"), parse("10.244.1.3"));
        let across = drops(&one, &two);
        assert_eq!(
            across,
            [Drop {
                place: Place::Node(Node(2)),
                chain: "PREROUTING",
                from: "10.244.1.2",
                to: "10.244.2.2"
            }]
        );
        assert!(drops(&one, &other).iter().all(|drop| drop.chain != "PREROUTING"));
        assert_eq!(drops(&parse("node1"), &parse("node2")).len(), 4);
    }

    #[test]
    fn a_rule_is_known_by_its_comment_with_and_without_quotes() {
        let rule = "-A PREROUTING -s 10.0.0.1/32 -m comment --comment \"ddb-fault:node1:10.244.2.2\" -j DROP";
        assert_eq!(pair(rule), Some(("node1", "10.244.2.2")));
        assert_eq!(pair(&rule.replace('"', "")), Some(("node1", "10.244.2.2")));
        assert_eq!(pair("-A PREROUTING -j ACCEPT"), None);
    }
}
