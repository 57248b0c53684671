//! Imports: rows that come as a stream, committed a chunk at a time.
//!
//! An import is a job that is known by its id, which is the request's `Idempotency-Key` where it has one. What became
//! of it so far is stored with the key, in the transaction of each chunk: whichever node is the master later, it knows
//! to the line what is in the table, and the same body sent again goes on behind it.

pub mod create;
mod job;
pub mod list;
pub mod read;
mod record;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Refused rows that are listed; more are only counted.
const LISTED: usize = 500;
/// The longest reason that is kept, in characters.
const LONGEST: usize = 200;

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its rows are coming.
    Running,
    /// All of it was taken.
    Complete,
    /// It ended before, for the reason that it says.
    Stopped,
    /// The master or its agent ended meanwhile, as far as is known: there is a later term, or it was silent for minutes.
    Interrupted,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// The line that it begins in.
    line: u64,
    /// What is wrong with it.
    reason: String,
}

impl Refused {
    fn new(line: u64, reason: &str) -> Self {
        let reason = reason.chars().take(LONGEST).collect();
        Self { line, reason }
    }
}

/// An import. What it counts is committed; what the body held beyond `line` is not in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// Its id. The same body with this as its `Idempotency-Key` goes on behind `line`.
    id: String,
    /// The database.
    database: String,
    /// The table.
    table: String,
    /// How far it is.
    state: State,
    /// Why it was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The last line that is settled, 0 before the first.
    line: u64,
    /// Rows up to there: taken and refused.
    read: u64,
    /// Rows that were taken: inserted, merged, or, where that was asked for, left as they were.
    rows: u64,
    /// Rows that were refused.
    refused: u64,
    /// The first of the refused rows.
    list: Vec<Refused>,
    /// The node that carries it out.
    node: String,
    /// The term of its master.
    term: u64,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    begun: jiff::Timestamp,
    /// When it was last known.
    #[schema(value_type = String, format = DateTime)]
    changed: jiff::Timestamp,
}
