//! What the node tells the API about itself and about the database. The API decides nothing about roles.

use serde::Serialize;
use utoipa::ToSchema;

/// How another node's data API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The node's name.
    pub node: String,
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Way {
    /// Address and port as a URL has them; an IPv6 address stands in brackets.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// It accepts writes.
    Master,
    /// It follows the master and serves reads.
    Slave,
}

impl NodeRole {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Slave => "slave",
        }
    }
}

/// A node of the database, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Option<String>,
    /// What it does; null while it does neither.
    pub role: Option<NodeRole>,
    /// It serves its role.
    pub alive: bool,
    /// How many of the master's transactions it has not executed.
    pub lag: Option<u64>,
}

/// The node and its place in the database, as of now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// What the node does; `None` while it does neither.
    pub role: Option<NodeRole>,
    /// Its MySQL server serves that role.
    pub serving: bool,
    /// The highest term that the node knows of.
    pub term: u64,
    /// The way to the master, where it is another node.
    pub master: Option<Way>,
    /// What is the matter where the node does not serve, in a word.
    pub phase: &'static str,
    /// Every node, as the operator sees it; empty as long as it has said nothing.
    pub nodes: std::sync::Arc<[NodeFacts]>,
}

impl View {
    /// True where writes are carried out here.
    pub fn leads(&self) -> bool {
        self.role == Some(NodeRole::Master) && self.serving
    }
}
