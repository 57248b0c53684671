//! How many nodes may fail now without stopping writes and without losing acknowledged data, for good.

use failover::{Observed, Policy, Role};

use super::serves;

/// With N nodes and W acknowledgements and `h` slaves that follow, `k` of all may fail when
/// - the master is among them: of the `h − (k − 1)` slaves left, N − W members must be fenced before one leads;
/// - either way the master that leads then has W slaves left: `h − k ≥ W`.
///
/// Zero where no master serves, and where a master would not be replaced without being asked.
pub fn safe_to_lose(observed: &Observed, policy: &Policy) -> i32 {
    let record = &observed.record;
    if !policy.fails_over() || record.intent.is_some() || record.size == 0 {
        return 0;
    }
    let master_serves = record.master.as_ref().is_some_and(|master| {
        observed
            .nodes
            .get(master)
            .is_some_and(|view| serves(master, view, record))
    });
    if !master_serves {
        return 0;
    }
    let slaves = observed.nodes.iter().filter(|(name, view)| {
        let member = view
            .report
            .as_ref()
            .is_some_and(|report| record.members.get(*name) == Some(&report.volume));
        let follows = view
            .server()
            .is_some_and(|server| matches!(server.role, Role::Slave { .. }));
        member && follows && serves(name, view, record)
    });
    let slaves = i64::try_from(slaves.count()).unwrap_or(0);
    let acks = i64::from(record.acks);
    let quorum = i64::from(record.size) - acks;
    let spare = (slaves - acks).min(slaves + 1 - quorum).max(0);
    i32::try_from(spare).unwrap_or(0)
}
