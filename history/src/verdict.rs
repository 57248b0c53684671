//! All judgements together.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    anomaly::{Anomaly, Name},
    evidence::Evidence,
    lists, masters, outages,
    outages::{FaultKind, Late},
    record::{Line, Op, Outcome, Process},
    registers, tokens, writes,
};

/// What is told of a history.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// How many faults.
    pub faults: usize,
    /// Acknowledged writes of all kinds.
    pub acknowledged: usize,
    /// Writes of unknown outcome.
    pub unknown: usize,
    /// Reads that were answered.
    pub reads: usize,
    /// Acknowledged writes that some node lacks at the end.
    pub lost: usize,
    /// Writes that some node holds more than once.
    pub doubled: usize,
    /// Reads older than their session's token.
    pub stale: usize,
    /// States of acknowledged rows' tokens that a master lacked.
    pub lost_states: usize,
    /// Reads after a token that the node had executed.
    pub token_reads: usize,
    /// New connections through the master's Service that reached a node which took no writes.
    pub misled: usize,
    /// Registers judged.
    pub registers: usize,
    /// Terms seen.
    pub terms: usize,
    /// Outages longer than three times their budget.
    pub late: usize,
    /// `ok` or `violated`.
    pub verdict: &'static str,
    /// How many anomalies of each name.
    pub anomalies: BTreeMap<String, usize>,
    /// Faults and outages by kind.
    pub kinds: BTreeMap<String, FaultKind>,
    /// The late outages, each with the changes of master meanwhile.
    pub late_outages: Vec<Late>,
    /// The anomalies themselves.
    #[serde(skip)]
    pub details: Vec<Anomaly>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.details.is_empty()
    }

    /// Whether an anomaly of this name was found.
    pub fn has(&self, name: Name) -> bool {
        self.details.iter().any(|anomaly| anomaly.name == name)
    }
}

/// Judges a whole history.
pub fn judge(lines: &[Line]) -> Verdict {
    let evidence = Evidence::of(lines);
    let mut details = Vec::new();
    complete(&evidence, &mut details);
    let rows = writes::rows(&evidence, &mut details);
    let counters = writes::counters(&evidence, &mut details);
    let lists = lists::judge(&evidence, &mut details);
    writes::equal(&evidence, &mut details);
    masters::judge(&evidence, &mut details);
    let tokens = tokens::judge(&evidence, &mut details);
    let registers = registers::judge(&evidence, &mut details);
    let mut anomalies: BTreeMap<String, usize> = BTreeMap::new();
    for anomaly in &details {
        *anomalies.entry(anomaly.name.word()).or_default() += 1;
    }
    let (kinds, late_outages) = outages::measure(&evidence);
    let count = |writes: bool, outcome: Outcome| {
        let wanted = evidence.ops.iter().filter(|op| op.did.writes() == writes);
        wanted.filter(|op| op.outcome == outcome).count()
    };
    Verdict {
        faults: evidence.episodes.iter().map(|episode| episode.faults.len()).sum(),
        acknowledged: count(true, Outcome::Ok),
        unknown: count(true, Outcome::Unknown),
        reads: count(false, Outcome::Ok),
        lost: rows.lost + counters.lost + lists.lost,
        doubled: rows.doubled + counters.doubled + lists.doubled,
        stale: tokens.stale,
        lost_states: tokens.lost,
        token_reads: tokens.reads,
        misled: evidence.misled,
        registers,
        terms: evidence
            .reigns
            .iter()
            .map(|reign| reign.term)
            .collect::<BTreeSet<_>>()
            .len(),
        late: late_outages.len(),
        verdict: if details.is_empty() { "ok" } else { "violated" },
        anomalies,
        kinds,
        late_outages,
        details,
    }
}

/// A judgement over nothing would always be good.
fn complete(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) {
    let missing = [
        (evidence.ended.is_none(), "the end of the run"),
        (evidence.nodes.is_empty(), "what the nodes hold at the end"),
        (evidence.reigns.is_empty(), "every term"),
        (evidence.processes.is_empty(), "every client"),
        (
            !evidence
                .ops
                .iter()
                .any(|op| op.outcome == Outcome::Ok && op.did.writes()),
            "any acknowledged write",
        ),
        (
            evidence.episodes.iter().all(|episode| episode.faults.is_empty()),
            "any fault",
        ),
    ];
    for (_, what) in missing.iter().filter(|(missing, _)| *missing) {
        anomalies.push(Anomaly::new(
            Name::Incomplete,
            format!("the history lacks {what}"),
        ));
    }
    for (process, what) in unheard(evidence) {
        let Process {
            process: number,
            work,
            through,
            steady: _,
        } = process;
        anomalies.push(Anomaly::new(
            Name::Incomplete,
            format!("the history lacks {what} of client {number} ({work} through {through})"),
        ));
    }
    for episode in &evidence.episodes {
        if let Some(what) = &episode.unhealed {
            let kinds: Vec<&str> = episode.faults.iter().map(|fault| fault.kind.as_str()).collect();
            anomalies.push(Anomaly::new(
                Name::NotHealed,
                format!("after {}: {what}", kinds.join(" and ")),
            ));
        }
    }
}

/// Clients that saw nothing which could be judged, and what there should be of them.
fn unheard<'a>(evidence: &Evidence<'a>) -> Vec<(&'a Process, &'static str)> {
    let mut heard: BTreeMap<u32, BTreeSet<Outcome>> = BTreeMap::new();
    for Op { process, outcome, .. } in &evidence.ops {
        heard.entry(*process).or_default().insert(*outcome);
    }
    let leads = evidence
        .reigns
        .iter()
        .rev()
        .find_map(|reign| reign.master.as_deref());
    let lacking = |process: &Process| {
        let outcomes = heard.get(&process.process).into_iter().flatten();
        let is_heard = outcomes.copied().any(|outcome| process.is_heard_by(outcome));
        if is_heard || process.may_be_idle(leads) {
            return None;
        }
        Some(if process.is_heard_by(Outcome::Fail) {
            "any answer to an operation"
        } else {
            "any operation that succeeded"
        })
    };
    let processes = evidence.processes.iter().copied();
    processes
        .filter_map(|process| Some((process, lacking(process)?)))
        .collect()
}
