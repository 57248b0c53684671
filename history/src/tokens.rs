//! Session tokens: a slave that says it has executed the token shows what the token covers.

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
}

/// Judges all reads after tokens.
pub fn judge(evidence: &Evidence, anomalies: &mut Vec<Anomaly>) -> Count {
    let mut count = Count::default();
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
