//! Which slaves execute as fast as the master commits. A slave that came back has to fetch and execute what it missed; if
//! another is taken away meanwhile, all writes wait for what it fetches, and if the master is, for what it executes.
//! Measured in time and with one clock: what the master had executed some moments ago is held against what the slave has
//! executed now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use failover::{GtidSet, Millis, NodeId, NodeView, Observed, Session, Term};

/// A slave that is no further behind than this keeps pace; reports are some hundred milliseconds apart.
const NEAR: Millis = 700;
/// One that did keeps pace until it is so far behind.
const FAR: Millis = 3000;

/// What one term's master had executed, and who kept pace with it.
#[derive(Debug, Default)]
pub struct Pace {
    term: Term,
    executed: VecDeque<(Millis, GtidSet)>,
    keeping: BTreeSet<NodeId>,
}

/// What a node had when it was last heard.
#[derive(Debug, Clone)]
struct Position {
    heard: Millis,
    executed: GtidSet,
}

impl Pace {
    /// Takes in what is observed now.
    pub fn note(&mut self, observed: &Observed) {
        let positions = observed
            .nodes
            .iter()
            .filter_map(|(name, view)| Some((name.clone(), Position::of(view)?)))
            .collect();
        self.compare(observed.record.term, observed.record.master.as_ref(), positions);
    }

    /// Whether this slave keeps pace.
    pub fn keeps(&self, node: &NodeId) -> bool {
        self.keeping.contains(node)
    }

    fn compare(&mut self, term: Term, master: Option<&NodeId>, mut positions: BTreeMap<NodeId, Position>) {
        if term != self.term {
            *self = Self {
                term,
                ..Self::default()
            };
        }
        if let Some(Position { heard, executed }) = master.and_then(|name| positions.remove(name)) {
            if self.executed.back().is_none_or(|(at, _)| *at < heard) {
                self.executed.push_back((heard, executed));
            }
            while let Some((next, _)) = self.executed.get(1)
                && next + FAR < heard
            {
                self.executed.pop_front();
            }
        }
        self.keeping = positions
            .into_iter()
            .filter(|(name, slave)| {
                let bound = if self.keeping.contains(name) { FAR } else { NEAR };
                self.lag(slave).is_some_and(|lag| lag <= bound)
            })
            .map(|(name, _)| name)
            .collect();
    }

    /// How long ago the master had executed no more than the slave has; `None` where that was too long ago.
    fn lag(&self, slave: &Position) -> Option<Millis> {
        let newest = self
            .executed
            .iter()
            .rev()
            .find(|(_, executed)| slave.executed.contains(executed))?;
        Some(slave.heard.saturating_sub(newest.0))
    }
}

impl Position {
    fn of(view: &NodeView) -> Option<Self> {
        let (Session::Open { heard }, Some(server)) = (&view.session, view.server()) else {
            return None;
        };
        Some(Self {
            heard: *heard,
            executed: server.executed.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    /// A look at a master that executes one transaction a millisecond, and at its slave.
    fn look(pace: &mut Pace, now: Millis, term: u64, slave_behind: Millis) -> bool {
        let (master, slave) = (NodeId::from("db-0"), NodeId::from("db-1"));
        let position = |upto| Position {
            heard: now,
            executed: GtidSet::new().with(A, 1, upto),
        };
        let positions = BTreeMap::from([
            (master.clone(), position(now)),
            (slave.clone(), position(now - slave_behind)),
        ]);
        pace.compare(Term(term), Some(&master), positions);
        pace.keeps(&slave)
    }

    #[test]
    fn a_slave_keeps_pace_once_it_is_near_and_until_it_is_far_behind() {
        let mut pace = Pace::default();
        let mut now = 10_000;
        let mut look = |behind: Millis| {
            now += 300;
            look(&mut pace, now, 1, behind)
        };
        assert!(!look(5000), "what it has is older than what is remembered");
        for behind in [5000, 4500, 4000, 3500, 3000, 2500, 2000, 1500, 1000] {
            assert!(!look(behind));
        }
        assert!(look(100));
        assert!(look(2500), "not so soon");
        assert!(!look(4500));
        assert!(!look(1000));
    }

    #[test]
    fn another_term_is_another_race() {
        let mut pace = Pace::default();
        assert!(look(&mut pace, 10_000, 1, 0));
        assert!(!look(&mut pace, 10_300, 2, 100));
    }
}
