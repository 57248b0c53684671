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

/// The moments of an outage, counted from the fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pieces {
    /// The first statement failed: until then the client knew nothing.
    pub cut: Duration,
    /// The login after which a write was acknowledged.
    pub login: Duration,
    /// That acknowledgement.
    pub answer: Duration,
    /// How often the server answered that it takes no writes.
    pub refusals: usize,
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

    /// What the first writer's outage is made of, for the search for its causes.
    pub fn pieces(&self, fault: Duration) -> Pieces {
        let entries = self.writers.first().map(Vec::as_slice).unwrap_or_default();
        let acknowledged = |entry: &&Entry| entry.outcome == Outcome::Acknowledged;
        let mut previous = fault;
        let mut longest = (fault, fault, fault);
        for entry in entries
            .iter()
            .filter(acknowledged)
            .filter(|entry| entry.ended > fault)
        {
            if entry.ended.saturating_sub(previous) > longest.2.saturating_sub(longest.0) {
                longest = (previous, entry.begun, entry.ended);
            }
            previous = entry.ended;
        }
        let (from, login, answer) = longest;
        let failed = entries
            .iter()
            .filter(|entry| entry.outcome != Outcome::Acknowledged);
        let failed = failed.filter(|entry| entry.ended > from && entry.ended < answer);
        let cut = failed.clone().next().map_or(login, |entry| entry.ended);
        Pieces {
            cut: cut.saturating_sub(fault),
            login: login.saturating_sub(fault),
            answer: answer.saturating_sub(fault),
            refusals: failed.filter(|entry| entry.outcome == Outcome::Refused).count(),
        }
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
    #[test]
    fn an_outage_is_told_by_the_failure_the_login_and_the_answer() {
        use Outcome::{Acknowledged, Refused, Unknown};
        let late = Entry {
            begun: Duration::from_millis(300),
            ..entry(4, 310, Acknowledged)
        };
        let writer = vec![
            entry(1, 10, Acknowledged),
            entry(2, 70, Unknown),
            entry(3, 90, Refused),
            late,
            entry(5, 315, Acknowledged),
        ];
        let ledger = Ledger {
            writers: vec![writer],
            ended: Duration::from_millis(320),
        };
        let millis = Duration::from_millis;
        let pieces = Pieces {
            cut: millis(50),
            login: millis(280),
            answer: millis(290),
            refusals: 1,
        };
        assert_eq!(ledger.pieces(millis(20)), pieces);
    }
}
