//! How long steady writers were without an acknowledgement, by the fault that did it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{evidence::Evidence, gaps, record::Outcome};

/// The name under which episodes of several faults are told together: which fault did it cannot be known.
pub const OVERLAPPING: &str = "overlapping";
/// How often its budget an outage may last among many other things before it is called late.
const TIMES: u64 = 3;

/// All faults of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultKind {
    /// How often it was done, alone or with others.
    pub faults: usize,
    /// How often alone; only these tell outages.
    pub alone: usize,
    /// Median outage.
    pub median_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// What one such fault may cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<u64>,
    /// Outages longer than three times the budget.
    pub late: usize,
}

/// Counts faults and measures outages.
pub fn measure(evidence: &Evidence) -> BTreeMap<String, FaultKind> {
    let moments = acknowledgements(evidence);
    let mut kinds: BTreeMap<String, FaultKind> = BTreeMap::new();
    let mut outages: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for episode in &evidence.episodes {
        for fault in &episode.faults {
            kinds.entry(fault.kind.clone()).or_default().faults += 1;
        }
        let Some(first) = episode.faults.first() else {
            continue;
        };
        let (from, to) = (gaps::micros(first.at), gaps::micros(episode.ended));
        let longest = moments.values().map(|moments| {
            let within = moments.partition_point(|at| *at <= to);
            gaps::longest(&moments[..within], from, to)
        });
        let outage = longest.max().unwrap_or_default();
        let kind = if episode.faults.len() == 1 {
            first.kind.as_str()
        } else {
            OVERLAPPING
        };
        kinds.entry(kind.to_owned()).or_default().alone += 1;
        let outage = u64::try_from(outage.as_millis()).unwrap_or(u64::MAX);
        outages.entry(kind.to_owned()).or_default().push(outage);
    }
    for (kind, facts) in &mut kinds {
        let outages = outages.remove(kind).unwrap_or_default();
        facts.budget_ms = evidence.header.budgets_ms.get(kind).copied();
        facts.median_ms = gaps::percentile(&outages, 50);
        facts.max_ms = gaps::percentile(&outages, 100);
        let late = |outage: &&u64| facts.budget_ms.is_some_and(|budget| **outage > budget * TIMES);
        facts.late = outages.iter().filter(late).count();
    }
    kinds
}

/// When each steady process was acknowledged something, in ascending order.
fn acknowledgements(evidence: &Evidence) -> BTreeMap<u32, Vec<std::time::Duration>> {
    let steady: BTreeSet<u32> = evidence
        .processes
        .iter()
        .filter(|process| process.steady)
        .map(|process| process.process)
        .collect();
    let mut moments: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for op in &evidence.ops {
        if op.outcome == Outcome::Ok && op.did.writes() && steady.contains(&op.process) {
            moments
                .entry(op.process)
                .or_default()
                .push(gaps::micros(op.ended));
        }
    }
    moments
}
