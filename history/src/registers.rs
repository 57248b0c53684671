//! Registers: some order of all operations, each at one moment between its beginning and its end, explains what every
//! client saw, and what each node holds at the end, as if a last client had read it there. The search is stateright's; it
//! is exponential in what is concurrent, so clients leave a register after a few dozen operations, and each register is
//! judged by itself. Where nothing fits, the search tries everything: what is plainly stale is therefore found first
//! without it, and a search that does not end is told as undecided, never as good.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use stateright::semantics::{
    ConsistencyTester, LinearizabilityTester,
    register::{Register, RegisterOp, RegisterRet},
};

use crate::{
    anomaly::{Anomaly, Name},
    evidence::{Evidence, at},
    record::{Did, Op, Outcome},
};

/// More operations on one register, or more of unknown outcome, would keep the search busy for hours.
const MOST: usize = 400;
const MOST_UNKNOWN: usize = 12;

/// How long the search may take for one register; an ordinary one takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so many registers that could not be decided the others are not looked at: each leaves a search behind that
/// goes on.
const MOST_UNDECIDED: usize = 4;

type Tester = LinearizabilityTester<usize, Register<Option<i64>>>;

/// Judges every register; gives how many there were.
pub fn judge(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) -> usize {
    let last = at_the_end(evidence);
    let mut registers: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    for op in evidence.ops.iter().copied().chain(&last) {
        if let Did::Set { register, .. } | Did::Get { register, .. } = op.did {
            registers.entry(register).or_default().push(op);
        }
    }
    let mut undecided = 0;
    for (register, ops) in &registers {
        let seen = Seen::of(ops);
        let counts: Vec<&Op> = ops.iter().copied().filter(|op| seen.counts(op)).collect();
        let from = counts.iter().map(|op| op.begun).min().unwrap_or_default();
        let told = |name, what: &str| Anomaly::new(name, format!("{} register {register}: {what}", at(from)));
        match decide(&counts) {
            Some(true) => {}
            Some(false) => anomalies.push(told(Name::NotLinearizable, &story(&counts))),
            None => {
                undecided += 1;
                anomalies.push(told(Name::Undecided, &story(&counts)));
            }
        }
        if undecided >= MOST_UNDECIDED {
            anomalies.push(told(Name::Undecided, "this and later ones are not looked at"));
            break;
        }
    }
    registers.len()
}

/// What the nodes hold when all is over, as reads after the last operation: of every register that was used, and of
/// those that a node has all the same. Nodes that hold the same count as one read, because each more costs the search.
fn at_the_end(evidence: &Evidence) -> Vec<Op> {
    let used = evidence.ops.iter().filter_map(|op| match op.did {
        Did::Set { register, .. } | Did::Get { register, .. } => Some(register),
        _ => None,
    });
    let held = evidence
        .nodes
        .iter()
        .flat_map(|node| node.registers.keys().copied());
    let registers: BTreeSet<i64> = used.chain(held).collect();
    let over = evidence.ops.iter().map(|op| op.ended).max().unwrap_or_default();
    let mut last = Vec::new();
    for register in registers {
        let mut values: BTreeMap<Option<i64>, Vec<&str>> = BTreeMap::new();
        for node in &evidence.nodes {
            let value = node.registers.get(&register).copied();
            values.entry(value).or_default().push(&node.node);
        }
        last.extend(values.into_iter().map(|(value, nodes)| Op {
            // No client's: theirs are counted from 1.
            process: 0,
            begun: over + 1,
            ended: over + 2,
            node: nodes.join(", "),
            term: 0,
            outcome: Outcome::Ok,
            did: Did::Get { register, value },
        }));
    }
    last
}

/// Of each value, none before the first, the first end and the last beginning of its reads.
struct Seen(BTreeMap<Option<i64>, (u64, u64)>);

impl Seen {
    fn of(ops: &[&Op]) -> Self {
        let mut seen: BTreeMap<Option<i64>, (u64, u64)> = BTreeMap::new();
        for op in ops.iter().filter(|op| op.outcome == Outcome::Ok) {
            if let Did::Get { value, .. } = op.did {
                let (ended, begun) = seen.entry(value).or_insert((op.ended, op.begun));
                *ended = op.ended.min(*ended);
                *begun = op.begun.max(*begun);
            }
        }
        Self(seen)
    }

    /// Whether the operation can change the judgement. What was refused did not happen, and a read without an answer says
    /// nothing. A write of unknown outcome that nobody read explains nothing: whatever explains the rest does so without
    /// it. A read between two others of the same value is explained with them, because no value is written twice. Without
    /// those the search takes a fraction of the time.
    fn counts(&self, op: &Op) -> bool {
        match (op.outcome, &op.did) {
            (Outcome::Ok, Did::Get { value, .. }) => {
                let between = self.0.get(value).is_some_and(|(first_end, last_begin)| {
                    (value.is_none() || *first_end < op.begun) && op.ended < *last_begin
                });
                !between
            }
            (Outcome::Ok, _) => true,
            (Outcome::Unknown, Did::Set { value, .. }) => self.0.contains_key(&Some(*value)),
            _ => false,
        }
    }
}

/// Whether they are linearizable; none where the search does not end.
fn decide(ops: &[&Op]) -> Option<bool> {
    if stale(ops) {
        return Some(false);
    }
    let unknown = ops.iter().filter(|op| op.outcome == Outcome::Unknown).count();
    if ops.len() > MOST || unknown > MOST_UNKNOWN {
        return None;
    }
    let owned: Vec<Op> = ops.iter().map(|op| (*op).clone()).collect();
    let (answer, answered) = channel();
    thread::spawn(move || {
        // Nobody listens any more once it took too long.
        let _ = answer.send(linearizable(&owned.iter().collect::<Vec<_>>()));
    });
    answered.recv_timeout(PATIENCE).ok()
}

/// What is wrong without any search: a read of what nobody had begun to write, or of a value after which another was
/// written as a whole, before the read began. No value is written twice.
fn stale(ops: &[&Op]) -> bool {
    let sets: BTreeMap<i64, &Op> = ops
        .iter()
        .filter_map(|op| match op.did {
            Did::Set { value, .. } => Some((value, *op)),
            _ => None,
        })
        .collect();
    let replaced = |since: Option<u64>, read: &Op| {
        sets.values().any(|other| {
            let whole = other.outcome == Outcome::Ok && other.ended < read.begun;
            whole && since.is_none_or(|since| since < other.begun)
        })
    };
    ops.iter().any(|read| match read.did {
        Did::Get { value: None, .. } => replaced(None, read),
        Did::Get {
            value: Some(value), ..
        } => match sets.get(&value) {
            None => true,
            Some(set) if set.begun > read.ended => true,
            // A write of unknown outcome may still happen later.
            Some(set) => set.outcome == Outcome::Ok && replaced(Some(set.ended), read),
        },
        _ => false,
    })
}

fn linearizable(ops: &[&Op]) -> bool {
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Edge {
        // At the same moment beginnings come first: then the two count as concurrent, which accuses nobody wrongly.
        Begins,
        Ends,
    }
    // Unknown ones get the last numbers, because the tester tries in this order and they seldom matter.
    let mut ordered: Vec<&Op> = ops.to_vec();
    ordered.sort_by_key(|op| (op.outcome == Outcome::Unknown, op.begun));
    let mut edges: Vec<(u64, Edge, usize)> = Vec::new();
    for (number, op) in ordered.iter().enumerate() {
        edges.push((op.begun, Edge::Begins, number));
        if op.outcome == Outcome::Ok {
            edges.push((op.ended, Edge::Ends, number));
        }
    }
    edges.sort_unstable();
    let mut tester = Tester::new(Register(None));
    for (_, edge, number) in edges {
        let taken = match (edge, &ordered[number].did) {
            (Edge::Begins, Did::Set { value, .. }) => {
                tester.on_invoke(number, RegisterOp::Write(Some(*value)))
            }
            (Edge::Begins, _) => tester.on_invoke(number, RegisterOp::Read),
            (Edge::Ends, Did::Get { value, .. }) => tester.on_return(number, RegisterRet::ReadOk(*value)),
            (Edge::Ends, _) => tester.on_return(number, RegisterRet::WriteOk),
        };
        // Every number begins once and ends once, after it began.
        if taken.is_err() {
            return false;
        }
    }
    tester.is_consistent()
}

fn story(ops: &[&Op]) -> String {
    let mut sorted = ops.to_vec();
    sorted.sort_by_key(|op| op.begun);
    let from = sorted.first().map_or(0, |op| op.begun);
    let one = |op: &&Op| {
        let what = match op.did {
            Did::Set { value, .. } => format!("set {value}"),
            Did::Get {
                value: Some(value), ..
            } => format!("got {value}"),
            _ => "got nothing".to_owned(),
        };
        let unknown = if op.outcome == Outcome::Unknown { "?" } else { "" };
        format!(
            "{what}{unknown} on {} {}–{} µs",
            op.node,
            op.begun - from,
            op.ended - from
        )
    };
    sorted.iter().map(one).collect::<Vec<_>>().join("; ")
}
