//! How long steady writers were without an acknowledgement, by the fault that did it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    evidence::{Change, Evidence},
    gaps,
    record::Outcome,
};

/// The name under which episodes of several faults are told together: which fault did it cannot be known.
pub const OVERLAPPING: &str = "overlapping";
/// How often its budget an outage may last among many other things before it is called late.
const TIMES: u64 = 3;

/// How much longer where the fault came within a second of the calm before it: kube-proxy carries changes out once a
/// second, whatever they are.
const SOON_MS: u64 = 1000;

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
    /// Outages longer than three times the budget, and a second more where the fault came right after the calm.
    pub late: usize,
}

/// An outage that lasted longer than three times what its fault may cost, with what the system did meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Late {
    /// The fault.
    pub kind: String,
    /// Whom it met.
    pub on: String,
    /// When it was done, in milliseconds of the run.
    pub at_ms: u64,
    /// When the last write before the gap was acknowledged.
    pub from_ms: u64,
    /// How long the gap was.
    pub outage_ms: u64,
    /// The changes of master that were heard of from the fault to the next calm, each in a sentence.
    pub changes: Vec<String>,
}

/// Counts faults and measures outages; tells of each that was late.
pub fn measure(evidence: &Evidence) -> (BTreeMap<String, FaultKind>, Vec<Late>) {
    let moments = acknowledgements(evidence);
    let mut kinds: BTreeMap<String, FaultKind> = BTreeMap::new();
    let mut outages: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut late = Vec::new();
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
            gaps::longest_from(&moments[..within], from, to)
        });
        let (began, outage) = longest.max_by_key(|(_, gap)| *gap).unwrap_or_default();
        let kind = if episode.faults.len() == 1 {
            first.kind.as_str()
        } else {
            OVERLAPPING
        };
        let facts = kinds.entry(kind.to_owned()).or_default();
        facts.alone += 1;
        let outage_ms = millis(outage);
        let budget = evidence.header.budgets_ms.get(kind);
        let soon = if episode.soon { SOON_MS } else { 0 };
        if budget.is_some_and(|budget| outage_ms > budget * TIMES + soon) {
            facts.late += 1;
            late.push(Late {
                kind: kind.to_owned(),
                on: first.on.clone(),
                at_ms: millis(from),
                from_ms: millis(began),
                outage_ms,
                changes: changes(evidence, first.at, episode.ended),
            });
        }
        outages.entry(kind.to_owned()).or_default().push(outage_ms);
    }
    for (kind, facts) in &mut kinds {
        let outages = outages.remove(kind).unwrap_or_default();
        facts.budget_ms = evidence.header.budgets_ms.get(kind).copied();
        facts.median_ms = gaps::percentile(&outages, 50);
        facts.max_ms = gaps::percentile(&outages, 100);
    }
    (kinds, late)
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The changes of master heard of between two moments.
fn changes(evidence: &Evidence, from: u64, to: u64) -> Vec<String> {
    let within = evidence
        .changes
        .iter()
        .filter(|change| (from..=to).contains(&change.at));
    let sentence = |change: &Change| {
        let steps: Vec<String> = change
            .steps
            .iter()
            .map(|(step, at)| format!("{step} {at}"))
            .collect();
        format!(
            "term {} to {} by {}, heard of at {} ms: {} ms",
            change.term,
            change.master,
            change.cause,
            millis(gaps::micros(change.at)),
            steps.join(", ")
        )
    };
    within.map(sentence).collect()
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
