//! The way to the other nodes: one mutually authenticated HTTP/2 connection to the master's node, kept while it
//! lasts, and one for each body that comes as a stream.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Request, Uri, header, request::Parts},
    response::Response,
};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::{Mutex, watch},
    time::timeout,
};

use super::admit::{self, Content, FORWARDED_BY};
use crate::{
    engine::Engine,
    problem::{Kind, Outcome, Problem},
    tls,
    view::{View, Way},
};

/// A node that does not answer the connection within this time is tried again later.
const CONNECT: Duration = Duration::from_millis(700);
/// A silent connection is asked for a sign of life this often, and given up after as long again.
pub(super) const ALIVE: Duration = Duration::from_secs(1);
/// The same for a connection whose request cannot be sent again.
const PATIENT: Duration = Duration::from_secs(10);
/// Headers that belong to one connection only.
const OF_THE_CONNECTION: [HeaderName; 7] = [
    header::EXPECT,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::HOST,
];

type Sender = SendRequest<Body>;

/// What another node is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// To be answered.
    Read,
    /// To be carried out.
    Change,
    /// To be told for as long as the client listens.
    Follow,
}

/// Connections to the other nodes.
#[derive(Debug)]
pub struct Peers {
    tls: std::path::PathBuf,
    open: Mutex<BTreeMap<(String, u16), Sender>>,
}

impl Peers {
    /// Connects to nothing yet; `tls` holds this node's certificate.
    pub fn new(tls: std::path::PathBuf) -> Self {
        Self {
            tls,
            open: Mutex::default(),
        }
    }

    /// Has another node carry out a request. An error says whether it may have been carried out.
    pub async fn send(
        &self,
        engine: &Engine,
        way: &Way,
        mut parts: Parts,
        body: &Content,
        errand: Errand,
    ) -> Result<Response, Problem> {
        let writes = errand == Errand::Change;
        let mut sender = match (body, errand) {
            // What waits to be taken of them would take the room of all other requests of the connection.
            (Content::Whole(_), Errand::Follow) => self.connected(way, ALIVE).await?,
            (Content::Coming(_), _) => self.connected(way, PATIENT).await?,
            (Content::Whole(_), _) => self.sender(way).await?,
        };
        for name in OF_THE_CONNECTION {
            parts.headers.remove(name);
        }
        parts.headers.remove("keep-alive");
        if let Ok(node) = HeaderValue::from_str(&engine.node) {
            parts.headers.insert(FORWARDED_BY, node);
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.uri = uri(way, &parts.uri)?;
        parts.version = hyper::Version::HTTP_2;
        parts.extensions = axum::http::Extensions::new();
        let request = Request::from_parts(parts, body.take().ok_or_else(admit::used_up)?);
        // What comes as a stream has no end that is known; the other node watches over it.
        let limit = match body {
            Content::Whole(_) => engine.limits.statement + Duration::from_secs(2),
            Content::Coming(_) => Duration::MAX,
        };
        let mut views = engine.view.clone();
        let answered = tokio::select! {
            answered = timeout(limit, sender.try_send_request(request)) => answered,
            () = other_master(&mut views, way) => {
                self.forget(way).await;
                return Err(broken(writes));
            }
        };
        match answered {
            Ok(Ok(response)) => Ok(response.map(Body::new)),
            Ok(Err(mut error)) => {
                self.forget(way).await;
                if let Some(request) = error.take_message() {
                    body.put_back(request.into_body());
                    return Err(unreachable(way));
                }
                Err(broken(writes))
            }
            Err(_) => {
                self.forget(way).await;
                Err(broken(writes))
            }
        }
    }

    async fn sender(&self, way: &Way) -> Result<Sender, Problem> {
        let place = (way.host.clone(), way.port);
        let mut open = self.open.lock().await;
        if let Some(sender) = open.get(&place).filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = self.connected(way, ALIVE).await?;
        // There is one master at a time; what led to others is of no use any more.
        open.clear();
        open.insert(place, sender.clone());
        Ok(sender)
    }

    async fn connected(&self, way: &Way, alive: Duration) -> Result<Sender, Problem> {
        timeout(CONNECT, Box::pin(self.connect(way, alive)))
            .await
            .ok()
            .flatten()
            .ok_or_else(|| unreachable(way))
    }

    /// A connection of its own, which nobody keeps.
    pub(super) async fn connect(&self, way: &Way, alive: Duration) -> Option<Sender> {
        let debug = |what: &str, error: &dyn std::fmt::Display| {
            tracing::debug!(node = way.node, what, %error, "the master's node is not reached");
        };
        let tls = tls::client(&self.tls)
            .map_err(|error| debug("certificates", &error))
            .ok()?;
        let name = ServerName::try_from(tls.server_name)
            .map_err(|error| debug("name", &error))
            .ok()?;
        let stream = TcpStream::connect((way.host.as_str(), way.port))
            .await
            .map_err(|error| debug("connect", &error))
            .ok()?;
        stream.set_nodelay(true).ok()?;
        let stream = tokio_rustls::TlsConnector::from(tls.config)
            .connect(name, stream)
            .await
            .map_err(|error| debug("TLS", &error))
            .ok()?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(alive)
            .keep_alive_timeout(alive)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| debug("HTTP", &error))
            .ok()?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the master's node ended");
            }
        });
        Some(sender)
    }

    async fn forget(&self, way: &Way) {
        self.open.lock().await.remove(&(way.host.clone(), way.port));
    }
}

/// Returns when another node leads than that one.
pub(super) async fn other_master(views: &mut watch::Receiver<View>, way: &Way) {
    let ends = views
        .wait_for(|view| view.leads() || view.master.as_ref().is_some_and(|master| master != way))
        .await
        .is_err();
    if ends {
        // The agent ends, and its connections with it.
        std::future::pending::<()>().await;
    }
}

/// Where a path is on another node.
pub(super) fn uri(way: &Way, asked: &Uri) -> Result<Uri, Problem> {
    let path = asked.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder()
        .scheme("https")
        .authority(way.authority())
        .path_and_query(path)
        .build()
        .map_err(|_| Problem::bad_request("the path cannot be forwarded"))
}

fn unreachable(way: &Way) -> Problem {
    Problem::new(
        Kind::NoMaster,
        format!("the master's node {} is not reached", way.node),
    )
    .again()
}

/// The request was sent and no answer came.
fn broken(writes: bool) -> Problem {
    if !writes {
        return Problem::new(Kind::NoMaster, "the connection to the master's node broke").again();
    }
    Problem::new(
        Kind::OutcomeUnknown,
        "the connection to the master broke while it carried out the change; look whether it is there, or send an \
         Idempotency-Key with every change and repeat the request with the same key",
    )
    .with_outcome(Outcome::Unknown)
    .again()
}
