//! From the flags to a client, with kubectl's rules: `--kubeconfig`, then KUBECONFIG, then ~/.kube/config, then the
//! pod's own account.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::arguments::Place;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Why there is no client. kube's errors repeat their sources, so only the innermost is kept, as text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that was named cannot be used.
    #[error("the kubeconfig {file} cannot be used ({why}); name another with --kubeconfig")]
    File {
        /// The file.
        file: String,
        /// Why.
        why: String,
    },
    /// There is none.
    #[error(
        "no cluster is configured here; name a kubeconfig with --kubeconfig or KUBECONFIG, or put one at ~/.kube/config"
    )]
    Nothing,
    /// It has no such context.
    #[error("the kubeconfig has no context {wanted}; {}", offers(existing))]
    NoContext {
        /// What was asked for.
        wanted: String,
        /// What there is.
        existing: Vec<String>,
    },
    /// The kubeconfig names no context and none was asked for.
    #[error(
        "the kubeconfig names no current context; choose one with --context: {}",
        offers(existing)
    )]
    NoCurrent {
        /// What there is.
        existing: Vec<String>,
    },
    /// What the context says cannot be used.
    #[error("the kubeconfig's context cannot be used ({why}); look at `kubectl config view`")]
    Context {
        /// Why.
        why: String,
    },
    /// The client cannot be made from it.
    #[error("no connection can be made with this kubeconfig; look at `kubectl config view`")]
    Client(#[source] kube::Error),
}

fn offers(existing: &[String]) -> String {
    if existing.is_empty() {
        "it has none at all".to_owned()
    } else {
        format!("it has {}", existing.join(", "))
    }
}

/// A cluster, and where in it to look.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace that is meant.
    pub namespace: String,
    /// The API server's address, for messages.
    pub address: String,
}

/// Makes the client. Nothing is sent yet.
pub async fn connect(place: &Place) -> Result<Cluster, Error> {
    let mut config = config(place).await?;
    config.connect_timeout = Some(CONNECT_DEADLINE);
    let namespace = place
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let address = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(Error::Client)?;
    Ok(Cluster {
        client,
        namespace,
        address,
    })
}

async fn config(place: &Place) -> Result<Config, Error> {
    let file = match &place.kubeconfig {
        Some(path) => Some(Kubeconfig::read_from(path).map_err(|error| Error::File {
            file: path.display().to_string(),
            why: innermost(&error),
        })?),
        None => usual()?,
    };
    let Some(file) = file else {
        return match &place.context {
            Some(wanted) => Err(Error::NoContext {
                wanted: wanted.clone(),
                existing: Vec::new(),
            }),
            // In a pod: its own account.
            None => Config::incluster().map_err(|_| Error::Nothing),
        };
    };
    from_file(file, place.context.as_deref()).await
}

async fn from_file(file: Kubeconfig, wanted: Option<&str>) -> Result<Config, Error> {
    let existing: Vec<String> = file.contexts.iter().map(|context| context.name.clone()).collect();
    let current = wanted.or(file.current_context.as_deref()).unwrap_or_default();
    if current.is_empty() {
        return Err(Error::NoCurrent { existing });
    }
    if !existing.iter().any(|name| name == current) {
        return Err(Error::NoContext {
            wanted: current.to_owned(),
            existing,
        });
    }
    let options = KubeConfigOptions {
        context: Some(current.to_owned()),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(|error| Error::Context {
            why: innermost(&error),
        })
}

/// The files of KUBECONFIG or ~/.kube/config; none where there is none at all.
fn usual() -> Result<Option<Kubeconfig>, Error> {
    match Kubeconfig::read() {
        Ok(file) => Ok(Some(file)),
        Err(KubeconfigError::FindPath) => Ok(None),
        Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(Error::File {
            file: "of KUBECONFIG or ~/.kube/config".to_owned(),
            why: innermost(&error),
        }),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}]
contexts: [{name: test, context: {cluster: c, user: u, namespace: shops}}]
users: [{name: u, user: {token: t}}]
";

    async fn of(wanted: Option<&str>) -> Result<Config, Error> {
        from_file(Kubeconfig::from_yaml(FILE).unwrap(), wanted).await
    }

    #[tokio::test]
    async fn the_namespace_of_the_context_counts() {
        assert_eq!(of(Some("test")).await.unwrap().default_namespace, "shops");
    }

    #[tokio::test]
    async fn a_context_that_is_missing_is_told_with_those_that_exist() {
        let error = of(Some("prod")).await.unwrap_err().to_string();
        assert_eq!(error, "the kubeconfig has no context prod; it has test");
        let error = of(None).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "the kubeconfig names no current context; choose one with --context: it has test"
        );
    }
}
