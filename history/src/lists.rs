//! Lists that only grow: what was acknowledged is in them once and in order, and whoever read one saw its beginning.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    anomaly::{Anomaly, Name},
    evidence::{Evidence, at, some},
    record::{Did, Op, Outcome},
    writes::Count,
};

/// Judges all lists on all nodes.
pub fn judge(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) -> Count {
    let mut appends: BTreeMap<i64, BTreeMap<i64, &Op>> = BTreeMap::new();
    for op in &evidence.ops {
        if let Did::Append { list, element } = op.did {
            appends.entry(list).or_default().insert(element, op);
        }
    }
    let (mut lost, mut doubled) = (BTreeSet::new(), BTreeSet::new());
    for node in &evidence.nodes {
        for (list, appends) in &appends {
            let holds = node.lists.get(list).map(Vec::as_slice).unwrap_or_default();
            let place = format!("list {list} on {}", node.node);
            present(&place, holds, appends, (&mut lost, &mut doubled), anomalies);
            order(&place, holds, appends, anomalies);
        }
    }
    reads(evidence, anomalies);
    Count {
        lost: lost.len(),
        doubled: doubled.len(),
    }
}

fn present(
    place: &str,
    holds: &[i64],
    appends: &BTreeMap<i64, &Op>,
    (lost, doubled): (&mut BTreeSet<i64>, &mut BTreeSet<i64>),
    anomalies: &mut Vec<Anomaly>,
) {
    let mut seen = BTreeSet::new();
    let repeated: Vec<i64> = holds
        .iter()
        .copied()
        .filter(|element| !seen.insert(*element))
        .collect();
    let with = |outcome: Outcome, there: bool| -> Vec<i64> {
        appends
            .iter()
            .filter(|(element, op)| op.outcome == outcome && seen.contains(element) == there)
            .map(|(element, _)| *element)
            .collect()
    };
    let missing = with(Outcome::Ok, false);
    let refused = with(Outcome::Fail, true);
    let strange: Vec<i64> = seen
        .iter()
        .copied()
        .filter(|element| !appends.contains_key(element))
        .collect();
    lost.extend(&missing);
    doubled.extend(&repeated);
    for (name, what, elements) in [
        (Name::LostAppend, "lacks acknowledged elements", missing),
        (Name::DoubledAppend, "holds elements more than once", repeated),
        (
            Name::RefusedWriteFound,
            "holds elements that were refused",
            refused,
        ),
        (Name::UnknownRow, "holds elements that nobody appended", strange),
    ] {
        if !elements.is_empty() {
            anomalies.push(Anomaly::new(name, format!("{place} {what}: {}", some(&elements))));
        }
    }
}

/// An element must not stand before one whose append was acknowledged before its own began.
fn order(place: &str, holds: &[i64], appends: &BTreeMap<i64, &Op>, anomalies: &mut Vec<Anomaly>) {
    // From the end: the earliest acknowledgement among all that stand later.
    let mut earliest: Option<(u64, i64)> = None;
    for element in holds.iter().rev() {
        let Some(op) = appends.get(element) else { continue };
        if let Some((ended, later)) = earliest
            && ended < op.begun
        {
            anomalies.push(Anomaly::new(
                Name::AppendOrder,
                format!("{place}: {element} stands before {later}, which had been acknowledged before it was begun"),
            ));
            return;
        }
        if op.outcome == Outcome::Ok && earliest.is_none_or(|(ended, _)| op.ended < ended) {
            earliest = Some((op.ended, *element));
        }
    }
}

fn reads(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) {
    // Nodes that differ are told elsewhere; one of them is enough to compare with.
    let Some(end) = evidence.nodes.first() else { return };
    for op in &evidence.ops {
        let Did::Read { list, elements } = &op.did else {
            continue;
        };
        let became = end.lists.get(list).map(Vec::as_slice).unwrap_or_default();
        if op.outcome == Outcome::Ok && !became.starts_with(elements) {
            let first = elements.iter().zip(became).position(|(read, is)| read != is);
            let first = first.unwrap_or(became.len());
            anomalies.push(Anomaly::new(
                Name::PhantomRead,
                format!(
                    "{} list {list} was read on {} with {} elements; from number {} on it became something else: read {}, became {}",
                    at(op.ended),
                    op.node,
                    elements.len(),
                    first + 1,
                    some(&elements[first.min(elements.len())..]),
                    some(&became[first..]),
                ),
            ));
        }
    }
}
