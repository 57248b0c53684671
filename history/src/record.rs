//! The format of a recorded history: one JSON object a line. All times are microseconds of one monotonic clock, that of
//! the program that recorded.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
};

use serde::{Deserialize, Serialize};

/// Raised when a reader of the old format would misunderstand the new one.
pub const FORMAT: u32 = 1;

/// What clients go through that do not stay with one node.
const SERVICES: [&str; 3] = ["master", "slaves", "any"];

/// The work of a client that looks on one node, through the data API, for rows that were written on another one.
pub const READS_FROM_OTHERS: &str = "apitokenreads";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Line {
    /// The first line.
    Begin(Header),
    /// A client that begins to work.
    Process(Process),
    /// An operation that has come to its end, whatever that was.
    Op(Op),
    /// The status names this term, and this master or none yet.
    Term {
        /// When it was heard of.
        at: u64,
        /// The term.
        term: u64,
        /// Its master.
        master: Option<String>,
    },
    /// The status told of a completed change of master; for people, the judgement does not use it.
    Change {
        /// When it was heard of.
        at: u64,
        /// Its term.
        term: u64,
        /// Why, in a word.
        cause: String,
        /// The new master.
        master: String,
        /// Milliseconds from the first evidence to the end of each step, in the order of time.
        steps: Vec<(String, u64)>,
    },
    /// The watch of labels and terms saw something that must never be.
    Seen {
        /// When.
        at: u64,
        /// Pods labelled master at that moment, if more than one.
        masters: Vec<String>,
    },
    /// A new connection through the master's Service reached a node that took no writes, and was given up.
    Misled {
        /// When.
        at: u64,
        /// The client.
        process: u32,
        /// That node.
        node: String,
    },
    /// Faults from one calm to the next.
    Episode(Episode),
    /// What a node holds at the end, when all is healed and everything executed.
    Holds(Holds),
    /// The last line of a run that came to its end.
    End {
        /// When.
        at: u64,
    },
}

/// What the history is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// What chose the faults.
    pub seed: u64,
    /// The longest outage that each kind of fault may cause, in milliseconds; a kind without one has no budget.
    pub budgets_ms: BTreeMap<String, u64>,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its number.
    pub process: u32,
    /// What it does, in a word.
    pub work: String,
    /// Where it connects: `master`, `slaves` and `any` are the Services, the data API's among them; anything else is the
    /// node that it stays with.
    pub through: String,
    /// It writes all the time through the master's Service: its pauses are outages.
    pub steady: bool,
}

impl Process {
    /// Whether it stays with one node, whatever that one's role.
    pub fn stays(&self) -> bool {
        !SERVICES.contains(&self.through.as_str())
    }

    /// Whether an operation with this outcome is something to judge the client by.
    pub fn is_heard_by(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Ok => true,
            // A node may be a slave from the beginning to the end, and refuse everything.
            Outcome::Fail => self.stays() && self.work != READS_FROM_OTHERS,
            Outcome::Unknown => false,
        }
    }

    /// Whether there may be nothing for it to do where this node leads at the end: it may have led all the time, and then
    /// it had nothing of others to show.
    pub fn may_be_idle(&self, master: Option<&str>) -> bool {
        self.work == READS_FROM_OTHERS && master == Some(self.through.as_str())
    }
}

/// One operation of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Op {
    /// Whose.
    pub process: u32,
    /// When the first statement was sent.
    pub begun: u64,
    /// When the outcome was known.
    pub ended: u64,
    /// The node that the connection leads to.
    pub node: String,
    /// The term that the status named when the outcome was known; for people, the judgement does not use it.
    pub term: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// What it was.
    #[serde(flatten)]
    pub did: Did,
}

/// The three outcomes. Unknown is one of its own: it may or may not have happened, or may happen later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The server said that it is done.
    Ok,
    /// The server said that it is not done, or nothing was asked of it.
    Fail,
    /// The connection broke or the deadline passed.
    Unknown,
}

/// What a client can do. Ids, elements and a register's values are never used twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub enum Did {
    /// A row of its own.
    Insert {
        /// The row's id.
        id: i64,
    },
    /// One row in each of two tables, in one transaction.
    Pair {
        /// The id of both rows.
        id: i64,
    },
    /// One more.
    Count {
        /// The counter.
        counter: String,
    },
    /// An element at the end of a list.
    Append {
        /// The list.
        list: i64,
        /// The element.
        element: i64,
    },
    /// The whole list, from any node.
    Read {
        /// The list.
        list: i64,
        /// What was read; meaningless unless ok.
        elements: Vec<i64>,
    },
    /// A new value of a register.
    Set {
        /// The register.
        register: i64,
        /// The value.
        value: i64,
    },
    /// The value of a register, from the master.
    Get {
        /// The register.
        register: i64,
        /// What was read, none before the first write; meaningless unless ok.
        value: Option<i64>,
    },
    /// A look for a row where its session's token is said to be executed: on a slave that says so of the token taken
    /// after the row's commit, or through the data API of another node, which was given the token with the read. It
    /// failed if nobody said so in time.
    Token {
        /// The row's id.
        id: i64,
        /// How many such rows were there; meaningless unless ok.
        found: u64,
    },
    /// The same look, answered by the master with the word that it does not hold the token's state.
    TokenLost {
        /// The row's id.
        id: i64,
    },
}

impl Did {
    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        match self {
            Self::Insert { .. }
            | Self::Pair { .. }
            | Self::Count { .. }
            | Self::Append { .. }
            | Self::Set { .. } => true,
            Self::Read { .. } | Self::Get { .. } | Self::Token { .. } | Self::TokenLost { .. } => false,
        }
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What was done.
    pub kind: String,
    /// To whom.
    pub on: String,
    /// When it was done.
    pub at: u64,
    /// When it was undone; the same moment for what undoes itself.
    pub mended: u64,
}

/// From the first fault to everything Ready again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Episode {
    /// In the order of time.
    pub faults: Vec<Fault>,
    /// When it was over or given up.
    pub ended: u64,
    /// What was still wrong when waiting was given up; none when all was well.
    pub unhealed: Option<String>,
    /// It began within a second of the calm before it.
    #[serde(default)]
    pub soon: bool,
}

/// A node's data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holds {
    /// The node.
    pub node: String,
    /// Ids of single rows, each as often as it is there.
    pub inserts: Vec<i64>,
    /// Ids in the first table of the pairs.
    pub first_halves: Vec<i64>,
    /// Ids in the second table of the pairs.
    pub second_halves: Vec<i64>,
    /// Counters.
    pub counters: BTreeMap<String, i64>,
    /// Lists.
    #[serde(with = "pairs")]
    pub lists: BTreeMap<i64, Vec<i64>>,
    /// Registers.
    #[serde(with = "pairs")]
    pub registers: BTreeMap<i64, i64>,
    /// The server's checksum of each table.
    pub checksums: BTreeMap<String, i64>,
}

/// Maps with numbers as keys, which JSON does not have, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer, T: Serialize>(map: &BTreeMap<i64, T>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        from: D,
    ) -> Result<BTreeMap<i64, T>, D::Error> {
        Ok(Vec::<(i64, T)>::deserialize(from)?.into_iter().collect())
    }
}

/// Why a file cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("the history cannot be read")]
    Read(#[from] io::Error),
    /// A line is not understood.
    #[error("line {number} is not understood")]
    Line {
        /// Counted from 1.
        number: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// It begins with something else.
    #[error("it does not begin with a header of format {FORMAT}: it was recorded by another version")]
    Format,
}

/// Reads a history.
///
/// # Errors
/// Where the file ends in the middle of a line, or is no history.
pub fn read(from: impl BufRead) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    for (index, text) in from.lines().enumerate() {
        let line = serde_json::from_str(&text?).map_err(|source| Error::Line {
            number: index + 1,
            source,
        })?;
        lines.push(line);
    }
    match lines.first() {
        Some(Line::Begin(header)) if header.format == FORMAT => Ok(lines),
        _ => Err(Error::Format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_one_flat_object() {
        let op = Line::Op(Op {
            process: 3,
            begun: 10,
            ended: 20,
            node: "a-0".to_owned(),
            term: 2,
            outcome: Outcome::Ok,
            did: Did::Append { list: 1, element: 7 },
        });
        let text = serde_json::to_string(&op).unwrap();
        assert_eq!(
            text,
            r#"{"line":"op","process":3,"begun":10,"ended":20,"node":"a-0","term":2,"outcome":"ok","op":"append","list":1,"element":7}"#
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), op);
    }

    #[test]
    fn what_a_node_holds_is_read_as_it_was_written() {
        let holds = Line::Holds(Holds {
            node: "a-0".to_owned(),
            lists: BTreeMap::from([(1, vec![2, 3])]),
            registers: BTreeMap::from([(4, 5)]),
            counters: BTreeMap::from([("c".to_owned(), 6)]),
            ..Holds::default()
        });
        let text = serde_json::to_string(&holds).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), holds);
    }

    #[test]
    fn a_file_without_header_or_with_a_torn_line_is_refused() {
        let header = format!(r#"{{"line":"begin","format":{FORMAT},"seed":1,"budgetsMs":{{}}}}"#);
        assert!(read(header.as_bytes()).is_ok());
        assert!(matches!(
            read(r#"{"line":"end","at":1}"#.as_bytes()),
            Err(Error::Format)
        ));
        assert!(matches!(read(&b""[..]), Err(Error::Format)));
        let torn = format!("{header}\n{{\"line\":\"op\",\"pro");
        assert!(matches!(
            read(torn.as_bytes()),
            Err(Error::Line { number: 2, .. })
        ));
    }
}
