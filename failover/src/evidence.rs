//! Is the master lost? Only evidence counts that cannot come from the operator's own isolation.

use crate::{Cause, Kind, Millis, NodeId, NodeView, Observed, Pod, Policy, Receiver, Role, Server, Session};

/// How long operator and slaves must both have lost the master's connections before that counts, so that a
/// connection that is made anew at once changes nothing.
const CONFIRM: Millis = 50;
/// A server that answers nothing is given so many times the detection time while slaves still hear of it.
const HUNG_BUT_HEARD: Millis = 3;

/// What is known of the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It leads.
    Leads,
    /// Something is wrong, but nothing that allows to move the master; the sentence says what.
    Doubtful(String),
    /// It has to be replaced.
    Lost {
        /// In which way.
        kind: Kind,
        /// Why.
        cause: Cause,
    },
}

/// Judges the master of the record. `watched_since` is the moment this operator began to watch.
pub fn judge(
    observed: &Observed,
    master: &NodeId,
    policy: &Policy,
    watched_since: Millis,
    now: Millis,
) -> Health {
    let Some(view) = observed.nodes.get(master) else {
        return Health::Lost {
            kind: Kind::Failover,
            cause: Cause::PodDeleted,
        };
    };
    match view.live_report().map(|report| &report.server) {
        Some(Server::Down { .. } | Server::Starting) => return lost(Cause::ServerDied),
        Some(Server::Hung { silent_ms }) => return hung(observed, master, policy, *silent_ms, now),
        Some(Server::Up(_)) if !view.leads_in(observed.record.term) => return lost(Cause::ServerDied),
        _ => {}
    }
    match (&view.pod, view.live_report()) {
        (Pod::Missing, Some(_)) => Health::Lost {
            kind: Kind::Switchover,
            cause: Cause::PodDeleted,
        },
        (Pod::Missing, None) => lost(Cause::PodDeleted),
        (Pod::Present { deleting: true, .. }, Some(_)) => Health::Lost {
            kind: Kind::Switchover,
            cause: Cause::PodStopping,
        },
        (_, Some(report)) if report.stopping => Health::Lost {
            kind: Kind::Switchover,
            cause: Cause::PodStopping,
        },
        _ => reach(observed, master, view, policy, watched_since, now),
    }
}

fn lost(cause: Cause) -> Health {
    Health::Lost {
        kind: Kind::Failover,
        cause,
    }
}

fn hung(observed: &Observed, master: &NodeId, policy: &Policy, silent: Millis, now: Millis) -> Health {
    let limit = match slaves_hear(observed, master, policy, now) {
        Hearing::Nothing => policy.detect_after,
        Hearing::Something(_) | Hearing::NobodyToAsk => policy.detect_after * HUNG_BUT_HEARD,
    };
    if silent >= limit {
        return lost(Cause::ServerHung);
    }
    Health::Doubtful(format!(
        "{master}: mysqld has not answered, or its volume taken no write, for {silent} ms; it is replaced after {limit} ms"
    ))
}

/// Judges a master whose agent may be silent, by what the slaves hear of it.
fn reach(
    observed: &Observed,
    master: &NodeId,
    view: &NodeView,
    policy: &Policy,
    watched_since: Millis,
    now: Millis,
) -> Health {
    let (silent_for, limit) = match view.session {
        Session::Open { heard } if now.saturating_sub(heard) < policy.detect_after => return Health::Leads,
        Session::Open { heard } => (now.saturating_sub(heard), policy.detect_after),
        Session::Broken { since } => (now.saturating_sub(since), CONFIRM),
        Session::Never => (now.saturating_sub(watched_since), policy.detect_after),
    };
    match slaves_hear(observed, master, policy, now) {
        Hearing::Nothing if silent_for >= limit => lost(Cause::Unreachable),
        Hearing::Nothing => Health::Doubtful(format!(
            "{master}: no connection for {silent_for} ms; waiting for {limit} ms"
        )),
        Hearing::Something(slave) => Health::Doubtful(format!(
            "{master}: its agent is unreachable from here, but {slave} still receives from it; it stays the master"
        )),
        Hearing::NobodyToAsk => Health::Doubtful(format!(
            "{master}: unreachable from here, and no slave answers that could say whether it lives; it stays the master"
        )),
    }
}

enum Hearing {
    Nothing,
    Something(NodeId),
    NobodyToAsk,
}

/// Whether any slave that answers still receives from the master.
fn slaves_hear(observed: &Observed, master: &NodeId, policy: &Policy, now: Millis) -> Hearing {
    let mut asked = false;
    for (node, view) in observed.nodes.iter().filter(|(node, _)| *node != master) {
        let Session::Open { heard } = view.session else {
            continue;
        };
        if now.saturating_sub(heard) >= policy.detect_after {
            continue;
        }
        match view.server().map(|state| &state.role) {
            Some(Role::Slave {
                source,
                receiver: Receiver::Receiving { age_ms },
                ..
            }) if source == master && age_ms + now.saturating_sub(heard) < policy.detect_after => {
                return Hearing::Something(node.clone());
            }
            Some(_) => asked = true,
            None => {}
        }
    }
    if asked {
        Hearing::Nothing
    } else {
        Hearing::NobodyToAsk
    }
}
