//! How much one token may ask of this node: requests a second, and requests at a time.
//!
//! The rate is a bucket that holds one second's worth and fills evenly. What another node forwards was counted there.
//! Tokens are known before they are counted, so that their number is bounded by what the operator and the Secret say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    clock,
    problem::{Kind, Problem},
};

/// What a token may ask, by the standard's name.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it.
const LEFT: HeaderName = HeaderName::from_static("ratelimit");
/// The time that the rate is counted over.
const WINDOW: Duration = Duration::from_secs(1);
/// Tokens that ask nothing any more are forgotten when so many are known.
const MANY: usize = 1024;

/// The counts of all tokens.
#[derive(Debug)]
pub struct Quotas {
    /// Requests a second; 0 for any number.
    rate: u32,
    /// Requests at a time.
    most: u32,
    known: Mutex<BTreeMap<String, Usage>>,
}

#[derive(Debug, Clone, Copy)]
struct Usage {
    running: u32,
    /// When the bucket is full again.
    full_at: Instant,
}

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    name: &'static str,
    /// What it may.
    limit: u32,
    /// What is left of it.
    left: u32,
    /// Seconds until all of it is there again.
    reset: u64,
}

impl Standing {
    /// Says it in the reply.
    pub fn say(self, headers: &mut HeaderMap) {
        let Self {
            name,
            limit,
            left,
            reset,
        } = self;
        let policy = if name == "rate" {
            format!("\"rate\";q={limit};w={}", WINDOW.as_secs())
        } else {
            format!("\"{name}\";q={limit};qu=\"concurrent-requests\"")
        };
        for (header, text) in [(POLICY, policy), (LEFT, format!("\"{name}\";r={left};t={reset}"))] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(header, value);
            }
        }
    }
}

/// One request of a token; it counts as running for as long as this lives.
#[derive(Debug)]
pub struct Pass {
    quotas: Arc<Quotas>,
    token: String,
    standing: Option<Standing>,
}

impl Pass {
    /// Where the token stands with it; `None` where its rate has no limit.
    pub fn standing(&self) -> Option<Standing> {
        self.standing
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(usage) = self.quotas.lock().get_mut(&self.token) {
            usage.running = usage.running.saturating_sub(1);
        }
    }
}

impl Quotas {
    /// Nobody has asked anything yet.
    pub fn new(rate: u32, most: u32) -> Self {
        Self {
            rate,
            most,
            known: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Usage>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request of a token, or refuses it.
    pub fn enter(self: &Arc<Self>, token: &str) -> Result<Pass, Problem> {
        self.enter_at(token, clock::now())
    }

    fn enter_at(self: &Arc<Self>, token: &str, now: Instant) -> Result<Pass, Problem> {
        let mut known = self.lock();
        if known.len() >= MANY && !known.contains_key(token) {
            known.retain(|_, usage| usage.running > 0 || usage.full_at > now);
        }
        let usage = known.entry(token.to_owned()).or_insert(Usage {
            running: 0,
            full_at: now,
        });
        if usage.running >= self.most {
            return Err(refusal(
                Standing {
                    name: "concurrency",
                    limit: self.most,
                    left: 0,
                    reset: 1,
                },
                format!(
                    "the token has {} requests at a time under way on this node, which is all it may; wait for one to \
                     end, or raise spec.api.limits.tokenRequests",
                    self.most
                ),
            ));
        }
        let standing = self.take(usage, now)?;
        usage.running += 1;
        Ok(Pass {
            quotas: Arc::clone(self),
            token: token.to_owned(),
            standing,
        })
    }

    /// Takes one from the bucket.
    fn take(&self, usage: &mut Usage, now: Instant) -> Result<Option<Standing>, Problem> {
        let Some(each) = WINDOW.checked_div(self.rate) else {
            return Ok(None);
        };
        let missing = usage.full_at.saturating_duration_since(now) + each;
        let standing = |missing: Duration| Standing {
            name: "rate",
            limit: self.rate,
            left: u32::try_from(WINDOW.saturating_sub(missing).as_nanos() / each.as_nanos())
                .unwrap_or(self.rate),
            reset: missing.as_secs() + u64::from(missing.subsec_nanos() > 0),
        };
        if missing > WINDOW {
            return Err(refusal(
                Standing {
                    left: 0,
                    ..standing(missing)
                },
                format!(
                    "the token may send {} requests a second to this node; send fewer, or raise \
                     spec.api.limits.tokenRequestsPerSecond",
                    self.rate
                ),
            ));
        }
        usage.full_at = now + missing;
        Ok(Some(standing(missing)))
    }
}

fn refusal(standing: Standing, detail: String) -> Problem {
    let mut problem = Problem::new(Kind::TooManyRequests, detail);
    problem.quota = Some(standing);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gets_its_second_s_worth_and_then_as_much_as_time_brings() {
        let quotas = Arc::new(Quotas::new(10, 100));
        let now = clock::now();
        let mut left = Vec::new();
        for _ in 0..10 {
            let pass = quotas.enter_at("one", now).unwrap();
            left.push(pass.standing().unwrap().left);
        }
        assert_eq!(left, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        let refused = quotas.enter_at("one", now).unwrap_err();
        assert_eq!(refused.kind(), Kind::TooManyRequests);
        assert!(
            quotas.enter_at("two", now).is_ok(),
            "another token is another bucket"
        );
        let later = now + Duration::from_millis(100);
        assert!(quotas.enter_at("one", later).is_ok());
        assert!(quotas.enter_at("one", later).is_err());
        let much_later = now + Duration::from_mins(1);
        for _ in 0..10 {
            assert!(quotas.enter_at("one", much_later).is_ok());
        }
        assert!(quotas.enter_at("one", much_later).is_err(), "no more is saved up");
    }

    #[test]
    fn a_token_has_so_many_requests_at_a_time_and_each_end_makes_room() {
        let quotas = Arc::new(Quotas::new(0, 2));
        let first = quotas.enter("one").unwrap();
        let _second = quotas.enter("one").unwrap();
        assert_eq!(first.standing(), None);
        assert!(quotas.enter("one").is_err());
        drop(first);
        assert!(quotas.enter("one").is_ok());
    }

    #[test]
    fn tokens_that_ask_nothing_any_more_are_forgotten() {
        let quotas = Arc::new(Quotas::new(1, 1));
        let now = clock::now();
        let _running = quotas.enter_at("runs", now).unwrap();
        for at in 0..MANY * 3 {
            let _ = quotas.enter_at(&at.to_string(), now + WINDOW * 2 * u32::try_from(at).unwrap());
        }
        assert!(quotas.lock().len() <= MANY + 1);
        assert!(quotas.lock().contains_key("runs"));
    }
}
