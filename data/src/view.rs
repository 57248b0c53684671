//! What the node tells the API about itself and about the database. The API decides nothing about roles.

use std::{collections::BTreeMap, sync::Arc};

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
    /// What is wrong with it or under way, such as how far a new copy is, as the operator sees it; empty where all is well.
    pub message: String,
}

/// A change of master: what was begun and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// The term it is made in, which names it.
    pub term: u64,
    /// When it was complete, as RFC 3339; null while it is under way.
    pub at: Option<String>,
    /// `Bootstrap`, `Failover`, `Switchover`, `Forced` or `Rest`.
    pub kind: String,
    /// Why, in a few words.
    pub cause: String,
    /// The master before.
    pub from: Option<String>,
    /// The new master, once it is chosen.
    pub to: Option<String>,
    /// Milliseconds from the first evidence to the end of each step: `recorded`, `fenced`, `drained`, `promoted`,
    /// `led` (clients, by the Service), `routed` (the label).
    pub steps: BTreeMap<String, u64>,
    /// Milliseconds from the first evidence to the end; null while it is under way.
    pub total: Option<u64>,
    /// The proof of what was kept: the new master had executed this set before it was promoted, and after the fence
    /// nothing beyond it could be acknowledged. Empty where it is not known.
    pub kept: String,
    /// After a promotion by force: what may be lost.
    pub may_be_lost: Option<String>,
    /// What is waited for, while it is under way.
    pub waiting_for: Vec<String>,
}

/// What came of the last wish of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// When it was answered, as RFC 3339.
    pub at: String,
    /// It was carried out.
    pub done: bool,
    /// What happened.
    pub message: String,
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
    /// The ways to the other nodes that are known.
    pub ways: Arc<[Way]>,
    /// Every node, as the operator sees it; empty as long as it has said nothing.
    pub nodes: Arc<[NodeFacts]>,
    /// The database as a whole.
    pub whole: Arc<Whole>,
}

/// The database as a whole, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whole {
    /// Its state in one word; `None` as long as the operator has said nothing.
    pub state: Option<String>,
    /// The change of master under way.
    pub change: Option<Failover>,
    /// The last changes of master, newest first.
    pub failovers: Vec<Failover>,
    /// What came of the last wish of a person.
    pub request: Option<Request>,
}

impl View {
    /// True where writes are carried out here.
    pub fn leads(&self) -> bool {
        self.role == Some(NodeRole::Master) && self.serving
    }
}
