//! What is remembered of each database between two reconciles: the operator's TLS identity, which must stay the
//! same object while nothing changed (sessions are kept by it), and what came of the last attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover::Millis;
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;

use super::rollout::{Condition, PATIENCE, REST};
use crate::clock;
use crate::handoff::Applied;
use crate::pki::{self, Pair};

/// The first wait after a failure; doubled by each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(30);

type Key = ObjectRef<api::DistributedDatabase>;

/// Memory of all databases.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<Key, Known>>);

#[derive(Default)]
struct Known {
    identity: Option<Identity>,
    applied: Option<Applied>,
    failures: u32,
    serving_since: Option<Millis>,
    at_rest_since: Option<Millis>,
}

fn has_passed(time: Duration, since: Millis, now: Millis) -> bool {
    now >= since + clock::millis(time)
}

struct Identity {
    authority: Pair,
    made: Timestamp,
    config: Arc<rustls::ClientConfig>,
}

impl Memory {
    fn with<T>(&self, key: &Key, what: impl FnOnce(&mut Known) -> T) -> T {
        // A panic elsewhere leaves nothing half-written here.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        what(all.entry(key.clone()).or_default())
    }

    /// The identity for a database's authority; made anew only when the authority changed or its time is due.
    pub fn identity(
        &self,
        key: &Key,
        authority: &Pair,
        now: Timestamp,
    ) -> Result<Arc<rustls::ClientConfig>, pki::Error> {
        self.with(key, |known| {
            let present = known.identity.as_ref();
            let holds =
                present.filter(|known| known.authority == *authority && !pki::client_is_due(known.made, now));
            if let Some(Identity {
                authority: _,
                made: _,
                config,
            }) = holds
            {
                return Ok(Arc::clone(config));
            }
            let config = Arc::new(pki::client(authority, now)?);
            let authority = authority.clone();
            known.identity = Some(Identity {
                authority,
                made: now,
                config: Arc::clone(&config),
            });
            Ok(config)
        })
    }

    /// The identity made last, for when the authority cannot be read now.
    pub fn last_identity(&self, key: &Key) -> Option<Arc<rustls::ClientConfig>> {
        self.with(key, |known| {
            known
                .identity
                .as_ref()
                .map(|identity| Arc::clone(&identity.config))
        })
    }

    /// What came of the last attempt; before the first there is nothing to complain of.
    pub fn applied(&self, key: &Key) -> Applied {
        self.with(key, |known| known.applied.clone().unwrap_or(Applied::Done))
    }

    /// Notes what came of an attempt; returns how long to wait before the next one if it failed.
    pub fn note(&self, key: &Key, applied: &Applied) -> Option<Duration> {
        self.with(key, |known| {
            known.applied = Some(applied.clone());
            if !matches!(applied, Applied::Failed { .. }) {
                known.failures = 0;
                return None;
            }
            let wait = FIRST_RETRY
                .saturating_mul(2_u32.saturating_pow(known.failures))
                .min(LAST_RETRY);
            known.failures = known.failures.saturating_add(1);
            Some(wait)
        })
    }

    /// Notes the database's condition at `now`; true where it has been so for long enough that a pod may be replaced.
    pub fn is_rested(&self, key: &Key, condition: Condition, now: Millis) -> bool {
        self.with(key, |known| {
            let since = known.serving_since.unwrap_or(now);
            known.serving_since = (condition != Condition::Broken).then_some(since);
            let since = known.at_rest_since.unwrap_or(now);
            known.at_rest_since = (condition == Condition::AtRest).then_some(since);
            known
                .at_rest_since
                .is_some_and(|since| has_passed(REST, since, now))
                || known
                    .serving_since
                    .is_some_and(|since| has_passed(PATIENCE, since, now))
        })
    }

    /// True while a database that came to rest has not been so for [`REST`].
    pub fn rests(&self, key: &Key, now: Millis) -> bool {
        self.with(key, |known| {
            known
                .at_rest_since
                .is_some_and(|since| !has_passed(REST, since, now))
        })
    }

    /// Forgets a database that is gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        ObjectRef::new("shop").within("default")
    }

    #[test]
    fn the_identity_stays_the_same_object_until_its_authority_changes_or_its_time_is_due() {
        let (memory, now) = (Memory::default(), Timestamp::from_second(1_800_000_000).unwrap());
        let authority = pki::authority("shop", now).unwrap();
        let first = memory.identity(&key(), &authority, now).unwrap();
        assert!(Arc::ptr_eq(
            &first,
            &memory.identity(&key(), &authority, now).unwrap()
        ));
        let later = now + jiff::SignedDuration::from_hours(24 * 25);
        let second = memory.identity(&key(), &authority, later).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        let other = pki::authority("shop", now).unwrap();
        assert!(!Arc::ptr_eq(
            &second,
            &memory.identity(&key(), &other, later).unwrap()
        ));
    }

    #[test]
    fn a_database_has_rested_after_a_while_without_a_break_or_when_patience_ends() {
        let (memory, rest) = (Memory::default(), clock::millis(REST));
        let is_rested = |condition, now| memory.is_rested(&key(), condition, now);
        assert!(!is_rested(Condition::AtRest, 100));
        assert!(memory.rests(&key(), 100));
        assert!(!is_rested(Condition::AtRest, 99 + rest));
        assert!(is_rested(Condition::AtRest, 100 + rest));
        assert!(!memory.rests(&key(), 100 + rest));
        assert!(!is_rested(Condition::CatchingUp, 101 + rest));
        assert!(!is_rested(Condition::AtRest, 102 + rest));
        let patience = clock::millis(PATIENCE);
        assert!(!is_rested(Condition::CatchingUp, 99 + patience));
        assert!(is_rested(Condition::CatchingUp, 100 + patience));
        assert!(!is_rested(Condition::Broken, 101 + patience));
        assert!(!is_rested(Condition::CatchingUp, 102 + patience));
    }

    #[test]
    fn failures_are_retried_ever_more_slowly_and_a_success_starts_over() {
        let memory = Memory::default();
        let failed = Applied::Failed {
            message: "no".to_owned(),
        };
        assert_eq!(memory.note(&key(), &failed), Some(Duration::from_millis(500)));
        assert_eq!(memory.note(&key(), &failed), Some(Duration::from_secs(1)));
        for _ in 0..100 {
            memory.note(&key(), &failed);
        }
        assert_eq!(memory.note(&key(), &failed), Some(LAST_RETRY));
        assert_eq!(memory.note(&key(), &Applied::Done), None);
        assert_eq!(memory.note(&key(), &failed), Some(FIRST_RETRY));
    }
}
