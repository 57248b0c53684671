//! The session between operator and node agent: one mutually authenticated TLS connection that the operator opens
//! to the node's port [`SESSION_PORT`], carrying one JSON object a line in both directions.
//!
//! The operator sends [`ToNode`], the node [`ToOperator`]. The node reports at once when anything changed and at
//! every `heartbeat_ms` in between. Commands of one session are carried out in the order of their arrival, except
//! that [`Command::Fence`] overtakes and cancels whatever is still running. A node accepts several sessions at a
//! time (the standby operator keeps one warm); the term alone decides whom it obeys.

use std::collections::BTreeMap;

use failover::{Change, GtidSet, Intent, Millis, NodeId, NodeReport, Term};
use serde::{Deserialize, Serialize};

use crate::kept::Kept;
use crate::resource::{NodeRole, Phase};

/// The TCP port of the node agent's session listener.
pub const SESSION_PORT: u16 = 8440;
/// The TCP port of the node agent's probes and metrics (plain HTTP, nothing secret): `/healthz`, `/readyz`,
/// `/metrics`, `/ping`, `/is-master`.
pub const PROBE_PORT: u16 = 8081;
/// MySQL's TCP port.
pub const MYSQL_PORT: u16 = 3306;
/// The TCP port of every node agent that passes MySQL connections through to the master.
pub const PASSAGE_PORT: u16 = 3307;
/// The TCP port of every node's data API (HTTP over TLS).
pub const API_PORT: u16 = 8443;
/// The longest line that either side accepts, in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// An IP address of either kind with a port, as both are written together.
pub fn host_and_port(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// What the operator sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum ToNode {
    /// The first line of a session.
    Hello {
        /// The node that the operator believes it speaks to; another one closes the session.
        node: NodeId,
        /// The resource's UID; a node of another resource closes the session.
        cluster: String,
        /// The interval of the node's heartbeats in milliseconds.
        heartbeat_ms: Millis,
        /// The operator understands [`ToOperator::Ask`]. One that does not would close the session at it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        takes_asks: bool,
    },
    /// Said again and again, by the operator that holds the lease only, to every node that leads: the node's guard
    /// lives on it.
    Leads {
        /// The term in which this node is the master of the record; `null` where it is not, or while the master
        /// changes.
        names: Option<Term>,
        /// Milliseconds since the operator's lease was last confirmed.
        age_ms: Millis,
        /// Where the other members' probes answer: address and port.
        peers: Vec<String>,
    },
    /// Something to do.
    Command {
        /// Chosen by the operator, repeated in the outcome.
        id: u64,
        /// The term that asks. The node stores it durably if it is the highest so far and refuses it if it is
        /// older than the stored one.
        term: Term,
        /// What to do.
        command: Command,
    },
    /// The database as the operator sees it, when it changed; for the node to show and to find the master by.
    /// Nothing that safety rests on follows from it. Sent only to a node whose reports say that it takes it.
    Picture {
        /// What it sees.
        picture: Box<Picture>,
    },
    /// The answer to [`ToOperator::Ask`], from the operator that leads.
    Answer {
        /// The question's number.
        id: u64,
        /// The answer.
        answer: Answer,
    },
}

/// A whole database as the operator that leads it sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// The recorded term.
    pub term: Term,
    /// The node that leads in that term and that clients are led to; `None` while there is none.
    pub master: Option<NodeId>,
    /// The phase in one word.
    pub phase: Phase,
    /// Every node.
    pub nodes: Vec<PicturedNode>,
    /// The change of master under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<PicturedChange>,
    /// The last changes of master, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PicturedFailover>,
    /// What came of the last wish of a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<PicturedRequest>,
}

/// A change of master under way in a [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PicturedChange {
    /// Its term.
    pub term: Term,
    /// What was begun.
    pub intent: Intent,
    /// Milliseconds from the first evidence to the end of each step that is complete.
    pub steps: BTreeMap<String, Millis>,
    /// The node that was chosen to lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<NodeId>,
    /// All that it must have executed before it leads.
    #[serde(default, skip_serializing_if = "GtidSet::is_empty")]
    pub kept: GtidSet,
    /// What is waited for, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
}

/// A complete change of master in a [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PicturedFailover {
    /// When it was complete, as RFC 3339.
    pub at: String,
    /// What was done.
    pub change: Change,
}

/// What came of a wish in a [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PicturedRequest {
    /// When it was answered, as RFC 3339.
    pub at: String,
    /// It was carried out.
    pub done: bool,
    /// What happened, in a sentence.
    pub message: String,
}

/// One node in a [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PicturedNode {
    /// Its name.
    pub name: NodeId,
    /// Its pod's address.
    pub address: Option<String>,
    /// What it does.
    pub role: NodeRole,
    /// Whether it serves that role.
    pub ready: bool,
    /// How many of the master's transactions it has not executed.
    pub behind: Option<i64>,
    /// What is wrong or under way, in a sentence; empty where all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What a node asks the operator on behalf of somebody whom its data API let in, or is to let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "question")]
pub enum Question {
    /// A wish, to be treated as the annotation of the same meaning.
    Wish {
        /// What is wished.
        wish: Wish,
        /// The term in which it was made; in another one it is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        term: Option<Term>,
    },
    /// Whom a token of a Kubernetes service account stands for, and what the resource lets it do.
    Review {
        /// The token.
        token: Credential,
    },
}

/// What can be wished through a node: what the annotations of the same names ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "wish")]
pub enum Wish {
    /// Another master.
    Switchover {
        /// The node; `None` for any other.
        to: Option<NodeId>,
    },
    /// A slave copied anew.
    Resync {
        /// The node.
        node: NodeId,
    },
}

/// A secret that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credential(pub String);

impl std::fmt::Debug for Credential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Credential")
    }
}

/// What the operator answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "answer")]
pub enum Answer {
    /// The wish stands as an annotation of the resource; what comes of it is in the picture.
    Accepted,
    /// The wish contradicts what is there.
    Refused {
        /// Why, in a sentence.
        message: String,
    },
    /// The API server did not answer; the same may succeed later.
    NotNow {
        /// Why, in a sentence.
        message: String,
    },
    /// The token stands for a service account that the resource names.
    Account {
        /// `namespace/name`.
        account: String,
        /// The name of its role.
        role: String,
        /// The only databases that it reaches; `None` for all.
        databases: Option<Vec<String>>,
    },
    /// The token is not valid for this database, or the resource does not name its account.
    Nobody,
}

/// What a node can be told to do. Each command is idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "command")]
pub enum Command {
    /// Acknowledge nothing any more, to anybody. On a slave: semi-sync replica off, receiver stopped; reads go on.
    /// On a master: clients dropped, then read-only; killed where waiting commits do not finish (`orderly`: within
    /// `deadline_ms`; otherwise at once). Done when the report says `fenced` with this term.
    Fence {
        /// What waits for an acknowledgement may finish first.
        orderly: bool,
        /// How long an orderly fence may take in milliseconds before the server is killed.
        deadline_ms: Millis,
    },
    /// Execute everything received. Done when the report's `executed` contains its `received`.
    Drain {
        /// Milliseconds after which the command fails.
        deadline_ms: Millis,
    },
    /// Lead. Refused unless the node is fenced in this very term and has executed all of `requires`.
    Promote {
        /// How many slaves must hold a write before it is acknowledged; 0 switches semi-sync off.
        acks: u32,
        /// What the node must have executed.
        requires: GtidSet,
    },
    /// Replicate from `source`; its data stays. Executes first what was received before.
    Follow {
        /// The master's name.
        source: NodeId,
        /// The master's IP address.
        address: String,
        /// The node counts as caught up, and opens for readers, once it has executed this.
        until: GtidSet,
        /// The node's data is that of the recorded member. Otherwise it asks the master itself, and counts as caught up
        /// once it also has what the master had executed then. An operator of an earlier release does not say.
        #[serde(default)]
        whole: bool,
    },
    /// mysqld is kept down: cut off the end of its binary log from the first transaction that `keep` lacks, keep the
    /// bytes as a file, start fenced. Whatever comes of it, mysqld runs afterwards and is judged by its set.
    Cut {
        /// What must not be cut: everything the master has.
        keep: GtidSet,
    },
    /// Throw the data away and copy the donor's with MySQL's CLONE, then wait fenced for [`Command::Follow`]. Refused
    /// where the donor lacks something that the node holds and that is not given up by name.
    Clone {
        /// The node that is copied.
        donor: NodeId,
        /// The donor's IP address.
        address: String,
        /// What of the node's own data is given up. All else that it holds the donor must have executed. An operator of
        /// an earlier release names nothing.
        #[serde(default)]
        extra: GtidSet,
    },
    /// Throw the data away on which mysqld cannot run, and begin with an empty database, fenced. Sent only to a node
    /// that reports it as damaged.
    Discard,
    /// End without waiting to be relieved, where the agent was told to stop: its pod stays, and MySQL runs on.
    Leave,
}

/// What a node sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum ToOperator {
    /// The state of the node, now.
    Report {
        /// The state.
        report: Box<NodeReport>,
        /// The node understands [`ToNode::Picture`]. One that does not would close the session at it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        takes_pictures: bool,
        /// Transactions that the node keeps as files; `None` where that is as the session said last. A node of an
        /// earlier release never says it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<Box<Kept>>,
    },
    /// A command ended; a report that shows its effect was sent before.
    Outcome {
        /// The command's number.
        id: u64,
        /// Milliseconds that the node spent on it.
        took_ms: Millis,
        /// How it ended: `null`, or why it was not carried out.
        refusal: Option<Refusal>,
    },
    /// A question. Sent only to an operator whose hello says that it takes it; only one that leads answers.
    Ask {
        /// Chosen by the node, repeated in the answer.
        id: u64,
        /// The question.
        question: Question,
    },
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "refusal")]
pub enum Refusal {
    /// The node has seen a newer term.
    StaleTerm {
        /// The newest term the node has seen.
        current: Term,
    },
    /// A precondition of the command does not hold.
    Precondition {
        /// Which, in a sentence.
        message: String,
    },
    /// MySQL or the disk refused.
    Failed {
        /// The error, in a sentence.
        message: String,
    },
    /// A newer command took its place.
    Superseded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_an_agent_that_knows_no_pictures_and_tells_of_no_files_is_read_as_such() {
        let report = NodeReport {
            term: Term(1),
            ..NodeReport::new("v".into(), failover::Server::Starting)
        };
        let [old, new] = [false, true].map(|takes_pictures| ToOperator::Report {
            report: Box::new(report.clone()),
            takes_pictures,
            kept: takes_pictures.then(Box::default),
        });
        let line = serde_json::to_string(&old).unwrap();
        assert!(
            !line.contains("takesPictures") && !line.contains("kept"),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<ToOperator>(&line).unwrap(), old);
        let line = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<ToOperator>(&line).unwrap(), new);
    }

    #[test]
    fn a_hello_of_an_operator_that_takes_no_questions_is_read_as_such() {
        let old = r#"{"type":"hello","node":"db-0","cluster":"uid","heartbeatMs":100}"#;
        let read: ToNode = serde_json::from_str(old).unwrap();
        assert!(matches!(
            read,
            ToNode::Hello {
                takes_asks: false,
                ..
            }
        ));
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
    }

    #[test]
    fn a_credential_is_in_no_log() {
        let question = Question::Review {
            token: Credential("secret".to_owned()),
        };
        assert!(!format!("{question:?}").contains("secret"));
    }

    #[test]
    fn a_command_travels_as_one_readable_line() {
        let message = ToNode::Command {
            id: 7,
            term: Term(3),
            command: Command::Fence {
                orderly: false,
                deadline_ms: 500,
            },
        };
        let line = serde_json::to_string(&message).unwrap();
        assert_eq!(
            line,
            r#"{"type":"command","id":7,"term":3,"command":{"command":"fence","orderly":false,"deadlineMs":500}}"#
        );
        assert_eq!(serde_json::from_str::<ToNode>(&line).unwrap(), message);
    }
}
