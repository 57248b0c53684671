//! Rows, transactions over two tables and counters: what was acknowledged is there, exactly once, on every node.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    anomaly::{Anomaly, Name},
    evidence::{Evidence, some},
    record::{Did, Holds, Outcome},
};

/// What became of the ids of one kind of write.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeSet<i64>,
    refused: BTreeSet<i64>,
    unknown: BTreeSet<i64>,
}

impl Told {
    fn of(evidence: &Evidence, id: impl Fn(&Did) -> Option<i64>) -> Self {
        let mut told = Self::default();
        for op in &evidence.ops {
            let Some(id) = id(&op.did) else { continue };
            match op.outcome {
                Outcome::Ok => told.acknowledged.insert(id),
                Outcome::Fail => told.refused.insert(id),
                Outcome::Unknown => told.unknown.insert(id),
            };
        }
        told
    }
}

/// How many acknowledged writes some node lacks, and how many rows are somewhere more than once.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Acknowledged and missing somewhere.
    pub lost: usize,
    /// There more than once somewhere.
    pub doubled: usize,
}

/// Judges single rows and pairs.
pub fn rows(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) -> Count {
    let inserts = Told::of(evidence, |did| match did {
        Did::Insert { id } => Some(*id),
        _ => None,
    });
    let pairs = Told::of(evidence, |did| match did {
        Did::Pair { id } => Some(*id),
        _ => None,
    });
    let (mut lost, mut doubled) = (BTreeSet::new(), BTreeSet::new());
    for node in &evidence.nodes {
        for (table, told, rows) in [
            ("the single rows", &inserts, &node.inserts),
            ("the first halves", &pairs, &node.first_halves),
            ("the second halves", &pairs, &node.second_halves),
        ] {
            table_of(node, table, told, rows, (&mut lost, &mut doubled), anomalies);
        }
        halves(node, anomalies);
    }
    Count {
        lost: lost.len(),
        doubled: doubled.len(),
    }
}

fn table_of(
    node: &Holds,
    table: &str,
    told: &Told,
    rows: &[i64],
    (lost, doubled): (&mut BTreeSet<i64>, &mut BTreeSet<i64>),
    anomalies: &mut Vec<Anomaly>,
) {
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    for id in rows {
        *times.entry(*id).or_default() += 1;
    }
    let missing: Vec<i64> = told
        .acknowledged
        .iter()
        .copied()
        .filter(|id| !times.contains_key(id))
        .collect();
    let repeated: Vec<i64> = times
        .iter()
        .filter(|(_, count)| **count > 1)
        .map(|(id, _)| *id)
        .collect();
    let refused: Vec<i64> = told
        .refused
        .iter()
        .copied()
        .filter(|id| times.contains_key(id))
        .collect();
    let known =
        |id: &i64| told.acknowledged.contains(id) || told.refused.contains(id) || told.unknown.contains(id);
    let strange: Vec<i64> = times.keys().copied().filter(|id| !known(id)).collect();
    lost.extend(&missing);
    doubled.extend(&repeated);
    for (name, what, ids) in [
        (Name::LostWrite, "lack acknowledged writes", missing),
        (Name::DoubledWrite, "hold writes more than once", repeated),
        (Name::RefusedWriteFound, "hold writes that were refused", refused),
        (Name::UnknownRow, "hold rows that nobody wrote", strange),
    ] {
        if !ids.is_empty() {
            anomalies.push(Anomaly::new(
                name,
                format!("{table} on {} {what}: {} ({})", node.node, ids.len(), some(&ids)),
            ));
        }
    }
}

fn halves(node: &Holds, anomalies: &mut Vec<Anomaly>) {
    let first: BTreeSet<i64> = node.first_halves.iter().copied().collect();
    let second: BTreeSet<i64> = node.second_halves.iter().copied().collect();
    let alone: Vec<i64> = first.symmetric_difference(&second).copied().collect();
    if !alone.is_empty() {
        anomalies.push(Anomaly::new(
            Name::HalfTransaction,
            format!(
                "{} holds half of {} transactions ({})",
                node.node,
                alone.len(),
                some(&alone)
            ),
        ));
    }
}

/// Judges counters: an increment has no id, so only their number can be wrong.
pub fn counters(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) -> Count {
    let (mut least, mut most): (BTreeMap<&str, i64>, BTreeMap<&str, i64>) = Default::default();
    for op in &evidence.ops {
        if let Did::Count { counter } = &op.did {
            *least.entry(counter).or_default() += i64::from(op.outcome == Outcome::Ok);
            *most.entry(counter).or_default() += i64::from(op.outcome != Outcome::Fail);
        }
    }
    let mut worst: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for node in &evidence.nodes {
        for (counter, least) in &least {
            let most = most.get(counter).copied().unwrap_or(*least);
            let value = node.counters.get(*counter).copied().unwrap_or(0);
            let lost = usize::try_from(least - value).unwrap_or(0);
            let doubled = usize::try_from(value - most).unwrap_or(0);
            let worst = worst.entry(counter).or_default();
            *worst = (worst.0.max(lost), worst.1.max(doubled));
            let name = match (lost, doubled) {
                (0, 0) => continue,
                (0, _) => Name::DoubledIncrement,
                _ => Name::LostIncrement,
            };
            let what = format!(
                "counter {counter} is {value} on {}; {least} increments were acknowledged and at most {most} happened",
                node.node
            );
            anomalies.push(Anomaly::new(name, what));
        }
    }
    Count {
        lost: worst.values().map(|(lost, _)| lost).sum(),
        doubled: worst.values().map(|(_, doubled)| doubled).sum(),
    }
}

/// Judges that all nodes hold the same.
pub fn equal(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) {
    for pair in evidence.nodes.windows(2) {
        if pair[0].checksums != pair[1].checksums {
            anomalies.push(Anomaly::new(
                Name::NodesDiffer,
                format!(
                    "{} {:?}, {} {:?}",
                    pair[0].node, pair[0].checksums, pair[1].node, pair[1].checksums
                ),
            ));
        }
    }
}
