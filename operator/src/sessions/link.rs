//! One connection of a session: TCP, TLS, Hello, then lines of JSON in both directions until it ends.

use std::collections::HashMap;
use std::time::Duration;

use api::wire::{MAX_LINE, Picture, ToNode, ToOperator};
use futures::StreamExt;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::{Ended, Order, Outgoing, Said, Target};

const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(1);
const WRITE_DEADLINE: Duration = Duration::from_secs(1);
const KEEPALIVE: Duration = Duration::from_secs(1);
/// A node whose machine confirms nothing of what was sent for this long is out of reach.
const UNREACHABLE: Duration = Duration::from_secs(2);

/// Why a link could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no connection to {address}")]
    Connect { address: String, source: std::io::Error },
    #[error("{address} does not answer")]
    Silent { address: String },
    #[error("TLS with {host} failed")]
    Tls { host: String, source: std::io::Error },
    #[error("{0:?} is no host name")]
    Host(String),
    #[error("the node sent no report for {0} ms")]
    Idle(u64),
    #[error("the node closed the session")]
    Closed,
    #[error("reading from the node failed")]
    Read(#[from] LinesCodecError),
    #[error("writing to the node failed")]
    Write(#[source] std::io::Error),
    #[error("the node takes nothing in")]
    WriteStuck,
    #[error("the node sent what is no message")]
    Message(#[source] serde_json::Error),
    #[error("a message cannot be written")]
    Encode(#[source] serde_json::Error),
    #[error("nobody needs the session any more")]
    Unneeded,
}

/// Connects and proves both sides to each other.
pub async fn connect(target: &Target) -> Result<TlsStream<TcpStream>, Error> {
    let silent = |_| Error::Silent {
        address: target.address.clone(),
    };
    let tcp = timeout(CONNECT_DEADLINE, TcpStream::connect(&target.address))
        .await
        .map_err(silent)?
        .map_err(|source| Error::Connect {
            address: target.address.clone(),
            source,
        })?;
    let options = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let prepared = tcp
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(&tcp).set_tcp_keepalive(&options))
        .and_then(|()| socket2::SockRef::from(&tcp).set_tcp_user_timeout(Some(UNREACHABLE)));
    prepared.map_err(|source| Error::Connect {
        address: target.address.clone(),
        source,
    })?;
    let host = ServerName::try_from(target.host.clone()).map_err(|_| Error::Host(target.host.clone()))?;
    let connector = TlsConnector::from(target.identity.clone());
    timeout(HANDSHAKE_DEADLINE, connector.connect(host, tcp))
        .await
        .map_err(silent)?
        .map_err(|source| Error::Tls {
            host: target.host.clone(),
            source,
        })
}

/// Serves the link until it ends; says why it ended. Pending orders are dropped with it.
pub async fn serve(
    stream: TlsStream<TcpStream>,
    target: &Target,
    mut outbox: mpsc::Receiver<Outgoing>,
    mut tell: impl FnMut(Said),
) -> Error {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines: FramedRead<ReadHalf<_>, _> =
        FramedRead::new(reader, LinesCodec::new_with_max_length(MAX_LINE));
    let hello = ToNode::Hello {
        node: target.node.clone(),
        cluster: target.cluster.clone(),
        heartbeat_ms: target.heartbeat,
        takes_asks: true,
    };
    if let Err(error) = send(&mut writer, &hello).await {
        return error;
    }
    let mut pending: HashMap<u64, oneshot::Sender<Ended>> = HashMap::new();
    let mut next_id = 1;
    let idle = Duration::from_millis(target.idle_limit);
    // An agent of an older version would close the session.
    let mut shows = false;
    let mut pictures = target.pictures.clone();
    // A standby has none to tell.
    if !pictures.borrow().nodes.is_empty() {
        pictures.mark_changed();
    }
    let mut deadline = tokio::time::Instant::now() + idle;
    loop {
        tokio::select! {
            line = lines.next() => match read(line) {
                Ok(ToOperator::Report { report: news, takes_pictures, kept }) => {
                    shows = takes_pictures;
                    deadline = tokio::time::Instant::now() + idle;
                    tell(Said::Report(news, kept));
                }
                Ok(ToOperator::Outcome { id, took_ms, refusal }) => {
                    if let Some(reply) = pending.remove(&id) {
                        // Whoever asked may have given up waiting; the report says what is so.
                        let _ = reply.send(Ended { took_ms, refusal });
                    }
                }
                Ok(ToOperator::Ask { id, question }) => tell(Said::Question { id, question }),
                Err(error) => return error,
            },
            order = outbox.recv() => {
                let Order { term, command, reply } = match order {
                    Some(Outgoing::Order(order)) => order,
                    Some(Outgoing::Word(word)) => match send(&mut writer, &word).await {
                        Ok(()) => continue,
                        Err(error) => return error,
                    },
                    None => return Error::Unneeded,
                };
                pending.retain(|_, reply| !reply.is_closed());
                pending.insert(next_id, reply);
                if let Err(error) = send(&mut writer, &ToNode::Command { id: next_id, term, command }).await {
                    return error;
                }
                next_id += 1;
            }
            Ok(()) = pictures.changed(), if shows => {
                let picture = Box::new(Picture::clone(&pictures.borrow_and_update()));
                if let Err(error) = send(&mut writer, &ToNode::Picture { picture }).await {
                    return error;
                }
            }
            () = tokio::time::sleep_until(deadline) => return Error::Idle(target.idle_limit),
        }
    }
}

fn read(line: Option<Result<String, LinesCodecError>>) -> Result<ToOperator, Error> {
    let line = match line {
        // A process that ended said no good-bye in TLS; its end is the same to us.
        Some(Err(LinesCodecError::Io(error))) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::Closed);
        }
        Some(line) => line?,
        None => return Err(Error::Closed),
    };
    serde_json::from_str(&line).map_err(Error::Message)
}

async fn send(writer: &mut WriteHalf<TlsStream<TcpStream>>, message: &ToNode) -> Result<(), Error> {
    let mut line = serde_json::to_vec(message).map_err(Error::Encode)?;
    line.push(b'\n');
    let written = async {
        writer.write_all(&line).await?;
        writer.flush().await
    };
    timeout(WRITE_DEADLINE, written)
        .await
        .map_err(|_| Error::WriteStuck)?
        .map_err(Error::Write)
}
