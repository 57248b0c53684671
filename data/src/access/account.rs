//! Tokens of Kubernetes service accounts: whom they stand for is asked of the operator, which asks the API server, and
//! remembered for a short while. No node has rights at the API server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::timeout};

use super::{Caller, Roles, hash};
use crate::{
    clock,
    host::{Host, Reviewed},
    problem::{Kind, Problem},
};

/// What a token is worth is asked anew after this time: one that was revoked opens nothing beyond it.
const KEPT: Duration = Duration::from_mins(1);
/// One that stands for nobody may be asked about again sooner: the resource may name its account by then.
const KEPT_NOBODY: Duration = Duration::from_secs(10);
/// Tokens that are remembered at most.
const MANY: usize = 1024;
/// Reviews under way at a time.
const AT_A_TIME: usize = 8;
/// How long a request waits for its review to begin.
const TURN: Duration = Duration::from_secs(2);
/// Lengths that a token of the API server can have, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 64..=8192;
/// The longest id of a caller, as the table of keys holds it.
const LONGEST_ID: usize = 64;

type Known = BTreeMap<[u8; 32], (Instant, Option<Arc<Caller>>)>;

/// What is remembered of one token.
enum Remembered {
    Somebody(Arc<Caller>),
    Nobody,
    Nothing,
}

/// What is remembered.
#[derive(Debug)]
pub struct Accounts {
    known: Mutex<Known>,
    reviews: Semaphore,
    roles: Roles,
}

impl Accounts {
    /// Remembers nothing yet.
    pub fn new(roles: Roles) -> Self {
        Self {
            roles,
            known: Mutex::default(),
            reviews: Semaphore::new(AT_A_TIME),
        }
    }
}

/// True for what has the form of a signed token (three parts): anything else is asked about nowhere.
pub fn is_signed(token: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    LENGTHS.contains(&token.len()) && token.split('.').count() == 3 && token.split('.').all(part)
}

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, hash: &[u8; 32]) -> Remembered {
        match self.lock().get(hash) {
            Some((since, caller)) if clock::since(*since) < kept(caller.is_some()) => match caller {
                Some(caller) => Remembered::Somebody(Arc::clone(caller)),
                None => Remembered::Nobody,
            },
            _ => Remembered::Nothing,
        }
    }

    /// Whom the token stands for; `None` for nobody.
    pub async fn judge(&self, host: &dyn Host, token: &str) -> Result<Option<Arc<Caller>>, Problem> {
        let hash = hash(token);
        match self.remembered(&hash) {
            Remembered::Somebody(caller) => return Ok(Some(caller)),
            Remembered::Nobody => return Ok(None),
            Remembered::Nothing => {}
        }
        let busy = || {
            Problem::new(
                Kind::Busy,
                "the node has as many tokens reviewed as it can at the moment; try again",
            )
        };
        let _turn = timeout(TURN, self.reviews.acquire())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        // Others with the same token may have waited for the same answer.
        match self.remembered(&hash) {
            Remembered::Somebody(caller) => return Ok(Some(caller)),
            Remembered::Nobody => return Ok(None),
            Remembered::Nothing => {}
        }
        let reviewed = host.review(token.to_owned()).await?;
        let caller = reviewed.and_then(|reviewed| caller(reviewed, &self.roles).map(Arc::new));
        let mut known = self.lock();
        if known.len() >= MANY {
            known.retain(|_, (since, caller)| clock::since(*since) < kept(caller.is_some()));
        }
        if known.len() < MANY {
            known.insert(hash, (clock::now(), caller.clone()));
        }
        Ok(caller)
    }
}

fn kept(is_somebody: bool) -> Duration {
    if is_somebody { KEPT } else { KEPT_NOBODY }
}

/// The id cannot be one of the Secret's: its keys have no slash.
fn caller(reviewed: Reviewed, roles: &Roles) -> Option<Caller> {
    let Reviewed {
        account,
        role,
        databases,
    } = reviewed;
    let mut id = format!("sa/{account}");
    if id.len() > LONGEST_ID {
        let hash = Sha256::digest(account.as_bytes());
        let half = u128::from_be_bytes(*hash.first_chunk().unwrap_or(&[0; 16]));
        id = format!("sa/{half:032x}");
    }
    let caller = roles.caller(id, &role, databases);
    if caller.is_none() {
        tracing::warn!(
            account,
            role,
            "a service account has a role that this node does not know (yet)"
        );
    }
    caller
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_form_of_a_signed_token_is_asked_about() {
        let part = "a".repeat(40);
        assert!(is_signed(&format!("{part}.{part}.{part}_-")));
        for other in [
            String::new(),
            "ddb_one_secret".to_owned(),
            format!("{part}.{part}"),
            format!("{part}..{part}"),
            format!("{part}.{part}.{part}="),
            "a.".repeat(8000),
        ] {
            assert!(!is_signed(&other), "{other}");
        }
    }

    #[test]
    fn an_id_fits_into_the_table_of_keys() {
        let of = |account: &str| {
            let reviewed = Reviewed {
                account: account.to_owned(),
                role: "reader".to_owned(),
                databases: None,
            };
            caller(reviewed, &Roles::default()).unwrap().id
        };
        assert_eq!(of("ns/web"), "sa/ns/web");
        let [one, other] = ["a", "b"].map(|end| of(&format!("{}/{end}", "n".repeat(300))));
        assert!(one.len() <= LONGEST_ID && one != other);
    }
}
