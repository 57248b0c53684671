//! What became of every write, as its client saw it. The ledger is the truth that the servers are compared with.

use std::{collections::BTreeSet, time::Duration};

use crate::gaps;

/// The three outcomes. Unknown is one of its own: such a write may or may not be there, and neither is a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server said OK: it must be there, on every node, for ever.
    Acknowledged,
    /// The server said that it did not do it: it must not be there.
    Refused,
    /// The connection broke or the deadline passed.
    Unknown,
}

/// One write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Never used twice, not even after an unknown outcome.
    pub id: i64,
    /// When the statement was sent.
    pub begun: Duration,
    /// When its outcome was known.
    pub ended: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// All writes of a run.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Each writer's own writes, in its order.
    pub writers: Vec<Vec<Entry>>,
    /// When the writers were stopped.
    pub ended: Duration,
}

impl Ledger {
    /// The ids of all writes with this outcome.
    pub fn ids(&self, outcome: Outcome) -> BTreeSet<i64> {
        self.writers
            .iter()
            .flatten()
            .filter(|entry| entry.outcome == outcome)
            .map(|entry| entry.id)
            .collect()
    }

    /// How many writes had this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.writers
            .iter()
            .flatten()
            .filter(|entry| entry.outcome == outcome)
            .count()
    }

    /// The longest time that a statement waited for an answer that never came: the part of an outage for which the
    /// client was held by a connection that nobody cut.
    pub fn longest_unanswered(&self) -> Duration {
        let unknown = self
            .writers
            .iter()
            .flatten()
            .filter(|entry| entry.outcome == Outcome::Unknown);
        unknown
            .map(|entry| entry.ended.saturating_sub(entry.begun))
            .max()
            .unwrap_or_default()
    }

    /// The outage around a fault: the longest time that the unluckiest writer was without an acknowledgement.
    pub fn outage(&self, fault: Duration) -> Duration {
        let of_one = |entries: &Vec<Entry>| {
            let acknowledged = entries
                .iter()
                .filter(|entry| entry.outcome == Outcome::Acknowledged);
            let moments: Vec<Duration> = acknowledged.map(|entry| entry.ended).collect();
            gaps::longest(&moments, fault, self.ended)
        };
        self.writers.iter().map(of_one).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i64, ended: u64, outcome: Outcome) -> Entry {
        let ended = Duration::from_millis(ended);
        Entry {
            id,
            begun: ended,
            ended,
            outcome,
        }
    }

    #[test]
    fn the_unluckiest_writer_tells_the_outage_and_only_acknowledgements_end_it() {
        use Outcome::{Acknowledged, Refused, Unknown};
        let lucky = vec![
            entry(1, 10, Acknowledged),
            entry(2, 110, Acknowledged),
            entry(3, 195, Acknowledged),
        ];
        let unlucky = vec![
            entry(11, 10, Acknowledged),
            entry(12, 20, Unknown),
            entry(13, 60, Refused),
            entry(14, 190, Acknowledged),
        ];
        let ledger = Ledger {
            writers: vec![lucky, unlucky],
            ended: Duration::from_millis(200),
        };
        assert_eq!(
            ledger.outage(Duration::from_millis(15)),
            Duration::from_millis(180)
        );
        assert_eq!(ledger.count(Acknowledged), 5);
        assert_eq!(ledger.ids(Unknown), BTreeSet::from([12]));
    }
}
