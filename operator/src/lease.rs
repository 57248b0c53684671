//! Which of the operator's replicas leads: a `coordination.k8s.io` Lease.
//!
//! The lease is taken and renewed by replacing it with its resourceVersion, so that of two takers one fails. It
//! counts as expired when its record did not change for its duration *as observed here*: the remote clock is
//! never compared with ours. The holder stops a margin before others may take it over, also when the API server
//! cannot be reached. The lease only saves work and noise; safety rests on the terms.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use failover::Millis;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::handoff::Leadership;
use crate::metrics::Metrics;

/// The name of the lease, in the operator's namespace.
pub const NAME: &str = "ddb-operator";
const DURATION: Millis = 3000;
const DURATION_SECONDS: i32 = 3;
const MARGIN: Millis = 500;
const RENEW_EVERY: Duration = Duration::from_millis(700);
const LOOK_EVERY: Duration = Duration::from_millis(400);
const REQUEST_DEADLINE: Duration = Duration::from_secs(1);

/// Why a round of the lease did not succeed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server refused or failed")]
    Api(#[from] kube::Error),
    #[error("the API server did not answer within a second")]
    Timeout,
}

/// The lease as this operator holds it or not.
pub struct LeaderLease {
    held_until: AtomicU64,
    changed: watch::Sender<bool>,
}

impl Default for LeaderLease {
    fn default() -> Self {
        Self {
            held_until: AtomicU64::new(0),
            changed: watch::Sender::new(false),
        }
    }
}

impl Leadership for LeaderLease {
    fn is_leader(&self) -> bool {
        clock::now() < self.held_until.load(Ordering::Acquire)
    }
}

impl LeaderLease {
    /// Wakes whoever waits when leadership is gained or lost. [`Leadership::is_leader`] is the truth.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.changed.subscribe()
    }

    /// Milliseconds since the API server last confirmed the lease, while it is held.
    pub fn age(&self, now: Millis) -> Option<Millis> {
        let until = self.held_until.load(Ordering::Acquire);
        (now < until).then(|| (now + DURATION - MARGIN).saturating_sub(until))
    }

    fn set(&self, held_until: Millis) {
        self.held_until.store(held_until, Ordering::Release);
        self.publish();
    }

    fn publish(&self) {
        let leads = self.is_leader();
        self.changed.send_if_modified(|was| {
            let changed = *was != leads;
            if changed {
                tracing::info!(leads, "leadership changed");
            }
            *was = leads;
            changed
        });
    }
}

/// What one look at the lease asks for.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Create,
    Take,
    Renew,
    Wait,
}

/// What this operator saw of the lease: the record and since when it is unchanged.
#[derive(Debug, Default)]
struct Watched {
    version: Option<String>,
    unchanged_since: Millis,
}

impl Watched {
    /// Judges a lease that was read at `now`.
    fn judge(&mut self, lease: Option<&Lease>, me: &str, now: Millis) -> Move {
        let Some(lease) = lease else { return Move::Create };
        let version = lease.metadata.resource_version.clone();
        if self.version != version {
            self.version = version;
            self.unchanged_since = now;
        }
        let spec = lease.spec.as_ref();
        let holder = spec
            .and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default();
        let seconds = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .unwrap_or(DURATION_SECONDS);
        let duration = Millis::from(seconds.unsigned_abs()) * 1000;
        if holder == me {
            Move::Renew
        } else if holder.is_empty() || now >= self.unchanged_since + duration {
            Move::Take
        } else {
            Move::Wait
        }
    }
}

/// Runs until `shutdown`, then gives the lease back.
pub async fn run(
    lease: &LeaderLease,
    client: Client,
    namespace: &str,
    me: &str,
    metrics: &Metrics,
    shutdown: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let mut watched = Watched::default();
    let mut known: Option<Lease> = None;
    let mut complained = false;
    loop {
        let round = round(lease, &api, me, &mut watched, known.take()).await;
        match round {
            Ok(current) => {
                known = current;
                complained = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(error = %chain(&error), "the leader lease could not be read or written; trying on");
                }
            }
        }
        lease.publish();
        metrics.leader.set(i64::from(lease.is_leader()));
        let pause = if lease.is_leader() && known.is_some() {
            RENEW_EVERY
        } else {
            LOOK_EVERY
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => break,
        }
    }
    release(lease, &api, me).await;
}

/// One round: renews the lease without reading where it is known, else reads and takes it where it may.
/// Returns the lease as it is after the round where this operator holds it.
async fn round(
    lease: &LeaderLease,
    api: &Api<Lease>,
    me: &str,
    watched: &mut Watched,
    known: Option<Lease>,
) -> Result<Option<Lease>, Error> {
    let current = match known {
        Some(held) => Some(held),
        None => in_time(api.get_opt(NAME)).await?,
    };
    let asked = clock::now();
    let written = match watched.judge(current.as_ref(), me, asked) {
        Move::Wait => return Ok(None),
        Move::Create => in_time(api.create(&PostParams::default(), &filled(None, me))).await,
        Move::Take | Move::Renew => {
            in_time(api.replace(NAME, &PostParams::default(), &filled(current, me))).await
        }
    };
    match written {
        Ok(written) => {
            watched.judge(Some(&written), me, asked);
            lease.set(asked + DURATION - MARGIN);
            Ok(Some(written))
        }
        Err(Error::Api(kube::Error::Api(status))) if status.code == 409 => {
            // Somebody else was faster, or wrote the lease by hand: read it before anything else.
            lease.set(0);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn release(lease: &LeaderLease, api: &Api<Lease>, me: &str) {
    if !lease.is_leader() {
        return;
    }
    lease.set(0);
    let freed = async {
        let Some(mut current) = in_time(api.get_opt(NAME)).await? else {
            return Ok(());
        };
        let Some(spec) = current
            .spec
            .as_mut()
            .filter(|spec| spec.holder_identity.as_deref() == Some(me))
        else {
            return Ok(());
        };
        spec.holder_identity = None;
        in_time(api.replace(NAME, &PostParams::default(), &current))
            .await
            .map(|_| ())
    };
    match freed.await {
        Ok(()) => tracing::info!("gave the leader lease back"),
        Err::<(), Error>(error) => {
            tracing::warn!(error = %chain(&error), "could not give the leader lease back");
        }
    }
}

async fn in_time<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(REQUEST_DEADLINE, request)
        .await
        .map_err(|_| Error::Timeout)?;
    Ok(answer?)
}

/// The lease as `me` writes it, from the one that was read.
fn filled(current: Option<Lease>, me: &str) -> Lease {
    let mut lease = current.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let spec = lease.spec.get_or_insert_default();
    let renewal = spec.holder_identity.as_deref() == Some(me);
    let acquired = if renewal {
        spec.acquire_time.clone()
    } else {
        Some(clock::wall_micro_time())
    };
    let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(!renewal);
    *spec = LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        acquire_time: acquired,
        renew_time: Some(clock::wall_micro_time()),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    lease
}

/// An error with all its sources, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, version: &str) -> Lease {
        let mut lease = filled(None, holder);
        lease.metadata.resource_version = Some(version.to_owned());
        lease
    }

    #[test]
    fn a_missing_lease_is_created() {
        assert_eq!(Watched::default().judge(None, "me", 0), Move::Create);
    }

    #[test]
    fn anothers_lease_is_left_alone_while_it_changes() {
        let mut watched = Watched::default();
        for (version, now) in [("1", 100), ("2", 2000), ("3", 4000), ("3", 6999)] {
            assert_eq!(
                watched.judge(Some(&held_by("other", version)), "me", now),
                Move::Wait,
                "{now}"
            );
        }
    }

    #[test]
    fn a_lease_unchanged_for_its_duration_is_taken_whatever_its_clock_says() {
        let mut watched = Watched::default();
        assert_eq!(
            watched.judge(Some(&held_by("other", "1")), "me", 50_000),
            Move::Wait
        );
        assert_eq!(
            watched.judge(Some(&held_by("other", "1")), "me", 53_000),
            Move::Take
        );
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let mut lease = held_by("other", "1");
        lease.spec.as_mut().unwrap().holder_identity = None;
        assert_eq!(Watched::default().judge(Some(&lease), "me", 0), Move::Take);
    }

    #[test]
    fn a_renewal_keeps_the_acquisition_and_a_takeover_counts() {
        let first = filled(None, "a");
        let renewed = filled(Some(first.clone()), "a");
        let taken = filled(Some(first.clone()), "b");
        let spec = |lease: &Lease| lease.spec.clone().unwrap();
        assert_eq!(spec(&renewed).acquire_time, spec(&first).acquire_time);
        assert_eq!(spec(&renewed).lease_transitions, Some(1));
        assert_eq!(spec(&taken).lease_transitions, Some(2));
    }

    #[test]
    fn the_holder_stops_before_others_may_take_over() {
        const { assert!(MARGIN > 0 && DURATION - MARGIN > 700 + 1000) };
    }
}
