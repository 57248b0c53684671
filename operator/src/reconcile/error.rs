//! What can go wrong while a database's objects are applied. Each message names the object and what to do, because
//! it ends as a sentence in the resource's status.

use thiserror::Error;

use crate::pki;

/// A step that could not be completed.
#[derive(Debug, Error)]
pub enum Error {
    /// This operator leads no longer; the one that does goes on.
    #[error("this operator is not the leader")]
    NotLeader,
    /// The API server did not carry out a request.
    #[error("cannot {verb} {kind} {name}")]
    Api {
        /// What was asked for.
        verb: &'static str,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The server's answer.
        source: Box<kube::Error>,
    },
    /// An object of the needed name belongs to somebody else.
    #[error(
        "{kind} {name} exists and does not belong to this database; delete it, give the database another name, or hand it over with the label {label}={cluster}",
        label = api::names::LABEL_CLUSTER
    )]
    Foreign {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The database that wants the name.
        cluster: String,
    },
    /// A Secret lacks what is needed.
    #[error("Secret {name} has no `{key}`; add it, or delete the Secret to have a new one made")]
    Incomplete {
        /// The Secret's name.
        name: String,
        /// The missing key.
        key: &'static str,
    },
    /// The Secret that the spec names for the data API's certificate cannot be used.
    #[error("Secret {name}, which spec.api.certificateSecret names, {lack}; mend it, or remove the field")]
    UsersCertificate {
        /// The Secret's name.
        name: String,
        /// What is wrong with it.
        lack: &'static str,
    },
    /// A stored certificate is of no use.
    #[error(
        "Secret {name} does not hold a usable certificate authority; put the former one back, or delete the Secret and then the pods one by one to have a new one made"
    )]
    Authority {
        /// The Secret's name.
        name: String,
        /// What is wrong with it.
        source: pki::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of Secret {name}")]
    Certificate {
        /// The Secret's name.
        name: String,
        /// Why.
        source: pki::Error,
    },
    /// The system gave no randomness.
    #[error("the system gives no random numbers for a password")]
    Randomness(#[source] rand::rand_core::OsError),
}

impl Error {
    /// The error with all its causes, as one sentence.
    pub fn sentence(&self) -> String {
        if let Self::Api { source, .. } = self
            && let kube::Error::Api(status) = source.as_ref()
        {
            // The client's own text repeats the answer three times over.
            return format!("{self}: {}", status.message);
        }
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            // kube repeats its sources in its own text.
            let reason = error.to_string();
            if !text.contains(&reason) {
                text = format!("{text}: {reason}");
            }
            cause = error.source();
        }
        text
    }
}
