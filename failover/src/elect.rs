//! Who is to lead: among fenced members, one that holds all that any of them holds.

use std::collections::BTreeMap;

use crate::{GtidSet, NodeId, ServerState};

/// What speaks for and against nodes beyond their data.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The node that was asked for.
    pub preferred: Option<NodeId>,
    /// Nodes that lead only when no other can, with the reason: the failed master, pods that are going away.
    pub avoid: BTreeMap<NodeId, String>,
}

/// The outcome of an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// The node that is to lead.
    pub chosen: NodeId,
    /// Why it.
    pub because: String,
    /// What it must have executed before it accepts writes: all that any fenced node holds.
    pub requires: GtidSet,
    /// The others, each with the reason.
    pub rejected: BTreeMap<NodeId, String>,
}

/// No node holds all that the fenced nodes hold together: each node with what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomparable {
    /// How many transactions each node lacks.
    pub lacks: BTreeMap<NodeId, u64>,
}

/// Chooses the node to lead.
///
/// # Errors
/// [`Incomparable`] where no fenced node holds everything; promoting any would lose transactions that may have been
/// acknowledged.
pub fn elect(fenced: &BTreeMap<NodeId, &ServerState>, wishes: &Wishes) -> Result<Election, Incomparable> {
    let requires = fenced
        .values()
        .fold(GtidSet::new(), |all, state| all.union(&state.holds()));
    let lacks: BTreeMap<NodeId, u64> = fenced
        .iter()
        .map(|(node, state)| (node.clone(), requires.subtract(&state.holds()).count()))
        .collect();
    let rank = |node: &NodeId, state: &ServerState| {
        (
            wishes.avoid.contains_key(node),
            wishes.preferred.as_ref() != Some(node),
            requires.subtract(&state.executed).count(),
            node.clone(),
        )
    };
    let complete = fenced.iter().filter(|(node, _)| lacks.get(*node) == Some(&0));
    let Some((chosen, state)) = complete.min_by_key(|(node, state)| rank(node, state)) else {
        return Err(Incomparable { lacks });
    };
    let backlog = requires.subtract(&state.executed).count();
    let because = match (fenced.len(), backlog) {
        (1, _) => "it is the only fenced node and enough".to_owned(),
        (n, 0) => format!("it holds and has executed all that the {n} fenced nodes hold"),
        (n, backlog) => format!(
            "it holds all that the {n} fenced nodes hold; {backlog} transactions are to be executed first"
        ),
    };
    let rejected = fenced
        .keys()
        .filter(|node| *node != chosen)
        .map(|node| {
            let why = match (lacks.get(node).copied().unwrap_or(0), wishes.avoid.get(node)) {
                (0, Some(why)) => why.clone(),
                (0, None) => format!("holds the same as {chosen}, which came first"),
                (n, _) => format!("lacks {n} transactions"),
            };
            (node.clone(), why)
        })
        .collect();
    Ok(Election {
        chosen: chosen.clone(),
        because,
        requires,
        rejected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn state(executed: GtidSet, received: GtidSet) -> ServerState {
        ServerState {
            uuid: A.to_owned(),
            version: "9.7.4".to_owned(),
            role: Role::Idle,
            executed,
            received,
            purged: GtidSet::new(),
            open: true,
        }
    }

    fn upto(n: u64) -> GtidSet {
        GtidSet::new().with(A, 1, n)
    }

    #[test]
    fn the_node_that_received_most_wins_though_it_executed_less() {
        let behind = state(upto(5), GtidSet::new().with(A, 6, 9));
        let ahead = state(upto(8), GtidSet::new());
        let fenced = BTreeMap::from([("a".into(), &ahead), ("b".into(), &behind)]);
        let election = elect(&fenced, &Wishes::default()).unwrap();
        assert_eq!((election.chosen, election.requires), ("b".into(), upto(9)));
        assert_eq!(
            election.rejected.get(&"a".into()).unwrap(),
            "lacks 1 transactions"
        );
    }

    #[test]
    fn a_wish_counts_only_among_equals() {
        let (less, more) = (state(upto(8), GtidSet::new()), state(upto(9), GtidSet::new()));
        let wishes = Wishes {
            preferred: Some("b".into()),
            avoid: BTreeMap::new(),
        };
        let equal = BTreeMap::from([("a".into(), &more), ("b".into(), &more)]);
        assert_eq!(elect(&equal, &wishes).unwrap().chosen, "b".into());
        let unequal = BTreeMap::from([("a".into(), &more), ("b".into(), &less)]);
        assert_eq!(elect(&unequal, &wishes).unwrap().chosen, "a".into());
    }

    #[test]
    fn a_node_to_avoid_leads_when_only_it_is_complete() {
        let (less, more) = (state(upto(8), GtidSet::new()), state(upto(9), GtidSet::new()));
        let wishes = Wishes {
            preferred: None,
            avoid: BTreeMap::from([("a".into(), "it failed".into())]),
        };
        assert_eq!(
            elect(
                &BTreeMap::from([("a".into(), &more), ("b".into(), &less)]),
                &wishes
            )
            .unwrap()
            .chosen,
            "a".into()
        );
        assert_eq!(
            elect(
                &BTreeMap::from([("a".into(), &more), ("b".into(), &more)]),
                &wishes
            )
            .unwrap()
            .chosen,
            "b".into()
        );
    }

    #[test]
    fn nodes_that_each_hold_something_alone_are_not_chosen_between() {
        let (one, other) = (
            state(upto(9), GtidSet::new()),
            state(upto(8).with(B, 1, 1), GtidSet::new()),
        );
        let refused = elect(
            &BTreeMap::from([("a".into(), &one), ("b".into(), &other)]),
            &Wishes::default(),
        );
        assert_eq!(
            refused.unwrap_err().lacks,
            BTreeMap::from([("a".into(), 1), ("b".into(), 1)])
        );
    }

    #[test]
    fn empty_nodes_elect_one_of_them() {
        let empty = state(GtidSet::new(), GtidSet::new());
        let fenced = BTreeMap::from([("b".into(), &empty), ("a".into(), &empty)]);
        assert_eq!(elect(&fenced, &Wishes::default()).unwrap().chosen, "a".into());
    }
}
