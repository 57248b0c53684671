//! Who is to lead: among fenced members, one that provably holds every acknowledged write.
//!
//! Every acknowledged write is in the set of one at least of any N − W members (see [`crate::quorum`]). A node that
//! contains the sets of N − W fenced members, its own among them, therefore holds them all; what any other member
//! has beyond that was never acknowledged: the tail of a crashed master, or an errant transaction. So one odd node
//! cannot keep two that agree from leading.

use std::collections::BTreeMap;

use crate::{GtidSet, NodeId, ServerState};

/// What speaks for and against nodes beyond their data.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The node that was asked for.
    pub preferred: Option<NodeId>,
    /// Nodes that lead only when no other can, with the reason: the failed master, pods that are going away.
    pub avoid: BTreeMap<NodeId, String>,
    /// Nodes that may not lead at all, with the reason. Their sets count all the same.
    pub barred: BTreeMap<NodeId, String>,
}

/// The outcome of an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// The node that is to lead.
    pub chosen: NodeId,
    /// Why it.
    pub because: String,
    /// What it must have executed before it accepts writes: all that it holds.
    pub requires: GtidSet,
    /// The others, each with the reason.
    pub rejected: BTreeMap<NodeId, String>,
}

/// No node contains the sets of enough fenced nodes: each node with what it lacks of all that they hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomparable {
    /// How many transactions each node lacks.
    pub lacks: BTreeMap<NodeId, u64>,
}

/// Chooses the node to lead among the fenced members, of which `needed` (N − W) must be contained in its set.
///
/// # Errors
/// [`Incomparable`] where no fenced node contains so many; promoting any could lose acknowledged transactions.
pub fn elect(
    fenced: &BTreeMap<NodeId, &ServerState>,
    needed: usize,
    wishes: &Wishes,
) -> Result<Election, Incomparable> {
    let holdings: BTreeMap<&NodeId, GtidSet> =
        fenced.iter().map(|(node, state)| (node, state.holds())).collect();
    let everything = holdings
        .values()
        .fold(GtidSet::new(), |all, holds| all.union(holds));
    let lacks: BTreeMap<NodeId, u64> = holdings
        .iter()
        .map(|(node, holds)| ((*node).clone(), everything.subtract(holds).count()))
        .collect();
    let contained = |holds: &GtidSet| holdings.values().filter(|other| holds.contains(other)).count();
    let safe = holdings
        .iter()
        .filter(|(node, holds)| !wishes.barred.contains_key(**node) && contained(holds) >= needed.max(1));
    let rank = |node: &NodeId, holds: &GtidSet| {
        let backlog = fenced
            .get(node)
            .map(|state| holds.subtract(&state.executed).count());
        (
            wishes.avoid.contains_key(node),
            wishes.preferred.as_ref() != Some(node),
            lacks.get(node).copied(),
            backlog,
            node.clone(),
        )
    };
    let Some((chosen, requires)) = safe.min_by_key(|(node, holds)| rank(node, holds)) else {
        return Err(Incomparable { lacks });
    };
    let chosen = (*chosen).clone();
    let backlog = fenced
        .get(&chosen)
        .map_or(0, |state| requires.subtract(&state.executed).count());
    let holds = match (fenced.len(), lacks.get(&chosen)) {
        (1, _) => "it is the only fenced node and enough".to_owned(),
        (n, Some(0)) => format!("it holds all that the {n} fenced nodes hold"),
        (n, _) => format!(
            "it holds all that {} of the {n} fenced nodes hold, and so every acknowledged write",
            contained(requires)
        ),
    };
    let because = match backlog {
        0 => holds,
        backlog => format!("{holds}; {backlog} transactions are to be executed first"),
    };
    let rejected = holdings
        .iter()
        .filter(|(node, _)| ***node != chosen)
        .map(|(node, theirs)| {
            let missing = requires.subtract(theirs).count();
            let extra = theirs.subtract(requires).count();
            let barred = wishes.barred.get(*node);
            let why = match (missing, extra, barred.or_else(|| wishes.avoid.get(*node))) {
                (0, 0, Some(why)) => why.clone(),
                (0, 0, None) => format!("holds the same as {chosen}, which came first"),
                (0, extra, why) => format!(
                    "holds {extra} transactions that were never acknowledged{}",
                    why.map(|why| format!(", and {why}")).unwrap_or_default()
                ),
                (missing, _, _) => format!("lacks {missing} transactions"),
            };
            ((*node).clone(), why)
        })
        .collect();
    Ok(Election {
        chosen,
        because,
        requires: requires.clone(),
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
            stuck: None,
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
        let election = elect(&fenced, 2, &Wishes::default()).unwrap();
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
            ..Wishes::default()
        };
        let equal = BTreeMap::from([("a".into(), &more), ("b".into(), &more)]);
        assert_eq!(elect(&equal, 2, &wishes).unwrap().chosen, "b".into());
        let unequal = BTreeMap::from([("a".into(), &more), ("b".into(), &less)]);
        assert_eq!(elect(&unequal, 2, &wishes).unwrap().chosen, "a".into());
    }

    #[test]
    fn a_node_to_avoid_leads_when_only_it_is_complete() {
        let (less, more) = (state(upto(8), GtidSet::new()), state(upto(9), GtidSet::new()));
        let wishes = Wishes {
            avoid: BTreeMap::from([("a".into(), "it failed".into())]),
            ..Wishes::default()
        };
        assert_eq!(
            elect(
                &BTreeMap::from([("a".into(), &more), ("b".into(), &less)]),
                2,
                &wishes
            )
            .unwrap()
            .chosen,
            "a".into()
        );
        assert_eq!(
            elect(
                &BTreeMap::from([("a".into(), &more), ("b".into(), &more)]),
                2,
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
            2,
            &Wishes::default(),
        );
        assert_eq!(
            refused.unwrap_err().lacks,
            BTreeMap::from([("a".into(), 1), ("b".into(), 1)])
        );
    }

    #[test]
    fn what_one_node_alone_holds_does_not_keep_two_that_agree_from_leading() {
        let odd = state(upto(7).with(B, 1, 1), GtidSet::new());
        let agreed = state(upto(9), GtidSet::new());
        let fenced = BTreeMap::from([("a".into(), &odd), ("b".into(), &agreed), ("c".into(), &agreed)]);
        let election = elect(&fenced, 2, &Wishes::default()).unwrap();
        assert_eq!((election.chosen, election.requires), ("b".into(), upto(9)));
    }

    #[test]
    fn a_returned_master_with_a_tail_gives_way() {
        let tail = state(upto(9), GtidSet::new());
        let rest = state(upto(8), GtidSet::new());
        let fenced = BTreeMap::from([("a".into(), &tail), ("b".into(), &rest), ("c".into(), &rest)]);
        let wishes = Wishes {
            avoid: BTreeMap::from([("a".into(), "it failed".into())]),
            ..Wishes::default()
        };
        let election = elect(&fenced, 2, &wishes).unwrap();
        assert_eq!((election.chosen, election.requires), ("b".into(), upto(8)));
        assert_eq!(
            election.rejected.get(&"a".into()).unwrap(),
            "holds 1 transactions that were never acknowledged, and it failed"
        );
    }

    #[test]
    fn empty_nodes_elect_one_of_them() {
        let empty = state(GtidSet::new(), GtidSet::new());
        let fenced = BTreeMap::from([("b".into(), &empty), ("a".into(), &empty)]);
        assert_eq!(elect(&fenced, 2, &Wishes::default()).unwrap().chosen, "a".into());
    }
}
