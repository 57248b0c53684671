//! Wires the parts together and runs them until the operator is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Register, Shared};
use crate::events::Events;
use crate::handoff::Leadership;
use crate::http::{self, Served};
use crate::lease::{self, LeaderLease};
use crate::metrics::Metrics;
use crate::reconcile;
use crate::settings::Settings;
use crate::snapshot::{self, Snapshots};

const RETRY: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the parts get to end in order before the program ends anyway.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why the operator cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account is there.
    #[error("no way to the API server is configured: neither a kubeconfig nor a pod's service account")]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration makes no client.
    #[error("the configuration of the API server's client cannot be used")]
    Client(#[source] Box<kube::Error>),
    /// The address of probes and metrics is taken.
    #[error("probes and metrics cannot be served on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs until `shutdown`.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let client = Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))?;
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind(settings.http)
        .await
        .map_err(|source| Error::Listen {
            address: settings.http,
            source,
        })?;
    let served = Served {
        metrics: Arc::clone(&metrics),
        ready: Arc::clone(&ready),
    };
    let http = tokio::spawn(http::serve(listener, served, shutdown.clone()));
    await_api(&client, &shutdown).await;
    ready.store(true, Ordering::Relaxed);

    let lease = Arc::new(LeaderLease::default());
    let snapshots = Arc::new(Snapshots::default());
    let scope = settings.watch_namespace.clone();
    tokio::spawn(snapshot::watch_pods(
        Arc::clone(&snapshots),
        client.clone(),
        scope.clone(),
    ));
    tokio::spawn(snapshot::watch_slices(
        Arc::clone(&snapshots),
        client.clone(),
        scope,
    ));
    let shared = Arc::new(Shared {
        client: client.clone(),
        lease: Arc::clone(&lease),
        snapshots,
        events: Events::start(client.clone(), &settings.identity),
        metrics: Arc::clone(&metrics),
    });
    let clusters = Arc::new(Register::new(shared));
    let context = reconcile::Context::new(
        client.clone(),
        reconcile::Settings {
            node_image: settings.node_image.clone(),
            mysql_image: settings.mysql_image.clone(),
            watch_namespace: settings.watch_namespace.clone(),
        },
        clusters,
        Arc::clone(&lease) as Arc<dyn Leadership>,
    );
    let reconciling = tokio::spawn(reconcile::run(context, shutdown.clone().cancelled_owned()));
    lease::run(
        &lease,
        client,
        &settings.namespace,
        &settings.identity,
        &metrics,
        shutdown,
    )
    .await;
    let ended = async { tokio::join!(reconciling, http) };
    if tokio::time::timeout(FAREWELL, ended).await.is_err() {
        tracing::warn!("not everything ended in order");
    }
    Ok(())
}

/// Waits for the API server's first answer, with a sentence about why there is none.
async fn await_api(client: &Client, shutdown: &CancellationToken) {
    let mut said = String::new();
    while !shutdown.is_cancelled() {
        match client.apiserver_version().await {
            Ok(version) => {
                tracing::info!(version = version.git_version, "the API server answers");
                return;
            }
            Err(error) => {
                let why = lease::chain(&error);
                if why != said {
                    tracing::warn!(
                        error = why,
                        "the API server cannot be reached yet; trying again every two seconds"
                    );
                    said = why;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}
