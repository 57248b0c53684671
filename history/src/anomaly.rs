//! What can be wrong with a history, by name.

use serde::Serialize;

/// The names of anomalies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Name {
    /// An acknowledged row or transaction is missing on a node.
    LostWrite,
    /// A row is there more than once.
    DoubledWrite,
    /// What the server refused is there.
    RefusedWriteFound,
    /// What no client ever wrote is there.
    UnknownRow,
    /// Of a transaction over two tables only one half is there.
    HalfTransaction,
    /// A counter shows fewer than the acknowledged increments.
    LostIncrement,
    /// A counter shows more than the increments that may have happened.
    DoubledIncrement,
    /// An acknowledged append is missing on a node.
    LostAppend,
    /// An element is in its list more than once.
    DoubledAppend,
    /// An append stands before one that had been acknowledged before it began.
    AppendOrder,
    /// A list was read that is not the beginning of what it became: somebody saw what was taken back.
    PhantomRead,
    /// A read after a session's token does not show what the token covers.
    StaleTokenRead,
    /// A master said that it lacks the state of an acknowledged row's token.
    LostState,
    /// A node acknowledged after a master of a later term had done so.
    TwoMasters,
    /// Two pods were labelled master at the same moment.
    TwoLabels,
    /// The term fell.
    TermFell,
    /// Two masters have the same term.
    TermShared,
    /// No order of a register's operations explains what its clients saw.
    NotLinearizable,
    /// Whether such an order exists could not be found out.
    Undecided,
    /// Nodes hold different data.
    NodesDiffer,
    /// Not everything was Ready again in time.
    NotHealed,
    /// The history lacks what a judgement needs.
    Incomplete,
}

impl Name {
    /// As it is printed and stands in JSON.
    pub fn word(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

/// One anomaly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// Which.
    pub name: Name,
    /// What exactly, in a sentence.
    pub what: String,
}

impl Anomaly {
    /// An anomaly.
    pub fn new(name: Name, what: impl Into<String>) -> Self {
        Self {
            name,
            what: what.into(),
        }
    }
}
