//! What was found, for programs, and the lines that people read meanwhile.

use serde::Serialize;

use crate::{overload::Overload, pairs::Compared};

/// Everything.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Point reads: MySQL directly, and the data API of the same node.
    pub read: Option<Read>,
    /// Single rows: semi-synchronous writes to MySQL directly, and through the data API of the master's node.
    pub write: Option<Compared>,
    /// One load of many rows: directly, and through the data API.
    pub bulk: Option<Bulk>,
    /// Three times the load that the node can bear.
    pub overload: Option<Overload>,
    /// Single rows of one client: to the master's node, and to a slave's, which has the master's carry them out.
    pub forward: Option<Compared>,
    /// The agent with very many requests at a time.
    pub memory: Option<Memory>,
}

/// Point reads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    /// What the API reaches of the direct clients' requests per second.
    pub ratio: f64,
    /// What the API adds to the median request of one client alone.
    pub added_median_ms: f64,
    /// Many clients.
    pub many: Compared,
    /// One client.
    pub alone: Compared,
}

/// One load of many rows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bulk {
    /// The direct load's time as a part of the API's: median of the turns.
    pub ratio: f64,
    /// How many rows.
    pub rows: i64,
    /// Median of the turns, directly and through the API.
    pub seconds: (f64, f64),
}

/// What the agent needs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Requests that were under way at the same time, each on a connection of its own.
    pub requests: u64,
    /// The most that was resident, in MiB.
    pub resident_mib: f64,
    /// The same for as many requests over a few connections of HTTP/2, in MiB.
    pub shared_mib: f64,
}

/// The value in the middle; nothing for none.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A line for people; programs read stdout.
pub fn line(text: &str) {
    eprintln!("{text}");
}
