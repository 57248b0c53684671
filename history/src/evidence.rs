//! The lines of a history, sorted into what the judgements look at.

use crate::{
    gaps,
    record::{Episode, Header, Holds, Line, Op, Process},
};

/// A term as the status showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reign {
    /// When it was heard of.
    pub at: u64,
    /// The term.
    pub term: u64,
    /// Its master; none yet while it is being made.
    pub master: Option<String>,
}

/// A completed change of master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// When it was heard of.
    pub at: u64,
    /// Its term.
    pub term: u64,
    /// Why, in a word.
    pub cause: &'a str,
    /// The new master.
    pub master: &'a str,
    /// Milliseconds from the first evidence to the end of each step.
    pub steps: &'a [(String, u64)],
}

/// Everything.
#[derive(Debug, Default)]
pub struct Evidence<'a> {
    /// The first line.
    pub header: Header,
    /// Clients.
    pub processes: Vec<&'a Process>,
    /// Operations in the order in which they ended.
    pub ops: Vec<&'a Op>,
    /// Terms in the order in which they were heard of.
    pub reigns: Vec<Reign>,
    /// Completed changes of master.
    pub changes: Vec<Change<'a>>,
    /// Moments with more than one label.
    pub labels: Vec<(u64, &'a [String])>,
    /// Connections through the master's Service that reached a node which took no writes.
    pub misled: usize,
    /// Faults.
    pub episodes: Vec<&'a Episode>,
    /// The nodes at the end.
    pub nodes: Vec<&'a Holds>,
    /// When the run came to its end, if it did.
    pub ended: Option<u64>,
}

impl<'a> Evidence<'a> {
    /// Sorts.
    pub fn of(lines: &'a [Line]) -> Self {
        let mut evidence = Self::default();
        for line in lines {
            match line {
                Line::Begin(header) => evidence.header = header.clone(),
                Line::Process(process) => evidence.processes.push(process),
                Line::Op(op) => evidence.ops.push(op),
                Line::Term { at, term, master } => evidence.reigns.push(Reign {
                    at: *at,
                    term: *term,
                    master: master.clone(),
                }),
                Line::Change {
                    at,
                    term,
                    cause,
                    master,
                    steps,
                } => evidence.changes.push(Change {
                    at: *at,
                    term: *term,
                    cause,
                    master,
                    steps,
                }),
                Line::Seen { at, masters } => evidence.labels.push((*at, masters)),
                Line::Misled { .. } => evidence.misled += 1,
                Line::Episode(episode) => evidence.episodes.push(episode),
                Line::Holds(holds) => evidence.nodes.push(holds),
                Line::End { at } => evidence.ended = Some(*at),
            }
        }
        evidence.ops.sort_by_key(|op| op.ended);
        evidence
    }
}

/// Microseconds as text for people.
pub fn at(micros: u64) -> String {
    format!("at {} ms", gaps::micros(micros).as_millis())
}

/// The first few of many.
pub fn some<T: ToString>(many: &[T]) -> String {
    let shown: Vec<String> = many.iter().take(10).map(T::to_string).collect();
    shown.join(", ") + if many.len() > 10 { ", …" } else { "" }
}
