//! Which slaves keep pace with their master. A slave that came back has to fetch and execute what it missed; if
//! another is taken away meanwhile, all writes wait for what it fetches, and if the master is, for what it executes.
//! Measured in time and with one clock: what the master had executed some moments ago is held against what the slave has
//! now.

use std::collections::{BTreeMap, VecDeque};

use api::resource::NodePace;
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
    slaves: BTreeMap<NodeId, NodePace>,
}

/// What a node had when it was last heard: executed, and received where it follows.
#[derive(Debug, Clone, Copy)]
struct Position<'a> {
    heard: Millis,
    executed: &'a GtidSet,
    received: &'a GtidSet,
}

impl Pace {
    /// Takes in what is observed now.
    pub fn note(&mut self, observed: &Observed) {
        let positions = observed
            .nodes
            .iter()
            .filter_map(|(name, view)| Some((name, Position::of(view)?)))
            .collect();
        self.compare(observed.record.term, observed.record.master.as_ref(), positions);
    }

    /// How well this slave keeps pace.
    pub fn of(&self, slave: &NodeId) -> NodePace {
        self.slaves.get(slave).copied().unwrap_or_default()
    }

    fn compare(&mut self, term: Term, master: Option<&NodeId>, mut positions: BTreeMap<&NodeId, Position>) {
        if term != self.term {
            *self = Self {
                term,
                ..Self::default()
            };
        }
        if let Some(Position { heard, executed, .. }) = master.and_then(|name| positions.remove(name)) {
            match self.executed.back_mut() {
                // At rest nothing is copied.
                Some((at, known)) if known == executed => *at = heard.max(*at),
                Some((at, _)) if *at >= heard => {}
                _ => self.executed.push_back((heard, executed.clone())),
            }
            while let Some((next, _)) = self.executed.get(1)
                && next + FAR < heard
            {
                self.executed.pop_front();
            }
        }
        self.slaves = positions
            .into_iter()
            .map(|(name, slave)| {
                let before = self.of(name);
                let is_near = |pace, set| {
                    let bound = if before >= pace { FAR } else { NEAR };
                    self.lag(slave.heard, set).is_some_and(|lag| lag <= bound)
                };
                let pace = if is_near(NodePace::Executes, slave.executed) {
                    NodePace::Executes
                } else if is_near(NodePace::Receives, &slave.executed.union(slave.received)) {
                    NodePace::Receives
                } else {
                    NodePace::Behind
                };
                (name.clone(), pace)
            })
            .collect();
    }

    /// How long before `heard` the master had executed no more than `set`; `None` where that was too long ago.
    fn lag(&self, heard: Millis, set: &GtidSet) -> Option<Millis> {
        let newest = self
            .executed
            .iter()
            .rev()
            .find(|(_, executed)| set.contains(executed))?;
        Some(heard.saturating_sub(newest.0))
    }
}

impl<'a> Position<'a> {
    fn of(view: &'a NodeView) -> Option<Self> {
        let (Session::Open { heard }, Some(server)) = (&view.session, view.server()) else {
            return None;
        };
        Some(Self {
            heard: *heard,
            executed: &server.executed,
            received: &server.received,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    /// A look at a master that executes one transaction a millisecond, and at its slave.
    fn look(pace: &mut Pace, now: Millis, term: u64, [unreceived, unexecuted]: [Millis; 2]) -> NodePace {
        let (master, slave) = (NodeId::from("db-0"), NodeId::from("db-1"));
        let upto = |upto| GtidSet::new().with(A, 1, upto);
        let [all, received, executed] = [now, now - unreceived, now - unexecuted].map(upto);
        let position = |received, executed| Position {
            heard: now,
            executed,
            received,
        };
        let positions = BTreeMap::from([
            (&master, position(&all, &all)),
            (&slave, position(&received, &executed)),
        ]);
        pace.compare(Term(term), Some(&master), positions);
        pace.of(&slave)
    }

    #[test]
    fn a_slave_keeps_pace_once_it_is_near_and_until_it_is_far_behind() {
        let mut pace = Pace::default();
        let mut now = 10_000;
        let mut look = |unreceived, unexecuted| {
            now += 300;
            look(&mut pace, now, 1, [unreceived, unexecuted])
        };
        // At first what it has is older than what is remembered.
        for behind in [5000, 5000, 4500, 4000, 3500, 3000, 2500, 2000, 1500, 1000] {
            assert_eq!(look(behind, 9000), NodePace::Behind);
        }
        assert_eq!(look(100, 9000), NodePace::Receives);
        assert_eq!(look(2500, 9000), NodePace::Receives, "not so soon");
        assert_eq!(look(0, 1000), NodePace::Receives);
        assert_eq!(look(0, 100), NodePace::Executes);
        assert_eq!(look(0, 2500), NodePace::Executes);
        assert_eq!(look(0, 4500), NodePace::Receives);
        assert_eq!(look(4500, 9000), NodePace::Behind);
        assert_eq!(look(1000, 9000), NodePace::Behind);
    }

    #[test]
    fn another_term_is_another_race() {
        let mut pace = Pace::default();
        assert_eq!(look(&mut pace, 10_000, 1, [0, 0]), NodePace::Executes);
        assert_eq!(look(&mut pace, 10_300, 2, [100, 100]), NodePace::Behind);
    }
}
