//! Registers: some order of all operations, each at one moment between its beginning and its end, explains what every
//! client saw. The search is stateright's; it is exponential in what is concurrent, so clients leave a register after a
//! few dozen operations, and each register is judged by itself.

use std::collections::BTreeMap;

use stateright::semantics::{
    ConsistencyTester, LinearizabilityTester,
    register::{Register, RegisterOp, RegisterRet},
};

use crate::{
    anomaly::{Anomaly, Name},
    evidence::{Evidence, at},
    record::{Did, Op, Outcome},
};

/// More operations on one register, or more of unknown outcome, might keep the search busy for hours.
const MOST: usize = 400;
const MOST_UNKNOWN: usize = 12;

type Tester = LinearizabilityTester<usize, Register<Option<i64>>>;

/// Judges every register; gives how many there were.
pub fn judge(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) -> usize {
    let mut registers: BTreeMap<i64, Vec<&Op>> = BTreeMap::new();
    for op in &evidence.ops {
        if let Did::Set { register, .. } | Did::Get { register, .. } = op.did {
            registers.entry(register).or_default().push(op);
        }
    }
    for (register, ops) in &registers {
        let counts: Vec<&Op> = ops.iter().copied().filter(|op| counts(op)).collect();
        let unknown = counts.iter().filter(|op| op.outcome == Outcome::Unknown).count();
        if counts.len() > MOST || unknown > MOST_UNKNOWN {
            anomalies.push(Anomaly::new(
                Name::Incomplete,
                format!(
                    "register {register} has {} operations, {unknown} of unknown outcome: too many to judge",
                    counts.len()
                ),
            ));
        } else if !linearizable(&counts) {
            let from = counts.iter().map(|op| op.begun).min().unwrap_or_default();
            anomalies.push(Anomaly::new(
                Name::NotLinearizable,
                format!("{} register {register}: {}", at(from), story(&counts)),
            ));
        }
    }
    registers.len()
}

/// What was refused did not happen, and a read without an answer says nothing.
fn counts(op: &Op) -> bool {
    match op.outcome {
        Outcome::Ok => true,
        Outcome::Fail => false,
        Outcome::Unknown => op.did.writes(),
    }
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
