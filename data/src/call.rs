//! One request: who asks for what, and what is to be recorded of it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, request::Parts},
};
use sha2::{Digest as _, Sha256};

use crate::{
    access::{Caller, Role},
    problem::{Kind, Problem},
    sql::Name,
};

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// It showed the certificate of a node of this database.
    pub is_node: bool,
}

/// What a request did, for the audit record.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// Database and table.
    pub object: String,
    /// Rows that were reached.
    pub rows: Option<u64>,
    /// The statements, with `?` for every value unless the resource asks for the values.
    pub statement: String,
    /// Something was asked of the operator.
    pub wishes: bool,
}

/// A hash of what makes a request another one.
pub type Fingerprint = [u8; 32];

/// A request that was let in.
#[derive(Debug, Clone)]
pub struct Call(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    trace: Option<String>,
    caller: Arc<Caller>,
    from: String,
    /// Shown again where another node is asked on the caller's behalf.
    authorization: HeaderValue,
    key: Option<String>,
    fingerprint: Fingerprint,
    note: Mutex<Note>,
}

impl Call {
    /// Of a request with this id, within a trace, from there.
    pub fn new(
        id: String,
        trace: Option<String>,
        caller: Arc<Caller>,
        from: String,
        mut authorization: HeaderValue,
        key: Option<String>,
        fingerprint: Fingerprint,
    ) -> Self {
        // No log shows it.
        authorization.set_sensitive(true);
        Self(Arc::new(Inner {
            id,
            trace,
            caller,
            from,
            authorization,
            key,
            fingerprint,
            note: Mutex::default(),
        }))
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The id of the trace that it belongs to.
    pub fn trace(&self) -> Option<&str> {
        self.0.trace.as_deref()
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// From where.
    pub fn from(&self) -> &str {
        &self.0.from
    }

    /// What the caller showed.
    pub fn authorization(&self) -> HeaderValue {
        self.0.authorization.clone()
    }

    /// The key by which the request is known again.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What makes the request another one; of no meaning without a key.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }

    /// What is to be recorded.
    pub fn note(&self) -> MutexGuard<'_, Note> {
        self.0.note.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a caller whose role does not reach so far.
    pub fn require(&self, role: Role) -> Result<(), Problem> {
        if self.caller().role >= role {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Forbidden,
            format!(
                "this needs the role {}, the token has {}",
                role.name(),
                self.caller().named
            ),
        ))
    }

    /// Refuses a database that the caller does not reach, and notes it as the object.
    pub fn reach(&self, database: &Name) -> Result<(), Problem> {
        database.as_str().clone_into(&mut self.note().object);
        if database.is_system() {
            return Err(Problem::new(
                Kind::Forbidden,
                format!(
                    "{} is a database of the system; no token reaches it",
                    database.as_str()
                ),
            ));
        }
        if self.caller().reaches(database.as_str()) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Forbidden,
            format!("the token does not reach the database {}", database.as_str()),
        ))
    }

    /// [`Call::reach`] with the table as the object.
    pub fn reach_table(&self, database: &Name, table: &Name) -> Result<(), Problem> {
        self.reach(database)?;
        self.note().object = format!("{}.{}", database.as_str(), table.as_str());
        Ok(())
    }
}

/// What makes a request another one: method, path, query and body.
pub fn fingerprint(method: &str, path: &str, body: &[u8]) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes(), body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::new(Kind::Internal, "the request was not let in"))
    }
}
