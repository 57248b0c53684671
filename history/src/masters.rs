//! One master at a time: terms only rise, no two labels at once, and no node acknowledges after a later master did.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    anomaly::{Anomaly, Name},
    evidence::{Evidence, at},
    record::{Op, Outcome},
};

/// How much later than it happened a new term may be heard of by whoever recorded, in microseconds.
const HEARD_LATE: u64 = 2_000_000;
/// How many of the same anomaly are told; more of them say nothing new.
const TOLD: usize = 5;

/// Judges labels, terms and acknowledgements.
pub fn judge(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) {
    for (moment, masters) in &evidence.labels {
        anomalies.push(Anomaly::new(
            Name::TwoLabels,
            format!("{} {} were labelled master", at(*moment), masters.join(" and ")),
        ));
    }
    let terms = terms(evidence, anomalies);
    acknowledgements(evidence, &terms, anomalies);
}

/// A term: when it was first heard of, and its master once there was one.
struct Term<'a> {
    heard: u64,
    master: Option<&'a str>,
}

fn terms<'a>(evidence: &'a Evidence, anomalies: &mut Vec<Anomaly>) -> BTreeMap<u64, Term<'a>> {
    let mut terms: BTreeMap<u64, Term> = BTreeMap::new();
    let mut highest = 0;
    for reign in &evidence.reigns {
        if reign.term < highest {
            anomalies.push(Anomaly::new(
                Name::TermFell,
                format!("{} the term fell from {highest} to {}", at(reign.at), reign.term),
            ));
        }
        highest = highest.max(reign.term);
        let term = terms.entry(reign.term).or_insert(Term {
            heard: reign.at,
            master: None,
        });
        match (&term.master, &reign.master) {
            (Some(before), Some(now)) if before != now => anomalies.push(Anomaly::new(
                Name::TermShared,
                format!(
                    "{} term {} has the master {now} after {before}",
                    at(reign.at),
                    reign.term
                ),
            )),
            (_, Some(now)) => term.master = Some(now),
            (_, None) => {}
        }
    }
    terms
}

/// Gives each acknowledgement the lowest term that it can belong to: its node leads in it, it had begun when the
/// client was answered, and it is not below a term in which somebody else had acknowledged before the client asked.
/// Where there is none, the node acknowledged although its reign was over, or never was.
fn acknowledgements(evidence: &Evidence, terms: &BTreeMap<u64, Term>, anomalies: &mut Vec<Anomaly>) {
    let mut by_begin: Vec<&Op> = evidence
        .ops
        .iter()
        .copied()
        .filter(|op| op.outcome == Outcome::Ok && op.did.writes())
        .collect();
    by_begin.sort_by_key(|op| op.begun);
    // Ends of those that have a term, waiting to count for those that begin later.
    let mut ended: BTreeMap<(u64, usize), (u64, &Op)> = BTreeMap::new();
    let mut reached: Option<(u64, &Op)> = None;
    let mut told = 0;
    // Terms whose master went before anybody heard its name, with the first to acknowledge in them.
    let mut nameless: BTreeMap<u64, &str> = BTreeMap::new();
    for (index, op) in by_begin.into_iter().enumerate() {
        while let Some(entry) = ended.first_entry() {
            if entry.key().0 >= op.begun {
                break;
            }
            let (term, before) = entry.remove();
            if reached.is_none_or(|(highest, _)| term > highest) {
                reached = Some((term, before));
            }
        }
        let lowest = reached.map_or(0, |(term, _)| term);
        let fits = |number: u64, term: &Term| {
            let master = term.master.or_else(|| nameless.get(&number).copied());
            master.is_none_or(|master| master == op.node) && term.heard <= op.ended + HEARD_LATE
        };
        let led = |term: &Term| term.master == Some(op.node.as_str());
        let mut fitting = terms
            .range(lowest..)
            .filter(|(number, term)| fits(**number, term));
        // Only who leads in no term that is known may have led in one whose master is not.
        let found = fitting
            .clone()
            .find(|(_, term)| led(term))
            .or_else(|| fitting.next());
        match found {
            Some((term, known)) => {
                if known.master.is_none() {
                    nameless.insert(*term, &op.node);
                }
                ended.insert((op.ended, index), (*term, op));
            }
            None if told < TOLD => {
                told += 1;
                anomalies.push(Anomaly::new(Name::TwoMasters, sentence(op, reached)));
            }
            None => {}
        }
    }
}

fn sentence(op: &Op, reached: Option<(u64, &Op)>) -> String {
    let mut text = format!("{} {} acknowledged {:?}", at(op.ended), op.node, op.did);
    // Writing to a String cannot fail.
    let _ = match reached {
        Some((term, before)) => write!(
            text,
            ", begun {}, although {} had acknowledged in term {term} {}",
            at(op.begun),
            before.node,
            at(before.ended)
        ),
        None => write!(text, " and led in no term"),
    };
    text
}
