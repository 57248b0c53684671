//! The listener: TLS, HTTP/1.1 and HTTP/2, and an end that lets what runs finish.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, http::Request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::{ServiceExt as _, service_fn};
use tracing::{debug, info, warn};

use crate::{call::Peer, clock, tls};

/// A client that does not complete its handshake or its headers within this time is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections at a time; further clients wait to be accepted.
const CONNECTIONS: usize = 4096;
/// Requests of one connection at a time.
const STREAMS: u32 = 256;
/// How often the certificates are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Where certificates are.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The node's own: `ca.crt`, `tls.crt`, `tls.key`.
    pub node: PathBuf,
    /// The user's, for clients: `tls.crt` and `tls.key`. There need not be any.
    pub users: PathBuf,
}

/// The certificates in use.
struct Tls {
    config: Arc<ServerConfig>,
    own_name: String,
}

/// Serves until `stop` says so, and then until what runs has finished.
pub async fn serve(
    listener: TcpListener,
    places: Certificates,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let (sender, certificates) = watch::channel(places.read().or_else(|| places.read_own()));
    tokio::spawn(places.follow(sender));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return Ok(());
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others will be closed.
                debug!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(tls) = certificates.borrow().clone() else {
            continue;
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection(stream, address, &tls, router, watcher).await;
            drop(place);
        });
    }
    graceful.shutdown().await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: &Tls,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Without it small replies wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let accepted = timeout(
        HANDSHAKE,
        TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream),
    )
    .await;
    let Ok(Ok(stream)) = accepted else { return };
    let is_node = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(tls::common_name)
        .is_some_and(|name| name == tls.own_name);
    let peer = Peer { address, is_node };
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(serving.into_owned()).await {
        debug!(%error, "a connection ended");
    }
}

impl Certificates {
    /// What is to be used now; `None` where a certificate cannot be used.
    fn read(&self) -> Option<Arc<Tls>> {
        let users = Some(self.users.as_path()).filter(|users| users.join("tls.crt").exists());
        self.read_with(users)
    }

    /// The node's own for everybody.
    fn read_own(&self) -> Option<Arc<Tls>> {
        self.read_with(None)
    }

    fn read_with(&self, users: Option<&Path>) -> Option<Arc<Tls>> {
        let both = tls::server(&self.node, users).and_then(|config| Ok((config, tls::own_name(&self.node)?)));
        match both {
            Ok((config, own_name)) => Some(Arc::new(Tls { config, own_name })),
            Err(error) => {
                warn!(%error, users = users.is_some(), "a certificate of the data API cannot be used");
                None
            }
        }
    }

    fn stamps(&self) -> [Option<SystemTime>; 2] {
        [&self.node, &self.users].map(|directory| clock::changed_at(&directory.join("tls.crt")))
    }

    /// Takes changed certificates into use; unusable ones leave the old in use.
    async fn follow(self, certificates: watch::Sender<Option<Arc<Tls>>>) {
        let mut known = self.stamps();
        loop {
            sleep(LOOK).await;
            let now = self.stamps();
            if now == known && certificates.borrow().is_some() {
                continue;
            }
            known = now;
            // Where nothing is in use yet, the node's own is better than nothing.
            let nothing = certificates.borrow().is_none();
            if let Some(tls) = self.read().or_else(|| self.read_own().filter(|_| nothing)) {
                info!("the data API uses the new certificates");
                if certificates.send(Some(tls)).is_err() {
                    return;
                }
            }
        }
    }
}
