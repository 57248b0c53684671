//! A client of the data API: one request a connection, over TLS.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, dead_code)]

use std::{fmt::Write as _, fs, path::Path, sync::Arc, time::Duration};

use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Node;

pub const READER: &str = "ddb_reader_0123456789abcdef";
pub const WRITER: &str = "ddb_writer_0123456789abcdef";
pub const ADMIN: &str = "ddb_admin_0123456789abcdef";
/// A writer that reaches the database `shop` only.
pub const LIMITED: &str = "ddb_limited_0123456789abcdef";
/// The role `orders` of [`ROLES`].
pub const ORDERS: &str = "ddb_orders_0123456789abcdef";
/// What the resource defines.
pub const ROLES: &str =
    r#"[{"name":"orders","like":"writer","databases":["shop"],"privileges":["SELECT","INSERT"]}]"#;

/// The Secret's directory with all of these.
pub fn write_tokens(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for (id, token, role, more) in [
        ("reader", READER, "reader", ""),
        ("writer", WRITER, "writer", ""),
        ("admin", ADMIN, "admin", ""),
        ("orders", ORDERS, "orders", ""),
        ("limited", LIMITED, "writer", r#","databases":["shop"]"#),
    ] {
        let hash: String = data::access::hash(token)
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        fs::write(
            directory.join(id),
            format!(r#"{{"hash":"{hash}","role":"{role}"{more}}}"#),
        )
        .unwrap();
    }
}

/// A reply.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Demands a status and returns the body.
    pub fn must(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }
}

impl Node {
    pub fn api_port(&self) -> u16 {
        self.api.iter().find(|(name, _)| *name == self.name).unwrap().1
    }

    /// `GET` with a token; spaces and quotes of the path are escaped as curl does with `--data-urlencode`.
    pub async fn fetch(&self, token: &str, path: &str) -> Answer {
        self.request("GET", path, &[("Authorization", &format!("Bearer {token}"))], "")
            .await
            .unwrap()
    }

    /// Any request with a token that wants the master's state; a null body is none.
    pub async fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: &Value,
        more: &[(&str, &str)],
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("Authorization", bearer.as_str()), ("Consistency", "leader")];
        headers.extend_from_slice(more);
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.request(method, path, &headers, &body).await.unwrap()
    }

    /// The records that the node's audit file has now.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.join("audit/audit.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// `POST` of a JSON body with a token.
    pub async fn send(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.send_with(token, path, &[], body).await.unwrap()
    }

    pub async fn send_with(
        &self,
        token: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, String> {
        let bearer = format!("Bearer {token}");
        let mut all = vec![
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        all.extend_from_slice(headers);
        self.request("POST", path, &all, &body.to_string()).await
    }

    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, String> {
        let attempt = async {
            let mut stream = connect(&self.tls, self.api_port()).await?;
            let length = format!("Content-Length: {}\r\n", body.len());
            let mut request = head(method, path, headers, &length);
            request.push_str(body);
            stream.write_all(request.as_bytes()).await?;
            // What the socket did not take at once stays in the TLS layer otherwise.
            stream.flush().await?;
            answer(stream).await
        };
        timeout(Duration::from_secs(40), attempt)
            .await
            .map_err(|_| "no answer".to_owned())?
            .map_err(|error| error.to_string())
    }

    /// `POST` of a body of which only a part comes; then the client is gone.
    pub async fn break_off(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        length: &str,
        part: &str,
    ) -> std::io::Result<()> {
        let mut stream = connect(&self.tls, self.api_port()).await?;
        let length = format!("Content-Length: {length}\r\n");
        let head = head("POST", path, headers, &length);
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(part.as_bytes()).await?;
        stream.flush().await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    /// `POST` of a body that comes when its answer is there already, and what the next request on the same connection is
    /// answered.
    pub async fn early_and_next(&self, path: &str, headers: &[(&str, &str)]) -> std::io::Result<[u16; 2]> {
        let status = |text: &str| text.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut stream = connect(&self.tls, self.api_port()).await?;
        let body = "x".repeat(100_000);
        let length = format!("Content-Length: {}\r\n", body.len());
        let kept = head("POST", path, headers, &length).replace("Connection: close\r\n", "");
        stream.write_all(kept.as_bytes()).await?;
        let mut part = vec![0; 16 << 10];
        let count = timeout(Duration::from_secs(10), stream.read(&mut part)).await??;
        let first = status(&String::from_utf8_lossy(&part[..count]));
        stream.write_all(body.as_bytes()).await?;
        stream.write_all(head("GET", "/ping", &[], "").as_bytes()).await?;
        stream.flush().await?;
        let next = timeout(Duration::from_secs(10), answer(stream)).await??;
        Ok([first.ok_or(std::io::ErrorKind::InvalidData)?, next.status])
    }

    /// `POST` of a body that comes in parts and has no length. The server may answer and close before all were sent.
    pub async fn upload(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        parts: impl Iterator<Item = String>,
    ) -> Result<Answer, String> {
        let attempt = async {
            let stream = connect(&self.tls, self.api_port()).await?;
            let (reading, mut writing) = tokio::io::split(stream);
            let head = head("POST", path, headers, "Transfer-Encoding: chunked\r\n");
            let sending = async {
                writing.write_all(head.as_bytes()).await?;
                for part in parts.filter(|part| !part.is_empty()) {
                    let size = format!("{:x}\r\n", part.len());
                    writing.write_all(size.as_bytes()).await?;
                    writing.write_all(part.as_bytes()).await?;
                    writing.write_all(b"\r\n").await?;
                }
                writing.write_all(b"0\r\n\r\n").await?;
                writing.flush().await
            };
            let (_, answer) = tokio::join!(sending, answer(reading));
            answer
        };
        timeout(Duration::from_mins(10), attempt)
            .await
            .map_err(|_| "no answer".to_owned())?
            .map_err(|error: std::io::Error| error.to_string())
    }
}

/// Server-sent events as they come.
pub struct Events {
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    text: String,
}

impl Events {
    /// The next event: its name and its data.
    pub async fn next(&mut self) -> (String, Value) {
        let patience = Duration::from_secs(10);
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            let mut part = vec![0; 16 << 10];
            let count = timeout(patience, self.stream.read(&mut part))
                .await
                .expect("an event in time")
                .unwrap();
            assert!(count > 0, "the stream ended: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&part[..count]));
        }
    }

    /// The next event of a name; others are passed over.
    pub async fn of(&mut self, name: &str) -> Value {
        loop {
            let (found, data) = self.next().await;
            if found == name {
                return data;
            }
        }
    }

    fn take(&mut self) -> Option<(String, Value)> {
        let begin = self.text.find("event: ")?;
        let end = begin + self.text[begin..].find("\n\n")?;
        let event = self.text[begin..end].to_owned();
        self.text = self.text.split_off(end + 2);
        let mut lines = event.lines();
        let name = lines.next()?.strip_prefix("event: ")?.to_owned();
        let data = lines.next()?.strip_prefix("data: ")?;
        Some((name, serde_json::from_str(data).unwrap()))
    }
}

impl Node {
    /// Follows server-sent events.
    pub async fn follow_events(&self, path: &str, token: &str) -> Events {
        let mut stream = connect(&self.tls, self.api_port()).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: node.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Events {
            stream,
            text: String::new(),
        }
    }
}

fn escaped(path: &str) -> String {
    path.chars()
        .flat_map(|letter| {
            let plain =
                letter.is_ascii_graphic() && !matches!(letter, '"' | '<' | '>' | '`' | '{' | '}' | '#' | '+');
            if plain {
                vec![letter.to_string()]
            } else {
                letter
                    .to_string()
                    .bytes()
                    .map(|byte| format!("%{byte:02X}"))
                    .collect()
            }
        })
        .collect()
}

pub type Tls = tokio_rustls::client::TlsStream<TcpStream>;

pub async fn connect(tls: &Path, port: u16) -> std::io::Result<Tls> {
    connect_to("node.test", tls, port).await
}

async fn connect_to(name: &str, tls: &Path, port: u16) -> std::io::Result<Tls> {
    let config = super::trusting(tls).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(name.to_owned()).unwrap(), stream)
        .await
}

/// Whether the authority in a directory vouches for who answers there by this name.
pub async fn is_trusted(authority: &Path, port: u16, name: &str) -> bool {
    connect_to(name, authority, port).await.is_ok()
}

fn head(method: &str, path: &str, headers: &[(&str, &str)], more: &str) -> String {
    let mut request = format!(
        "{method} {} HTTP/1.1\r\nHost: node.test\r\nConnection: close\r\n",
        escaped(path)
    );
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    request.push_str(more);
    request.push_str("\r\n");
    request
}

async fn answer(mut stream: impl AsyncRead + Unpin) -> std::io::Result<Answer> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_off(head + 4);
    let head = String::from_utf8_lossy(&answer[..head]);
    let body = if head.contains("transfer-encoding: chunked") {
        unchunked(&body)?
    } else {
        body
    };
    let text = String::from_utf8_lossy(&body);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.ok_or(std::io::ErrorKind::InvalidData)?,
        headers: head.into_owned(),
        text: text.into_owned(),
    })
}

/// The parts of a body that came as a stream, which must be whole.
fn unchunked(mut body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut whole = Vec::with_capacity(body.len());
    loop {
        let line = body.windows(2).position(|window| window == b"\r\n");
        let line = line.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let size = std::str::from_utf8(&body[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return Ok(whole);
        }
        let part = body
            .get(line + 2..line + 2 + size)
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        whole.extend_from_slice(part);
        body = &body[line + 2 + size + 2..];
    }
}
