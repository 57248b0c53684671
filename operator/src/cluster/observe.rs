//! From snapshot, sessions and record to what `failover::step` is told.

use std::collections::BTreeMap;

use api::kept::Kept;
use api::{DistributedDatabase, names};
use failover::{
    Millis, NodeId, NodeReport, NodeView, Observed, Pod, Receiver, Role, Server, Service, Session,
};
use kube::ResourceExt;
use tokio::sync::mpsc;

use crate::executor::record::record_of;
use crate::executor::request::{asked_of, switchover_of};
use crate::sessions::{Happened, Outgoing, Running};
use crate::snapshot::{PodFacts, Snapshot, slice_name};

/// The session with one node and what came of it.
pub struct Line {
    /// The pod that the session is with, by UID.
    pub pod: String,
    /// Its address.
    pub address: String,
    /// Counts the sessions; what an earlier one tells late is ignored.
    pub number: u64,
    /// Which identity the session uses: the pointer's address is enough to see that it changed.
    pub identity: usize,
    /// Keeps the session running.
    pub running: Option<Running>,
    /// The way of orders, while the link is open.
    pub orders: Option<mpsc::Sender<Outgoing>>,
    /// As the engine is told.
    pub state: Session,
    /// The newest report.
    pub report: Option<NodeReport>,
    /// The transactions that the node keeps as files; `None` before it said so.
    pub kept: Option<Kept>,
    /// Why there is no link, where there is none.
    pub trouble: Option<String>,
}

impl Line {
    /// Takes in what happened to the session. True when the engine should look at once.
    pub fn take(&mut self, happened: Happened) -> bool {
        match happened {
            Happened::Opened { orders } => self.orders = Some(orders),
            Happened::Reported { report, kept, heard } => {
                let same = kept.is_none()
                    && matches!(self.state, Session::Open { .. })
                    && self
                        .report
                        .as_mut()
                        .is_some_and(|known| says_the_same(known, &report));
                self.state = Session::Open { heard };
                self.report = Some(*report);
                self.kept = kept.map(|kept| *kept).or(self.kept.take());
                self.trouble = None;
                return !same;
            }
            Happened::Broke { since, why } => {
                self.orders = None;
                self.trouble = Some(why);
                // A link that never brought a report was never an open session.
                if let Session::Open { .. } = self.state {
                    self.state = Session::Broken { since };
                }
            }
            Happened::Unreachable { why } => self.trouble = Some(why),
            // The task answers it; it says nothing of the node.
            Happened::Asked { .. } => return false,
        }
        true
    }
}

/// True when `new` is a heartbeat: nothing but the age of a slave's last word from its master differs from `known`,
/// which is not needed any more. Ages count at the next look of the clock.
fn says_the_same(known: &mut NodeReport, new: &NodeReport) -> bool {
    if let (Server::Up(before), Server::Up(now)) = (&mut known.server, &new.server)
        && let (Role::Slave { receiver: before, .. }, Role::Slave { receiver: now, .. }) =
            (&mut before.role, &now.role)
        && let (Receiver::Receiving { age_ms: before }, Receiver::Receiving { age_ms: now }) = (before, now)
    {
        *before = *now;
    }
    known == new
}

/// Everything one decision is made from.
pub fn observe(
    object: &DistributedDatabase,
    nodes: u32,
    snapshot: &Snapshot,
    lines: &BTreeMap<NodeId, Line>,
) -> Observed {
    let name = object.name_any();
    let mut views = BTreeMap::new();
    let asked_for = (0..nodes).map(|index| NodeId::from(names::node(&name, index)));
    let existing = snapshot.pods.keys().cloned();
    let connected = lines
        .iter()
        .filter(|(_, line)| matches!(line.state, Session::Open { .. }))
        .map(|(node, _)| node.clone());
    for node in asked_for.chain(existing).chain(connected) {
        let view = view(snapshot.pods.get(&node), lines.get(&node));
        views.entry(node).or_insert(view);
    }
    Observed {
        record: record_of(object),
        nodes: views,
        switchover: switchover_of(object),
        asked: asked_of(object),
        service: service(&name, snapshot),
    }
}

/// Where the master's Service leads: to the pod that has its address now.
fn service(name: &str, snapshot: &Snapshot) -> Service {
    let Some(slice) = snapshot.slices.get(&slice_name(&names::master_service(name))) else {
        return Service::default();
    };
    let has_it = |pod: &PodFacts| {
        pod.address
            .as_ref()
            .is_some_and(|address| slice.addresses.contains(address))
    };
    let to = snapshot
        .pods
        .iter()
        .find(|(_, pod)| has_it(pod))
        .map(|(node, _)| node.clone());
    Service {
        to,
        term: slice.term.unwrap_or_default(),
        // The task knows what it saw before.
        settles: None,
    }
}

fn view(pod: Option<&PodFacts>, line: Option<&Line>) -> NodeView {
    // A session that is still open to a former pod of the name speaks for that pod: this one has none yet.
    let pod = match (pod, line) {
        (Some(pod), Some(line)) if line.pod != pod.uid && matches!(line.state, Session::Open { .. }) => None,
        (pod, _) => pod,
    };
    NodeView {
        pod: pod.map_or(Pod::Missing, |pod| Pod::Present {
            address: pod.address.clone(),
            deleting: pod.deleting,
            labelled_master: pod.role.as_deref() == Some(names::ROLE_MASTER),
            stamp: pod.stamp.unwrap_or_default(),
        }),
        session: line.map_or(Session::Never, |line| line.state),
        report: line.and_then(|line| line.report.clone()),
    }
}

/// True while something is missing that might become evidence: the engine then looks more often.
pub fn is_doubtful(observed: &Observed, now: Millis) -> bool {
    observed.nodes.values().any(|view| match view.session {
        Session::Open { heard } => heard + 300 < now,
        Session::Broken { .. } | Session::Never => true,
    })
}

#[cfg(test)]
mod tests {
    use failover::Term;

    use super::*;

    fn pod(uid: &str) -> PodFacts {
        PodFacts {
            uid: uid.to_owned(),
            version: "1".to_owned(),
            address: Some("10.0.0.1".to_owned()),
            machine: None,
            deleting: false,
            grace: None,
            role: Some("master".to_owned()),
            stamp: Some(Term(2)),
            has_annotations: true,
            ready: true,
        }
    }

    fn line(uid: &str, state: Session) -> Line {
        Line {
            pod: uid.to_owned(),
            address: String::new(),
            number: 1,
            identity: 0,
            running: None,
            orders: None,
            state,
            report: None,
            kept: None,
            trouble: None,
        }
    }

    #[test]
    fn a_new_pod_does_not_count_while_the_session_is_with_the_former_one() {
        let open = line("former", Session::Open { heard: 1 });
        assert_eq!(view(Some(&pod("new")), Some(&open)).pod, Pod::Missing);
        let broken = line("former", Session::Broken { since: 1 });
        assert!(matches!(
            view(Some(&pod("new")), Some(&broken)).pod,
            Pod::Present { .. }
        ));
        let same = line("new", Session::Open { heard: 1 });
        assert!(matches!(
            view(Some(&pod("new")), Some(&same)).pod,
            Pod::Present {
                labelled_master: true,
                ..
            }
        ));
    }

    #[test]
    fn nodes_that_are_asked_for_are_there_before_their_pods_are() {
        let object = DistributedDatabase::new("db", api::DistributedDatabaseSpec::default());
        let observed = observe(&object, 3, &Snapshot::default(), &BTreeMap::new());
        assert_eq!(observed.nodes.len(), 3);
        assert!(observed.nodes.values().all(|view| view.pod == Pod::Missing));
    }

    #[test]
    fn a_heartbeat_asks_for_no_look_and_everything_else_does() {
        let report = |age_ms, caught_up| {
            let role = Role::Slave {
                term: Term(1),
                source: "db-0".into(),
                address: "10.0.0.1".to_owned(),
                receiver: Receiver::Receiving { age_ms },
                applier: failover::Applier::Running,
                caught_up,
            };
            let state = failover::ServerState {
                uuid: String::new(),
                version: String::new(),
                role,
                executed: failover::GtidSet::new(),
                received: failover::GtidSet::new(),
                purged: failover::GtidSet::new(),
                open: true,
                stuck: None,
            };
            Box::new(NodeReport {
                term: Term(1),
                ..NodeReport::new("v".into(), Server::Up(Box::new(state)))
            })
        };
        let mut line = line("u", Session::Never);
        let mut told = |heard, report| {
            line.take(Happened::Reported {
                report,
                kept: None,
                heard,
            })
        };
        assert!(told(1, report(10, false)), "the first one");
        assert!(!told(2, report(110, false)), "only older");
        assert!(told(3, report(110, true)), "caught up");
        assert!(line.take(Happened::Broke {
            since: 4,
            why: String::new()
        }));
        let again = Happened::Reported {
            report: report(110, true),
            kept: None,
            heard: 5,
        };
        assert!(line.take(again), "the session is open again");
        let mut told = |heard, kept| {
            line.take(Happened::Reported {
                report: report(110, true),
                kept,
                heard,
            })
        };
        assert!(told(6, Some(Box::default())), "of files");
        assert!(!told(7, None));
        assert_eq!(line.kept, Some(Kept::default()), "as it was said last");
    }

    #[test]
    fn a_link_that_breaks_before_its_first_report_was_never_open() {
        let mut line = line("u", Session::Never);
        line.take(Happened::Broke {
            since: 5,
            why: "closed".to_owned(),
        });
        assert_eq!(line.state, Session::Never);
    }
}
