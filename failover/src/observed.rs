//! What the engine is told: the pods as Kubernetes has them, the sessions, and each node's own report.
//!
//! "Not answered" is a value of its own everywhere; nothing here reads silence as "no".

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{GtidSet, Millis, NodeId, Record, Term, VolumeId};

/// Everything one decision is made from.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The durable record, as last written or read by this operator.
    pub record: Record,
    /// Every node that the resource asks for or that still exists.
    pub nodes: BTreeMap<NodeId, NodeView>,
    /// A switchover that somebody asked for and that has no outcome yet.
    pub switchover: Option<Switchover>,
    /// What else people ask for.
    pub asked: Asked,
    /// Where the master's Service leads.
    pub service: Service,
}

/// Where the master's Service leads, as last written or read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// The node, if it leads to one.
    pub to: Option<NodeId>,
    /// The term that led it there; a write of an older term is refused.
    pub term: Term,
    /// From when on a further change reaches clients at once. Kubernetes' proxies carry changes out once a second, so
    /// that one which comes soon after another waits. `None` where nothing changed lately, or where nobody can wait.
    pub settles: Option<Millis>,
}

impl Service {
    /// True where this very term led it to the node.
    pub fn leads_to(&self, node: &NodeId, term: Term) -> bool {
        self.to.as_ref() == Some(node) && self.term == term
    }
}

/// What people ask for beside a switchover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// A promotion without a quorum.
    pub force: Option<Force>,
    /// A node that is to be cloned again.
    pub resync: Option<NodeId>,
    /// Nodes that are to be kept closed for as long as they stand here.
    pub fence: BTreeSet<NodeId>,
    /// The master's pod was given so little time to end that nothing can be waited for.
    pub hurries: bool,
}

/// A promotion that gives up what the lost majority may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Force {
    /// The node that is to lead.
    pub to: NodeId,
    /// The term that was typed as confirmation; `None` where nothing readable was.
    pub term: Option<Term>,
}

impl Force {
    /// Reads `<pod>@<term>`.
    pub fn parse(text: &str) -> Self {
        match text.trim().split_once('@') {
            Some((to, term)) => Self {
                to: to.trim().into(),
                term: term.trim().parse().ok().map(Term),
            },
            None => Self {
                to: text.trim().into(),
                term: None,
            },
        }
    }
}

/// A wish for another master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switchover {
    /// The node that is to lead; `None` where any other than the master is right.
    pub to: Option<NodeId>,
}

/// One node as this operator sees it.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Its pod.
    pub pod: Pod,
    /// The connection to its agent.
    pub session: Session,
    /// The newest report, of whatever age; `None` before the first.
    pub report: Option<NodeReport>,
}

/// A node's pod as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pod {
    /// There is no pod object of that name, or it is another one than the node's session belongs to.
    Missing,
    /// The pod object exists.
    Present {
        /// The pod's address, once it has one.
        address: Option<String>,
        /// Its deletion was asked for.
        deleting: bool,
        /// It carries the label `role=master`.
        labelled_master: bool,
        /// The newest term that stamped the pod; a label is only ever put on a pod by the term of its stamp.
        stamp: Term,
    },
}

impl Pod {
    /// True when the pod is gone or its deletion was asked for.
    pub fn is_going(&self) -> bool {
        matches!(self, Self::Missing | Self::Present { deleting: true, .. })
    }
}

/// The connection between operator and node agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Session {
    /// There has been none yet.
    Never,
    /// It is open; the last report came at `heard`.
    Open {
        /// The moment of the last report.
        heard: Millis,
    },
    /// It broke at `since` and was not restored.
    Broken {
        /// The moment it broke.
        since: Millis,
    },
}

/// What a node agent reports of itself; sent at every change and as a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// The life of the node's data.
    pub volume: VolumeId,
    /// The highest term that the node has stored durably. It obeys no older one.
    pub term: Term,
    /// The term in which the node confirmed that it acknowledges nothing any more, to any master. Durable: it
    /// outlives restarts of the agent and of mysqld, and ends only when the node is promoted or follows a master
    /// in the same or a later term.
    pub fenced: Option<Term>,
    /// The master this data was last told to follow, and the term. Durable: outlives restarts, ends with a
    /// promotion or a clone.
    #[serde(default)]
    pub followed: Option<Followed>,
    /// The term in which the node was last told to lead. Durable: it ends with a fence of a later term, and where the
    /// node follows or is cloned. No fence of this very term is confirmed: whatever the node wrote since would be
    /// shown by a second promotion in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Term>,
    /// The pod was told to stop and waits to hand over.
    pub stopping: bool,
    /// A clone into this node is under way; the number counts completed hundredths.
    pub cloning: Option<u8>,
    /// How many clones were refused since the agent began while the node still had its data: the donor was out of reach
    /// or lacked something.
    #[serde(default)]
    pub refused_clones: u32,
    /// What is known of transactions that the node wrote as master and that nobody acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
    /// Why the node has closed itself to clients, where it leads and has ([`crate::guard`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// mysqld cannot run on this data: it died again and again without having served anybody, in this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
    /// The MySQL server.
    pub server: Server,
}

impl NodeReport {
    /// What a node reports that was never told anything.
    pub fn new(volume: VolumeId, server: Server) -> Self {
        Self {
            volume,
            term: Term::default(),
            fenced: None,
            followed: None,
            promoted: None,
            stopping: false,
            cloning: None,
            refused_clones: 0,
            tail: None,
            closed: None,
            damaged: None,
            server,
        }
    }
}

/// The end of a former master's binary log: what it wrote and no slave acknowledged. A server that starts again
/// commits it; as long as it is down the tail can be cut off, which spares a clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "tail")]
pub enum Tail {
    /// mysqld ended while it led and is kept down for a moment, until the new master's set is known.
    Held,
    /// These transactions were cut off. Durable, until the node leads again or is cloned.
    Cut {
        /// The term of the command.
        term: Term,
        /// The transactions.
        transactions: GtidSet,
        /// The file on the node's volume that keeps them.
        file: String,
    },
    /// The tail, if there is one, could not be cut.
    Refused {
        /// Why.
        why: String,
    },
}

/// The last master that a node was told to follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    /// The term of the command.
    pub term: Term,
    /// The master.
    pub source: NodeId,
}

/// The state of a node's MySQL server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum Server {
    /// There is no mysqld process.
    Down {
        /// How the last one ended, or why none could be started.
        cause: String,
    },
    /// The process runs but has not answered yet since it was started.
    Starting,
    /// The process runs but has not answered its probe for so long, nobody can log in to it, or its volume hangs.
    Hung {
        /// Milliseconds since the last answer.
        silent_ms: Millis,
    },
    /// It answers.
    Up(Box<ServerState>),
}

/// What a MySQL server that answers says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerState {
    /// `@@server_uuid`: the origin of what this server commits itself.
    pub uuid: String,
    /// `@@version`.
    pub version: String,
    /// What the server does now.
    pub role: Role,
    /// `@@gtid_executed`.
    pub executed: GtidSet,
    /// What was received from a source, executed or not.
    pub received: GtidSet,
    /// `@@gtid_purged`: what is no longer in the binary logs.
    pub purged: GtidSet,
    /// Ordinary clients may connect and the server may be read.
    pub open: bool,
    /// The error for which the server does not execute what it received, where there is such: its data differs from
    /// its former master's. It holds what it received and can never show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
}

/// What a MySQL server does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "role")]
pub enum Role {
    /// It accepts no writes and receives none: freshly booted, or fenced.
    Idle,
    /// It accepts writes as the master of a term.
    Master {
        /// The term it was promoted in.
        term: Term,
        /// How many slaves it waits for before it acknowledges a write.
        acks: u32,
        /// Sessions that wait for an acknowledgement now.
        waiting: u32,
    },
    /// It follows a master.
    Slave {
        /// The term in which it was told to.
        term: Term,
        /// The node it follows.
        source: NodeId,
        /// The address it follows it at.
        address: String,
        /// The connection to the master.
        receiver: Receiver,
        /// The execution of what was received.
        applier: Applier,
        /// It has executed all that its master had when it was told to follow.
        caught_up: bool,
    },
}

/// The state of a slave's receiver (IO) thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum Receiver {
    /// Connected; something, if only a heartbeat, came `age_ms` ago.
    Receiving {
        /// Milliseconds since anything came from the master.
        age_ms: Millis,
    },
    /// Trying to connect.
    Connecting {
        /// The server's last error text, empty where there is none.
        error: String,
    },
    /// Not running.
    Stopped {
        /// The error that stopped it, empty where it was told to.
        error: String,
    },
}

/// The state of a slave's applier (SQL) threads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum Applier {
    /// Running.
    Running,
    /// Not running.
    Stopped {
        /// The error that stopped it, empty where it was told to.
        error: String,
    },
}

impl ServerState {
    /// Everything the server holds: received or executed.
    pub fn holds(&self) -> GtidSet {
        self.executed.union(&self.received)
    }
}

impl Observed {
    /// Whether the node's data is that of which the record knows that it holds what was acknowledged; `None` while it
    /// does not answer.
    pub(crate) fn is_whole(&self, node: &NodeId) -> Option<bool> {
        let live = self.nodes.get(node)?.live_report()?;
        Some(self.record.members.get(node) == Some(&live.volume))
    }
}

impl NodeView {
    /// The newest report of a node that is being cloned.
    pub(crate) fn being_cloned(&self) -> Option<&NodeReport> {
        self.live_report().filter(|live| live.cloning.is_some())
    }

    /// The server's own words, where it answers and the session is open.
    pub fn server(&self) -> Option<&ServerState> {
        match (&self.session, &self.report) {
            (
                Session::Open { .. },
                Some(NodeReport {
                    server: Server::Up(state),
                    ..
                }),
            ) => Some(state),
            _ => None,
        }
    }

    /// The newest report if the session is open.
    pub fn live_report(&self) -> Option<&NodeReport> {
        matches!(self.session, Session::Open { .. })
            .then_some(self.report.as_ref())
            .flatten()
    }

    /// The pod's address, where there is one.
    pub fn address(&self) -> Option<&str> {
        match &self.pod {
            Pod::Present { address, .. } => address.as_deref(),
            Pod::Missing => None,
        }
    }

    /// True when the node says now that it has stored its promotion in `term`, whether it leads yet or not.
    pub(crate) fn is_promoted_in(&self, term: Term) -> bool {
        self.live_report().is_some_and(|live| live.promoted == Some(term))
    }

    /// True when the node says that it leads in `term`.
    pub fn leads_in(&self, wanted: Term) -> bool {
        matches!(self.server(), Some(ServerState { role: Role::Master { term, .. }, .. }) if *term == wanted)
    }
}
