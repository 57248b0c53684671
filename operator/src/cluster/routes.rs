//! When clients would follow a further change at once: kube-proxy carries out what it hears of at most once a second, so
//! that a change that comes soon after another reaches its rules up to a second late.
//!
//! Only this database's own changes are known here. Those of others have the same effect, and nobody can wait for them.

use std::collections::{BTreeMap, BTreeSet};

use api::names;
use failover::{Millis, NodeId};

use crate::snapshot::Snapshot;

/// kube-proxy's period where it is left at its default, and what the news needs to get there.
const PERIOD: Millis = 1150;
/// A pod that has less time than this to end cannot wait: what is planned may wait for five seconds, and has to be carried
/// out before the end.
const HASTE_SECONDS: i64 = 15;

/// Where the database's Services lead, as the proxies see it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    slices: BTreeMap<String, Vec<String>>,
    slaves: BTreeSet<String>,
    /// Pods that are being deleted. Where a machine is drained others go with them, whose Services change too.
    going: BTreeSet<String>,
}

/// Follows the changes.
#[derive(Debug, Default)]
pub struct Routes {
    known: Option<Shape>,
    settles: Option<Millis>,
}

impl Routes {
    /// Takes in what is there now; gives from when on a further change is carried out at once, where that is later.
    pub fn settles(&mut self, snapshot: &Snapshot, now: Millis) -> Option<Millis> {
        let shape = Shape::of(snapshot);
        if self.known.as_ref() != Some(&shape) {
            // What was there before this operator looked has settled, as far as it can know.
            self.settles = self.known.replace(shape).map(|_| now + PERIOD);
        }
        self.settles.filter(|settles| now < *settles)
    }
}

/// True where the master's pod ends too soon for anything to be waited for.
pub fn hurries(snapshot: &Snapshot, master: Option<&NodeId>) -> bool {
    let pod = master.and_then(|master| snapshot.pods.get(master));
    pod.and_then(|pod| pod.grace)
        .is_some_and(|grace| grace < HASTE_SECONDS)
}

impl Shape {
    fn of(snapshot: &Snapshot) -> Self {
        let slices = snapshot.slices.iter();
        let slaves = snapshot
            .pods
            .values()
            .filter(|pod| pod.role.as_deref() == Some(names::ROLE_SLAVE) && pod.ready && !pod.deleting);
        Self {
            slices: slices
                .map(|(name, slice)| (name.clone(), slice.addresses.clone()))
                .collect(),
            slaves: slaves.filter_map(|pod| pod.address.clone()).collect(),
            going: snapshot
                .pods
                .values()
                .filter(|pod| pod.deleting)
                .map(|pod| pod.uid.clone())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::PodFacts;

    fn pod(role: Option<&str>, ready: bool) -> PodFacts {
        PodFacts {
            uid: "u".to_owned(),
            version: "1".to_owned(),
            address: Some("10.0.0.1".to_owned()),
            machine: None,
            deleting: false,
            grace: None,
            role: role.map(str::to_owned),
            stamp: None,
            has_annotations: false,
            ready,
        }
    }

    fn with(pods: Vec<(&str, PodFacts)>) -> Snapshot {
        Snapshot {
            pods: pods.into_iter().map(|(name, pod)| (name.into(), pod)).collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_change_settles_after_the_proxies_period_and_what_was_found_has_settled() {
        let mut routes = Routes::default();
        let before = with(vec![("db-1", pod(Some(names::ROLE_SLAVE), false))]);
        let after = with(vec![("db-1", pod(Some(names::ROLE_SLAVE), true))]);
        assert_eq!(routes.settles(&before, 100), None);
        assert_eq!(routes.settles(&before, 200), None);
        assert_eq!(routes.settles(&after, 300), Some(300 + PERIOD));
        assert_eq!(routes.settles(&after, 400), Some(300 + PERIOD));
        assert_eq!(routes.settles(&after, 300 + PERIOD), None);
    }

    #[test]
    fn what_no_service_leads_to_changes_nothing() {
        let mut routes = Routes::default();
        let before = with(vec![("db-0", pod(Some(names::ROLE_MASTER), true))]);
        let after = with(vec![
            ("db-0", pod(Some(names::ROLE_MASTER), false)),
            ("db-1", pod(None, true)),
        ]);
        assert_eq!(routes.settles(&before, 100), None);
        assert_eq!(routes.settles(&after, 200), None);
    }

    #[test]
    fn a_deletion_counts_as_a_change() {
        let mut routes = Routes::default();
        let master = |deleting| {
            let pod = pod(Some(names::ROLE_MASTER), true);
            with(vec![("db-0", PodFacts { deleting, ..pod })])
        };
        assert_eq!(routes.settles(&master(false), 100), None);
        assert_eq!(routes.settles(&master(true), 200), Some(200 + PERIOD));
    }

    #[test]
    fn a_master_in_haste_does_not_wait() {
        let name = NodeId::from("db-0");
        let master = |grace| {
            let pod = pod(Some(names::ROLE_MASTER), true);
            with(vec![("db-0", PodFacts { grace, ..pod })])
        };
        assert!(hurries(&master(Some(1)), Some(&name)));
        assert!(!hurries(&master(Some(30)), Some(&name)));
        assert!(!hurries(&master(None), Some(&name)));
        assert!(!hurries(&master(Some(1)), None));
    }
}
