//! Tokens: what a client shows, and what the Secret holds of it.
//!
//! A token is `ddb_<id>_<secret>`. The Secret has one key for each token, named by its id, whose value is a JSON
//! object: `{"hash":"<SHA-256 of the whole token, 64 hexadecimal digits>","role":"reader|writer|admin|<one of the resource>",
//! "databases":["shop"],"expires":"2027-01-01T00:00:00Z"}`; the last two may be left out. The Secret is mounted as a
//! directory; what changes there holds from the next look on, which is at most two seconds later. Tokens themselves
//! are nowhere stored.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tracing::{info, warn};

use super::{Account, Role, Roles};
use crate::clock;

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The id of the token, which is no secret.
    pub id: String,
    /// The paths that it may use.
    pub role: Role,
    /// The name of its role, which is one of the three or one of the resource.
    pub named: Arc<str>,
    /// The MySQL account that carries it out.
    pub account: Account,
    /// It may read rows; MySQL is not asked where they are read from its log.
    pub reads: bool,
    /// The only databases that it reaches; `None` for all.
    pub databases: Option<Vec<String>>,
}

impl Caller {
    /// True where the token reaches the database.
    pub fn reaches(&self, database: &str) -> bool {
        self.databases
            .as_ref()
            .is_none_or(|all| all.iter().any(|one| one == database))
    }
}

/// What a token is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is valid.
    Valid(Arc<Caller>),
    /// It was valid once.
    Expired,
    /// Nobody knows it.
    Unknown,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    hash: String,
    role: String,
    #[serde(default)]
    databases: Option<Vec<String>>,
    #[serde(default)]
    expires: Option<Timestamp>,
    /// For people.
    #[serde(default, rename = "note")]
    _note: Option<String>,
    /// For people.
    #[serde(default, rename = "created")]
    _created: Option<Timestamp>,
}

#[derive(Debug)]
struct Known {
    hash: [u8; 32],
    caller: Arc<Caller>,
    expires: Option<Timestamp>,
}

/// The tokens of the Secret.
#[derive(Debug)]
pub struct Tokens {
    directory: PathBuf,
    roles: Roles,
    known: RwLock<BTreeMap<String, Known>>,
}

impl Tokens {
    /// Reads the directory; one that is missing or empty lets nobody in.
    pub fn open(directory: PathBuf, roles: Roles) -> Self {
        let this = Self {
            known: RwLock::new(read(&directory, &roles)),
            directory,
            roles,
        };
        let count = this.known.read().unwrap_or_else(PoisonError::into_inner).len();
        info!(count, "tokens of the data API are known");
        this
    }

    /// Keeps them as the directory says.
    pub async fn follow(self: Arc<Self>) {
        let mut seen = self.changed();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.changed();
            if now == seen {
                continue;
            }
            seen = now;
            let known = read(&self.directory, &self.roles);
            info!(count = known.len(), "the tokens of the data API changed");
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        }
    }

    /// The kubelet swaps a symbolic link; whoever writes files changes the directory or a file.
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let mut all = vec![
            clock::changed_at(&self.directory.join("..data")),
            clock::changed_at(&self.directory),
        ];
        if let Ok(entries) = std::fs::read_dir(&self.directory) {
            all.extend(entries.flatten().map(|entry| clock::changed_at(&entry.path())));
        }
        all
    }

    /// Judges what a client shows. How long it takes says nothing of the hash.
    pub fn judge(&self, token: &str, now: Timestamp) -> Verdict {
        let hash = hash(token);
        let id = token
            .strip_prefix("ddb_")
            .and_then(|rest| rest.split_once('_'))
            .map_or("", |(id, _)| id);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = known.get(id) else {
            return Verdict::Unknown;
        };
        if !bool::from(entry.hash.ct_eq(&hash)) {
            return Verdict::Unknown;
        }
        if entry.expires.is_some_and(|expires| expires <= now) {
            return Verdict::Expired;
        }
        Verdict::Valid(Arc::clone(&entry.caller))
    }
}

/// What is stored of a token.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn read(directory: &PathBuf, roles: &Roles) -> BTreeMap<String, Known> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    let mut known = BTreeMap::new();
    for entry in entries.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        if id.starts_with('.') || !entry.path().is_file() {
            continue;
        }
        match std::fs::read_to_string(entry.path())
            .map_err(|error| error.to_string())
            .and_then(|text| parse(&id, &text, roles))
        {
            Ok(one) => {
                known.insert(id, one);
            }
            // What is wrong is said without what was written there.
            Err(reason) => warn!(token = id, reason, "a token cannot be used"),
        }
    }
    known
}

fn parse(id: &str, text: &str, roles: &Roles) -> Result<Known, String> {
    let Entry {
        hash,
        role,
        databases,
        expires,
        ..
    } = serde_json::from_str(text).map_err(|error| format!("at column {}", error.column()))?;
    let caller = roles
        .caller(id.to_owned(), &role, databases)
        .ok_or("the resource has no such role")?;
    Ok(Known {
        hash: from_hex(&hash).ok_or("the hash has not 64 hexadecimal digits")?,
        caller: Arc::new(caller),
        expires,
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn a_token_is_worth_what_the_secret_says() {
        let directory = std::env::temp_dir().join(format!("ddb-tokens-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let write = |id: &str, token: &str, more: &str| {
            let text = format!(r#"{{"hash":"{}","role":"writer"{more}}}"#, hex(&hash(token)));
            std::fs::write(directory.join(id), text).unwrap();
        };
        write("one", "ddb_one_secret", r#","databases":["shop"]"#);
        write("old", "ddb_old_secret", r#","expires":"2020-01-01T00:00:00Z""#);
        std::fs::write(directory.join("bad"), "{}").unwrap();
        let tokens = Tokens::open(directory.clone(), Roles::default());
        let Verdict::Valid(caller) = tokens.judge("ddb_one_secret", now()) else {
            panic!("it is valid");
        };
        assert!(caller.role == Role::Writer && caller.reaches("shop") && !caller.reaches("other"));
        assert_eq!(tokens.judge("ddb_one_secreT", now()), Verdict::Unknown);
        assert_eq!(tokens.judge("ddb_bad_", now()), Verdict::Unknown);
        assert_eq!(tokens.judge("", now()), Verdict::Unknown);
        assert_eq!(tokens.judge("ddb_old_secret", now()), Verdict::Expired);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
