//! The listener: TLS, HTTP/1.1 and HTTP/2, and an end that lets what runs finish.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, header},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use rustls::{ServerConfig, sign::CertifiedKey};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use crate::{call::Peer, clock, leftover::Leftover, tls};

/// A client that does not complete its handshake or its headers within this time is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that acknowledges nothing for so long is gone.
const UNREACHABLE: Duration = Duration::from_mins(1);
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
    users: Option<Arc<CertifiedKey>>,
}

/// Serves until `stop` says so, and then until what runs has finished.
pub async fn serve(
    listener: TcpListener,
    places: Certificates,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let (sender, certificates) = watch::channel(places.read(None));
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
    // A client whose machine is gone must not keep its place in a stream for a quarter of an hour.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREACHABLE));
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
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
    // hyper's own kind of service is called as soon as the head is there, before the next bytes are waited for.
    let service = service_fn(move |request: Request<Incoming>| {
        // What waits for leave to be sent does not come where the answer is there first.
        let waits = request.headers().contains_key(header::EXPECT);
        let mut request = request.map(|body| {
            if waits {
                Body::new(body)
            } else {
                Body::new(Leftover::of(body))
            }
        });
        if !is_http2 {
            own_head(&mut request);
        }
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let stream = TokioIo::new(stream);
    // TLS has settled the version, and each connection holds the room of its own one only.
    let ended = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(Some(Duration::from_secs(20)));
        Box::pin(watcher.watch(builder.serve_connection(stream, service))).await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
        Box::pin(watcher.watch(builder.serve_connection(stream, service))).await
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended");
    }
}

/// Copies the head out of the buffer it was read into, which can be used again then. Otherwise every request that is
/// under way would keep 8 KiB for a few words.
fn own_head(request: &mut Request<Body>) {
    if let Ok(uri) = request.uri().to_string().parse() {
        *request.uri_mut() = uri;
    }
    for value in request.headers_mut().values_mut() {
        if let Ok(own) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = own;
        }
    }
}

impl Certificates {
    /// What is to be used after `before`; `None` where the node's certificate cannot be used. The user's is one matter and
    /// the node's another: one that cannot be used must not keep a renewed one of the other from being used.
    fn read(&self, before: Option<&Tls>) -> Option<Arc<Tls>> {
        let users = self.read_users(before);
        let read = tls::server(&self.node, users.clone())
            .and_then(|config| Ok((config, tls::own_name(&self.node)?)));
        match read {
            Ok((config, own_name)) => Some(Arc::new(Tls {
                config,
                own_name,
                users,
            })),
            Err(error) => {
                warn!(%error, "the data API has no usable certificate");
                None
            }
        }
    }

    /// The user's certificate, where there is one; the one before where it cannot be used.
    fn read_users(&self, before: Option<&Tls>) -> Option<Arc<CertifiedKey>> {
        if !self.users.join("tls.crt").exists() {
            return None;
        }
        match tls::certified(&self.users) {
            Ok(users) => Some(users),
            Err(error) => {
                warn!(%error, "the user's certificate of the data API cannot be used");
                before.and_then(|before| before.users.clone())
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
            let before = certificates.borrow().clone();
            if now == known && before.is_some() {
                continue;
            }
            if let Some(tls) = self.read(before.as_deref()) {
                known = now;
                info!("the data API uses the new certificates");
                if certificates.send(Some(tls)).is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    /// An authority's certificate and one by it for a node of this name.
    fn install(directory: &std::path::Path, name: &str) {
        std::fs::create_dir_all(directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = authority.self_signed(&key).unwrap();
        std::fs::write(directory.join("ca.crt"), certificate.pem()).unwrap();
        let own_key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        own.distinguished_name.push(DnType::CommonName, name);
        let own = own.signed_by(&own_key, &Issuer::new(authority, key)).unwrap();
        std::fs::write(directory.join("tls.crt"), own.pem()).unwrap();
        std::fs::write(directory.join("tls.key"), own_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_users_certificate_that_is_spoilt_stays_and_keeps_no_renewed_one_of_the_nodes_back() {
        let root = std::env::temp_dir().join(format!("ddb-certificates-{}", std::process::id()));
        let places = Certificates {
            node: root.join("node"),
            users: root.join("users"),
        };
        install(&places.node, "first");
        let without = places.read(None).unwrap();
        assert!(without.users.is_none());
        install(&places.users, "user");
        let with = places.read(Some(&without)).unwrap();
        assert!(with.users.is_some());
        std::fs::write(places.users.join("tls.key"), "spoilt").unwrap();
        install(&places.node, "second");
        let after = places.read(Some(&with)).unwrap();
        assert_eq!(after.own_name, "second");
        assert!(Arc::ptr_eq(
            after.users.as_ref().unwrap(),
            with.users.as_ref().unwrap()
        ));
        assert!(places.read(None).unwrap().users.is_none(), "none was in use");
        std::fs::write(places.node.join("tls.key"), "spoilt").unwrap();
        assert!(places.read(Some(&after)).is_none());
        std::fs::remove_dir_all(root).unwrap();
    }
}
