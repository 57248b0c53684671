//! Session tokens: a node that says it has executed the token shows what the token covers, and no master lacks the state
//! of an acknowledged row's token. No fault of a run is a promotion by force, which alone may give a state up.

use std::collections::BTreeSet;

use crate::{
    anomaly::{Anomaly, Name},
    evidence::{Evidence, at},
    record::{Did, Outcome},
};

/// What was read with tokens.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Reads after the token was there.
    pub reads: usize,
    /// Of these, those that did not show the write.
    pub stale: usize,
    /// States that a master lacked, by the rows that they contain.
    pub lost: usize,
}

/// Judges all reads after tokens.
pub fn judge(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) -> Count {
    let mut count = Count {
        lost: lost(evidence, anomalies),
        ..Count::default()
    };
    for op in evidence.ops.iter().filter(|op| op.outcome == Outcome::Ok) {
        let Did::Token { id, found } = op.did else {
            continue;
        };
        count.reads += 1;
        match found {
            0 => {
                count.stale += 1;
                anomalies.push(Anomaly::new(
                    Name::StaleTokenRead,
                    format!(
                        "{} {} had executed the token of row {id} and did not show it",
                        at(op.ended),
                        op.node
                    ),
                ));
            }
            1 => {}
            more => anomalies.push(Anomaly::new(
                Name::DoubledWrite,
                format!("{} {} showed row {id} {more} times", at(op.ended), op.node),
            )),
        }
    }
    count
}

fn lost(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) -> usize {
    let mut acknowledged = BTreeSet::new();
    let mut lost = BTreeSet::new();
    for op in evidence.ops.iter().filter(|op| op.outcome == Outcome::Ok) {
        match op.did {
            Did::Insert { id } => _ = acknowledged.insert(id),
            // Operations are in the order of their ends, and a token comes with the acknowledgement.
            Did::TokenLost { id } if acknowledged.contains(&id) && lost.insert(id) => {
                let what = "said that it lacks the state of the token of row";
                anomalies.push(Anomaly::new(
                    Name::LostState,
                    format!("{} {} {what} {id}, which was acknowledged", at(op.ended), op.node),
                ));
            }
            _ => {}
        }
    }
    lost.len()
}
