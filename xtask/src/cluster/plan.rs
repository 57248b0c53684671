//! The plan of the cluster: names, addresses and folders, all computed, nothing read and nothing made.
//!
//! Every address exists only inside the namespaces made here; the host has no route to them and they none to it.

use std::path::{Path, PathBuf};

pub const CONTROL_NAMESPACE: &str = "ddb-ctl";
pub const CONTROL_ADDRESS: &str = "172.30.0.1";
pub const DNS_ADDRESS: &str = "10.96.0.10";
pub const API_SERVICE_ADDRESS: &str = "10.96.0.1";
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
pub const POD_RANGE: &str = "10.244.0.0/16";
pub const MOST_NODES: u8 = 5;

/// One Kubernetes node, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(pub u8);

impl Node {
    pub fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    /// The name in Kubernetes.
    pub fn name(self) -> String {
        format!("node{}", self.0)
    }

    /// The short name, of folders, logs, processes and control groups.
    pub fn short(self) -> String {
        format!("n{}", self.0)
    }

    pub fn namespace(self) -> String {
        format!("ddb-n{}", self.0)
    }

    pub fn address(self) -> String {
        format!("172.30.0.1{}", self.0)
    }

    pub fn pod_range(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    /// The end of the node's cable that is plugged into the control namespace's bridge.
    pub fn port(self) -> String {
        format!("v{}", self.0)
    }

    pub fn parse(name: &str, count: u8) -> Option<Self> {
        Self::all(count).find(|node| node.name() == name)
    }
}

/// Where a namespace's rules, addresses and processes belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Control,
    Node(Node),
}

impl Place {
    pub fn all(nodes: u8) -> impl Iterator<Item = Self> {
        std::iter::once(Self::Control).chain(Node::all(nodes).map(Self::Node))
    }

    pub fn namespace(self) -> String {
        match self {
            Self::Control => CONTROL_NAMESPACE.to_owned(),
            Self::Node(node) => node.namespace(),
        }
    }

    /// Below `ddb` in every hierarchy of control groups.
    pub fn group(self) -> String {
        match self {
            Self::Control => "ctl".to_owned(),
            Self::Node(node) => node.short(),
        }
    }
}

/// The file by which `ip netns` and `nsenter` know a namespace.
pub fn namespace_file(namespace: &str) -> String {
    format!("/run/netns/{namespace}")
}

/// The folders of one cluster, all below the cache folder.
#[derive(Clone, Debug)]
pub struct Folders {
    pub cache: PathBuf,
}

impl Folders {
    pub fn cluster(&self) -> PathBuf {
        self.cache.join("cluster")
    }

    pub fn pki(&self) -> PathBuf {
        self.cluster().join("pki")
    }

    pub fn log(&self, process: &str) -> PathBuf {
        self.cluster().join("log").join(format!("{process}.log"))
    }

    pub fn node(&self, node: Node) -> PathBuf {
        self.cluster().join(node.short())
    }

    pub fn containerd_socket(&self, node: Node) -> PathBuf {
        self.node(node).join("containerd.sock")
    }

    pub fn volumes(&self) -> PathBuf {
        self.cluster().join("volumes")
    }

    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.cluster().join(format!("{user}.kubeconfig"))
    }

    pub fn admin(&self) -> PathBuf {
        self.kubeconfig("admin")
    }
}

/// A path as text; the cache folder is checked to be plain ASCII when it is chosen.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_nodes_share_a_name_an_address_or_a_range() {
        let nodes: Vec<Node> = Node::all(MOST_NODES).collect();
        let naming: [fn(Node) -> String; 5] = [
            Node::name,
            Node::namespace,
            Node::address,
            Node::pod_range,
            Node::port,
        ];
        for name in naming {
            let names: BTreeSet<String> = nodes.iter().map(|node| name(*node)).collect();
            assert_eq!(names.len(), nodes.len());
        }
        assert!(nodes.iter().all(|node| node.address() != CONTROL_ADDRESS));
    }

    #[test]
    fn addresses_are_valid_for_every_node() {
        for node in Node::all(MOST_NODES) {
            node.address().parse::<std::net::Ipv4Addr>().unwrap();
            assert!(node.pod_range().ends_with(".0/24"));
        }
    }

    #[test]
    fn a_name_outside_the_cluster_is_no_node() {
        assert_eq!(Node::parse("node3", 3), Some(Node(3)));
        for name in ["node4", "node0", "node", "n1", "", "node01"] {
            assert_eq!(Node::parse(name, 3), None, "{name}");
        }
    }
}
