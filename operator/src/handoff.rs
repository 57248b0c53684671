//! The border between the two halves of the operator: the reconcile side builds a database's objects and hands
//! over what it applied; the engine side leads the database. Neither knows more of the other than this file.

use std::sync::Arc;

use api::DistributedDatabase;

/// One database as the reconcile side last saw and applied it.
pub struct Desired {
    /// The resource, as read from the API server.
    pub object: Arc<DistributedDatabase>,
    /// What came of applying it.
    pub applied: Applied,
    /// The operator's client identity for the database's nodes, once its certificate authority exists.
    pub identity: Option<Arc<rustls::ClientConfig>>,
}

/// What came of applying a database's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Every object is as it should be.
    Done,
    /// The spec was refused; what ran before runs on.
    Invalid {
        /// What is wrong, each in a sentence that names the field and the mend.
        problems: Vec<String>,
    },
    /// An object could not be applied; it is tried again.
    Failed {
        /// Why, in a sentence.
        message: String,
    },
}

/// The engine's register of databases. Neither call waits.
pub trait Clusters: Send + Sync {
    /// Tells the engine the newest state of a database; a new one gets its failover task.
    fn put(&self, desired: Desired);
    /// Tells the engine that a database is gone; its task ends.
    fn forget(&self, namespace: &str, name: &str);
}

/// Whether this operator may write.
pub trait Leadership: Send + Sync {
    /// True while the lease is surely held, by the local clock; asked before each write.
    fn is_leader(&self) -> bool;
}
