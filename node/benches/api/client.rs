//! A client of the data API that keeps its connection, with as little work of its own as possible: what is measured
//! is the node.

use std::{fmt::Write as _, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Node, https::WRITER};

/// What clients of a node trust; sessions are kept, so that a further connection is quicker.
pub fn trust(node: &Node) -> Result<Arc<ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(node.tls.join("ca.crt"))?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// One connection.
pub struct Client {
    stream: TlsStream<TcpStream>,
    request: String,
    received: Vec<u8>,
}

impl Client {
    /// To the node's data API.
    pub async fn connect(node: &Node, trust: &Arc<ClientConfig>) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", node.api_port())).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(trust))
            .connect(ServerName::try_from("node.test")?, stream)
            .await?;
        Ok(Self {
            stream,
            request: String::new(),
            received: Vec::with_capacity(4096),
        })
    }

    /// One request; gives the status. `more` are whole further lines of the head.
    pub async fn ask(&mut self, method: &str, path: &str, more: &str, body: &str) -> Result<u16> {
        self.request.clear();
        write!(
            self.request,
            "{method} {path} HTTP/1.1\r\nhost: node.test\r\nauthorization: Bearer {WRITER}\r\n{more}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        self.stream.write_all(self.request.as_bytes()).await?;
        self.stream.flush().await?;
        self.received.clear();
        loop {
            let count = self.stream.read_buf(&mut self.received).await?;
            ensure!(count > 0, "the node closed the connection");
            if let Some(status) = self.whole()? {
                return Ok(status);
            }
        }
    }

    /// The same, where everything else than success is an error.
    pub async fn must(&mut self, method: &str, path: &str, more: &str, body: &str) -> Result<()> {
        let status = self.ask(method, path, more, body).await?;
        ensure!(
            (200..300).contains(&status),
            "{method} {path}: {}",
            String::from_utf8_lossy(&self.received)
        );
        Ok(())
    }

    /// A header of the last reply.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.head().ok()??;
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The status, once the whole reply is here.
    fn whole(&self) -> Result<Option<u16>> {
        let Some((head, end)) = self.head()? else {
            return Ok(None);
        };
        let length: usize = self
            .header("content-length")
            .context("a reply without its length")?
            .parse()?;
        if self.received.len() < end + length {
            return Ok(None);
        }
        let status = head.split(' ').nth(1).context("no status")?;
        Ok(Some(status.parse()?))
    }

    /// The reply's head and where its body begins.
    fn head(&self) -> Result<Option<(&str, usize)>> {
        let end = self.received.windows(4).position(|part| part == b"\r\n\r\n");
        let Some(end) = end else { return Ok(None) };
        Ok(Some((std::str::from_utf8(&self.received[..end])?, end + 4)))
    }
}
