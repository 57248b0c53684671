//! Members come and go, and with them the number of acknowledgements.
//!
//! The recorded quorum must be right at every moment between two steps: N rises before a new node can acknowledge
//! anything and falls after the removed nodes can acknowledge nothing more; W falls in the record before it falls in
//! the master and rises in the record after all members hold what was acknowledged with fewer.

use std::collections::BTreeSet;

use crate::{
    Action, Durability, Millis, NodeId, NodeView, Observed, Plan, Policy, Record, Report, Role, State,
    VolumeId, force,
    record::acks_for,
    rejoin::{self, Leader},
};

/// How long more acknowledgements must be in force, and the nodes that are to go be fenced, before the record counts on
/// it, in milliseconds. A command that undoes it, of this operator or another, would have arrived by then.
const SETTLED: Millis = 15_000;
/// How long slaves must be missing before fewer acknowledgements are asked for, in milliseconds.
const LACKING: Millis = 5_000;

/// Nodes that exist but are not asked for any more: the ones with the highest numbers, never the master.
pub(crate) fn removed(observed: &Observed, policy: &Policy) -> BTreeSet<NodeId> {
    let surplus = observed.nodes.len().saturating_sub(policy.nodes as usize);
    let mut names: Vec<&NodeId> = observed
        .nodes
        .keys()
        .filter(|node| observed.record.master.as_ref() != Some(node))
        .collect();
    // Names without a number count as higher than all.
    names.sort_by_key(|node| std::cmp::Reverse(node.number().unwrap_or(u32::MAX)));
    names.into_iter().take(surplus).cloned().collect()
}

/// The next small step towards the wanted members, size and number of acknowledgements; one record at a time.
pub(crate) fn adjust(
    state: &mut State,
    observed: &Observed,
    leader: Leader<'_>,
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Plan {
    let record = &observed.record;
    let write = |record: Record| {
        vec![Action::Record {
            record,
            completes: None,
        }]
    };
    if policy.nodes > record.size {
        return write(Record {
            size: policy.nodes,
            ..record.clone()
        });
    }
    if let Some((node, volume)) = complete_again(observed, leader, policy) {
        let mut members = record.members.clone();
        members.insert(node, volume);
        return write(Record {
            members,
            ..record.clone()
        });
    }
    let caught_up = |node: &NodeId| {
        let view = observed.nodes.get(node);
        view.is_some_and(|view| rejoin::has_caught_up(view, leader))
    };
    if let Some(record) = force::judged(observed, caught_up) {
        return write(record);
    }
    let wanted = wanted_acks(state, observed, leader, policy, now, report);
    let Role::Master { acks: in_force, .. } = leader.state.role else {
        return Vec::new();
    };
    if wanted < record.acks {
        return write(Record {
            acks: wanted,
            ..record.clone()
        });
    }
    let mut plan = if wanted == record.acks {
        set_acks(leader, in_force, wanted)
    } else {
        Vec::new()
    };
    // Fewer nodes come before more acknowledgements: the nodes that are to go would be waited for in vain.
    if is_too_large(observed, policy) {
        state.raise_mark = None;
        plan.extend(shrink(state, observed, leader, policy, now, report));
        return plan;
    }
    state.shrink_mark = None;
    if wanted == record.acks {
        state.raise_mark = None;
        return plan;
    }
    raise(state, observed, leader, (in_force, wanted), policy, now, report)
}

/// How many slaves are to acknowledge. Where writes may not wait, as many as serve: fewer only when that lasts, and
/// the record has the lower number before the master does, so that every failover counts on it.
fn wanted_acks(
    state: &mut State,
    observed: &Observed,
    leader: Leader<'_>,
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> u32 {
    let full = acks_for(policy.nodes);
    let recorded = observed.record.acks.min(full);
    if policy.durability == Durability::Strict {
        state.lacking_since = None;
        return full;
    }
    let removed = removed(observed, policy);
    let serving = observed.nodes.iter().filter(|(node, view)| {
        observed.is_whole(node) == Some(true) && !removed.contains(*node) && rejoin::stands_well(view, leader)
    });
    let serving = u32::try_from(serving.count()).unwrap_or(full).min(full);
    if recorded < full {
        report.notes.push(format!(
            "durability is lowered: writes are acknowledged by {recorded} slaves instead of {full}; those written since \
             may be lost if {} is",
            leader.node
        ));
    }
    if serving >= recorded {
        state.lacking_since = None;
        return serving;
    }
    let since = *state.lacking_since.get_or_insert(now);
    if now.saturating_sub(since) < LACKING {
        recorded
    } else {
        serving
    }
}

/// True while nodes are to go: the resource asks for fewer, or a master with a high number, which stayed when the
/// database shrank, no longer leads and keeps another node out.
fn is_too_large(observed: &Observed, policy: &Policy) -> bool {
    let record = &observed.record;
    let removed = removed(observed, policy);
    policy.nodes < record.size || removed.iter().any(|node| record.members.contains_key(node))
}

/// A node with a new volume that by now holds everything the master had when the node was told to follow.
fn complete_again(observed: &Observed, leader: Leader<'_>, policy: &Policy) -> Option<(NodeId, VolumeId)> {
    let removed = removed(observed, policy);
    observed.nodes.iter().filter(|(node, _)| !removed.contains(node)).find_map(|(node, view)| {
        let volume = &view.live_report()?.volume;
        let follows = matches!(
            &view.server()?.role,
            Role::Slave { term, source, caught_up: true, .. } if *term == leader.term && source == leader.node
        );
        (follows && observed.record.members.get(node) != Some(volume)).then(|| (node.clone(), volume.clone()))
    })
}

fn set_acks(leader: Leader<'_>, in_force: u32, wanted: u32) -> Plan {
    let action = Action::Promote {
        node: leader.node.clone(),
        term: leader.term,
        acks: wanted,
        requires: leader.state.executed.clone(),
    };
    if in_force == wanted {
        Vec::new()
    } else {
        vec![action]
    }
}

/// More acknowledgements: first in the master, then, once all members hold what was acknowledged with fewer, in the
/// record.
fn raise(
    state: &mut State,
    observed: &Observed,
    leader: Leader<'_>,
    (in_force, wanted): (u32, u32),
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Plan {
    let members = observed.record.members.len();
    if members < observed.record.size as usize {
        report
            .waiting_for
            .push("the new nodes to hold all data, before more of them must acknowledge".to_owned());
        return Vec::new();
    }
    if in_force != wanted {
        state.raise_mark = None;
        return set_acks(leader, in_force, wanted);
    }
    let (mark, since) = state
        .raise_mark
        .get_or_insert_with(|| (leader.state.executed.clone(), now))
        .clone();
    if now.saturating_sub(since) < SETTLED {
        report
            .waiting_for
            .push("more acknowledgements to have been in force for a while".to_owned());
        return Vec::new();
    }
    // Any N − W members then share one with the W + 1 that hold it.
    let copies = u32::try_from(holders(observed, &mark)).unwrap_or(u32::MAX);
    let enough = policy.durability == Durability::Available && copies > wanted;
    if !enough && !all_hold(observed, &mark, &BTreeSet::new()) {
        report
            .waiting_for
            .push("every slave to hold what was acknowledged by fewer".to_owned());
        return Vec::new();
    }
    state.raise_mark = None;
    vec![Action::Record {
        record: Record {
            acks: wanted,
            ..observed.record.clone()
        },
        completes: None,
    }]
}

/// Fewer nodes: the surplus is fenced, the rest catches up, then the record forgets them.
fn shrink(
    state: &mut State,
    observed: &Observed,
    leader: Leader<'_>,
    policy: &Policy,
    now: Millis,
    report: &mut Report,
) -> Plan {
    let removed = removed(observed, policy);
    let unfenced: Plan = removed
        .iter()
        .filter(|node| {
            let live = observed.nodes.get(*node).and_then(|view| view.live_report());
            live.is_none_or(|report| report.fenced != Some(leader.term))
        })
        .map(|node| Action::Fence {
            node: node.clone(),
            term: leader.term,
            orderly: false,
        })
        .collect();
    if !unfenced.is_empty() {
        // What is acknowledged until then may be on these alone.
        state.shrink_mark = None;
        report
            .waiting_for
            .push("the nodes that are to go to acknowledge nothing more".to_owned());
        return unfenced;
    }
    // A command to follow that was sent before may still end a fence of this term.
    let (mark, since) = state
        .shrink_mark
        .get_or_insert_with(|| (leader.state.executed.clone(), now));
    if now.saturating_sub(*since) < SETTLED {
        mark.clone_from(&leader.state.executed);
        report
            .waiting_for
            .push("the nodes that are to go to have acknowledged nothing for a while".to_owned());
        return Vec::new();
    }
    let mark = mark.clone();
    if !all_hold(observed, &mark, &removed) {
        report
            .waiting_for
            .push("the nodes that stay to hold everything".to_owned());
        return Vec::new();
    }
    state.shrink_mark = None;
    let mut members = observed.record.members.clone();
    members.retain(|node, _| !removed.contains(node) && observed.nodes.contains_key(node));
    let record = Record {
        size: policy.nodes,
        members,
        ..observed.record.clone()
    };
    vec![Action::Record {
        record,
        completes: None,
    }]
}

/// How many members hold `mark`.
fn holders(observed: &Observed, mark: &crate::GtidSet) -> usize {
    let whole = |node: &&NodeId| observed.is_whole(node) == Some(true);
    let holds = |view: &NodeView| view.server().is_some_and(|state| state.holds().contains(mark));
    let members = observed.record.members.keys().filter(whole);
    members
        .filter_map(|node| observed.nodes.get(node))
        .filter(|view| holds(view))
        .count()
}

/// True when every member but `except` holds `mark`.
fn all_hold(observed: &Observed, mark: &crate::GtidSet, except: &BTreeSet<NodeId>) -> bool {
    observed
        .record
        .members
        .keys()
        .filter(|node| !except.contains(node))
        .all(|node| {
            let state = observed.nodes.get(node).and_then(|view| view.server());
            state.is_some_and(|state| state.holds().contains(mark))
        })
}
