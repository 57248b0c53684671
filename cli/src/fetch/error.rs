//! Failures of the API server as sentences that say what to do.

use std::time::Duration;

/// How long one request may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The command that installs the operator with the definition of the resource.
pub const INSTALL: &str =
    "helm install ddb-operator charts/ddb-operator --namespace ddb-system --create-namespace";

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(
        "the API server {address} does not answer; look whether it runs and can be reached from here, or choose \
         another cluster with --context"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the network says, where it says something.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The kind is unknown.
    #[error("DistributedDatabase is not installed in this cluster; install the operator: {INSTALL}")]
    NotInstalled,
    /// There is no such database.
    #[error(
        "there is no database {name} in the namespace {namespace}; {}",
        offers(existing, namespace)
    )]
    NoSuchDatabase {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// Those that exist, as namespace and name.
        existing: Vec<(String, String)>,
    },
    /// Not with this account.
    #[error("you may not {what}; ask for the right, or use another account with --context ({message})")]
    Forbidden {
        /// What was tried.
        what: &'static str,
        /// What the API server said.
        message: String,
    },
    /// The account is not known.
    #[error(
        "the API server does not know you; log in again, or use another account with --context ({message})"
    )]
    Unauthorized {
        /// What the API server said.
        message: String,
    },
    /// The API server refused for another reason.
    #[error("the API server refused to {what}: {message}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What it said.
        message: String,
        /// The status code.
        code: u16,
    },
    /// Something else.
    #[error("could not {what}")]
    Other {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: kube::Error,
    },
}

fn offers(existing: &[(String, String)], namespace: &str) -> String {
    if existing.is_empty() {
        return "there is none at all; make one with kubectl apply -f examples/shop.yaml".to_owned();
    }
    let (here, elsewhere): (Vec<_>, Vec<_>) = existing.iter().partition(|(other, _)| other == namespace);
    let here: Vec<&str> = here.iter().map(|(_, name)| name.as_str()).collect();
    let elsewhere: Vec<String> = elsewhere
        .iter()
        .take(10)
        .map(|(other, name)| format!("{name} (-n {other})"))
        .collect();
    match (here.is_empty(), elsewhere.is_empty()) {
        (false, true) => format!("those that exist: {}", here.join(", ")),
        (true, _) => format!("elsewhere there are: {}", elsewhere.join(", ")),
        (false, false) => format!(
            "here there are: {}; elsewhere: {}",
            here.join(", "),
            elsewhere.join(", ")
        ),
    }
}

impl Error {
    /// Sorts a client's failure.
    pub fn of(what: &'static str, address: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let message = status.message.trim().to_owned();
                match status.code {
                    401 => Self::Unauthorized { message },
                    403 => Self::Forbidden { what, message },
                    code => Self::Refused { what, message, code },
                }
            }
            kube::Error::Service(source) => Self::Unreachable {
                address: address.to_owned(),
                source: Some(source),
            },
            kube::Error::HyperError(source) => Self::Unreachable {
                address: address.to_owned(),
                source: Some(Box::new(source)),
            },
            source => Self::Other { what, source },
        }
    }

    /// No answer in time.
    pub fn silent(address: &str) -> Self {
        Self::Unreachable {
            address: address.to_owned(),
            source: None,
        }
    }

    /// True where the API server answered with this code.
    pub fn has_code(&self, wanted: u16) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }

    /// True where another account might have been allowed to.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(existing: &[(&str, &str)]) -> String {
        Error::NoSuchDatabase {
            name: "shop".to_owned(),
            namespace: "default".to_owned(),
            existing: existing
                .iter()
                .map(|(namespace, name)| ((*namespace).to_owned(), (*name).to_owned()))
                .collect(),
        }
        .to_string()
    }

    #[test]
    fn a_missing_database_is_told_with_those_that_exist() {
        assert_eq!(
            missing(&[("default", "orders")]),
            "there is no database shop in the namespace default; those that exist: orders"
        );
        assert_eq!(
            missing(&[("live", "shop")]),
            "there is no database shop in the namespace default; elsewhere there are: shop (-n live)"
        );
        assert!(missing(&[]).ends_with("make one with kubectl apply -f examples/shop.yaml"));
    }
}
