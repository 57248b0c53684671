//! A client of the data API that keeps its connection, as programs do; [`crate::curl`] is what people do by hand.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use api::{names, wire};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{curl, database::Database};

/// For a connection, from the first packet to the end of the handshake.
const CONNECT: Duration = Duration::from_secs(2);

/// Where the data API is asked, and as whom.
#[derive(Clone)]
pub struct Entrance {
    trust: Arc<ClientConfig>,
    token: String,
    name: String,
    namespace: String,
    host: String,
    address: String,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, `null` where it is no JSON.
    pub body: Value,
    head: String,
}

/// A client with one connection at a time.
pub struct Client {
    entrance: Entrance,
    open: Option<Connection>,
    resent: usize,
}

struct Connection {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

/// Why there is no reply.
enum Lost {
    /// The connection ended before anything of a reply was there.
    Silently,
    /// Anything else.
    Because(anyhow::Error),
}

impl Entrance {
    /// The Service over every node, with a token for writers that every node knows; it is made once for each database.
    pub async fn service(database: &Database) -> Result<Self> {
        let token = curl::known_token(database).await?;
        let Database {
            client,
            namespace,
            name,
        } = database;
        let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
        let secret = secrets.get(&names::ca_secret(name)).await?;
        let certificate = secret.data.as_ref().and_then(|data| data.get("ca.crt"));
        let certificate = certificate.context("the authority's Secret has no `ca.crt`")?;
        Ok(Self {
            trust: trust(&certificate.0)?,
            token,
            host: format!("{name}.{namespace}.svc"),
            address: database.any_address().await?.host,
            name: name.clone(),
            namespace: namespace.clone(),
        })
    }

    /// The same client's way to one node, at its pod's address.
    #[must_use]
    pub fn node(&self, node: &str, address: &str) -> Self {
        Self {
            host: names::node_host(&self.name, &self.namespace, node),
            address: address.to_owned(),
            ..self.clone()
        }
    }

    async fn connect(&self) -> Result<Connection> {
        let connected = timeout(CONNECT, async {
            let stream = TcpStream::connect((self.address.as_str(), wire::API_PORT)).await?;
            stream.set_nodelay(true)?;
            let host = ServerName::try_from(self.host.clone())?;
            let stream = TlsConnector::from(Arc::clone(&self.trust))
                .connect(host, stream)
                .await?;
            anyhow::Ok(stream)
        });
        let stream = connected
            .await
            .context("no connection within the deadline")?
            .context("no connection")?;
        Ok(Connection {
            stream,
            received: Vec::with_capacity(4096),
        })
    }
}

fn trust(authority: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Client {
    /// Connects with the first request.
    pub fn new(entrance: Entrance) -> Self {
        Self {
            entrance,
            open: None,
            resent: 0,
        }
    }

    /// How many requests were sent again, because a connection that had been at rest ended without a word on them.
    pub fn resent(&self) -> usize {
        self.resent
    }

    /// The reply to one request, whatever its status. The request must change nothing or carry a key: as HTTP clients do,
    /// one that finds its kept connection closed sends it again on a new one.
    ///
    /// # Errors
    /// Where no connection can be made, or it breaks, or no reply is there within `patience`.
    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Reply> {
        let request = self.entrance.request(method, path, headers, body)?;
        let asked = timeout(patience, async {
            if let Some(open) = self.kept().await {
                match open.exchange(&request).await {
                    Ok(answered) => return Ok(answered),
                    Err(Lost::Silently) => self.resent += 1,
                    Err(Lost::Because(error)) => return Err(error),
                }
            }
            let open = self.entrance.connect().await?;
            match open.exchange(&request).await {
                Ok(answered) => Ok(answered),
                Err(Lost::Silently) => bail!("the connection ended without a reply"),
                Err(Lost::Because(error)) => Err(error),
            }
        });
        let (reply, open) = asked.await.context("no reply in time")??;
        self.open = open;
        Ok(reply)
    }

    /// The connection of before, unless the node has closed it meanwhile.
    async fn kept(&mut self) -> Option<Connection> {
        let mut open = self.open.take()?;
        let mut one = [0];
        // Nothing is to be read between two requests but the end.
        let ended = timeout(Duration::ZERO, open.stream.read(&mut one)).await;
        ended.is_err().then_some(open)
    }
}

impl Entrance {
    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<String> {
        let Self { host, token, .. } = self;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n")?;
        }
        if let Some(body) = body {
            let body = body.to_string();
            let length = body.len();
            write!(
                request,
                "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )?;
        } else {
            request.push_str("\r\n");
        }
        Ok(request)
    }
}

impl Connection {
    /// Sends a request; gives the reply, and the connection where it stays open.
    async fn exchange(mut self, request: &str) -> Result<(Reply, Option<Self>), Lost> {
        self.received.clear();
        let sent = async {
            self.stream.write_all(request.as_bytes()).await?;
            self.stream.flush().await
        };
        if sent.await.is_err() {
            return Err(Lost::Silently);
        }
        loop {
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) if self.received.is_empty() => return Err(Lost::Silently),
                Ok(0) => return Err(Lost::Because(anyhow!("the reply broke off"))),
                Ok(_) => {}
                Err(error) => return Err(Lost::Because(error.into())),
            }
            if let Some(reply) = whole(&self.received).map_err(Lost::Because)? {
                let ends = reply.header("connection").is_some_and(|it| it.contains("close"));
                return Ok((reply, (!ends).then_some(self)));
            }
        }
    }
}

/// The reply, once all of it is there.
fn whole(received: &[u8]) -> Result<Option<Reply>> {
    let Some(end) = received.windows(4).position(|part| part == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..end]).context("a head that is no text")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let mut reply = Reply {
        status: status.with_context(|| format!("no status in {head}"))?,
        body: Value::Null,
        head: head.to_owned(),
    };
    let length = reply.header("content-length");
    let length: usize = length.context("a reply without its length")?.parse()?;
    let body = &received[end + 4..];
    if body.len() < length {
        return Ok(None);
    }
    reply.body = serde_json::from_slice(&body[..length]).unwrap_or(Value::Null);
    Ok(Some(reply))
}

impl Reply {
    /// One without headers, for tests.
    #[cfg(test)]
    pub fn of(status: u16, body: Value) -> Self {
        Self {
            status,
            body,
            head: String::new(),
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The node that carried the request out.
    pub fn node(&self) -> &str {
        self.header("served-by").unwrap_or("-")
    }

    /// Whether it is a problem of this kind, such as `token-lost`.
    pub fn is_problem(&self, kind: &str) -> bool {
        let name = self.body["type"].as_str().unwrap_or_default();
        name.strip_prefix("urn:ddb:problem:") == Some(kind)
    }

    /// What a problem says became of the change: `applied`, `not-applied` or `unknown`.
    pub fn outcome(&self) -> &str {
        self.body["outcome"].as_str().unwrap_or("unknown")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_once_its_length_is_there() {
        let text = b"HTTP/1.1 503 x\r\nContent-Length: 73\r\nserved-by: db-0\r\n\r\n\
            {\"type\":\"urn:ddb:problem:no-master\",\"outcome\":\"not-applied\",\"status\":503}";
        let last = text.len() - 1;
        assert!(whole(&text[..20]).unwrap().is_none());
        assert!(whole(&text[..last]).unwrap().is_none());
        let reply = whole(text).unwrap().unwrap();
        assert_eq!(
            (reply.status, reply.node(), reply.outcome()),
            (503, "db-0", "not-applied")
        );
        assert!(reply.is_problem("no-master") && !reply.is_problem("token-lost"));
    }

    #[test]
    fn a_reply_without_a_length_is_an_error_and_not_waited_for() {
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\nhello").is_err());
    }
}
