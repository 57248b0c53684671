//! The sessions of operators: one JSON object a line over mutually authenticated TLS.
//!
//! Reports go out at once when something that matters changed and as a heartbeat; an outcome always after a report
//! that shows its effect. Commands go to the executor; the term decides whom the node obeys, not the session.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api::{
    kept::Kept,
    wire::{MAX_LINE, ToNode, ToOperator},
};
use failover::{NodeReport, guard::Word};
use futures::{SinkExt as _, StreamExt as _};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{broadcast::error::RecvError, mpsc},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};
use tracing::{info, warn};

use crate::{agent::Agent, board::Board, clock, executor::Order, guard::Said, tls};

/// How long a peer may take to prove who it is, and to say hello.
const ENTRY: Duration = Duration::from_secs(3);
/// A peer whose machine confirms nothing for this long is out of reach. Reports go out all the time, so a cut shows.
const UNREACHABLE: Duration = Duration::from_secs(2);
/// A peer that takes nothing for this long is gone.
const WRITE: Duration = Duration::from_secs(3);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The handshake or the connection failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The certificates on disk are unusable.
    #[error(transparent)]
    Tls(#[from] data::tls::TlsError),
    /// The peer is not the operator.
    #[error("the peer's certificate is not the operator's")]
    Stranger,
    /// The peer was silent.
    #[error("the peer was too slow")]
    Slow,
    /// The peer wants another node.
    #[error("the peer wants node {0} of resource {1}")]
    Elsewhere(String, String),
    /// What came is no message.
    #[error("not a message")]
    Message(#[from] serde_json::Error),
    /// The line was too long or no text.
    #[error("not a line")]
    Line(#[from] LinesCodecError),
    /// The agent is ending.
    #[error("the agent ends")]
    Ending,
}

/// Listens for sessions.
pub async fn listen(agent: Arc<Agent>, orders: mpsc::Sender<Order>) -> std::io::Result<JoinHandle<()>> {
    let listener = TcpListener::bind(agent.settings.session_listen).await?;
    Ok(tokio::spawn(async move {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a session could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (agent, orders) = (Arc::clone(&agent), orders.clone());
            tokio::spawn(async move {
                match session(&agent, &orders, stream, peer).await {
                    Ok(()) => info!(%peer, "session closed"),
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        warn!(%peer, %error, cause, "session ended");
                    }
                }
            });
        }
    }))
}

async fn session(
    agent: &Arc<Agent>,
    orders: &mpsc::Sender<Order>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Result<(), SessionError> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(UNREACHABLE))?;
    let acceptor = TlsAcceptor::from(tls::server_config(&agent.settings.tls_dir)?);
    let stream = timeout(ENTRY, acceptor.accept(stream))
        .await
        .map_err(|_| SessionError::Slow)??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    if !certificate.is_some_and(tls::is_operator) {
        return Err(SessionError::Stranger);
    }
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    let first = timeout(ENTRY, lines.next())
        .await
        .map_err(|_| SessionError::Slow)?;
    let Some(first) = first else { return Ok(()) };
    let (heartbeat, takes_asks) = match serde_json::from_str(&first?)? {
        ToNode::Hello {
            node,
            cluster,
            heartbeat_ms,
            takes_asks,
        } => {
            if node != agent.settings.node || cluster != agent.settings.cluster {
                return Err(SessionError::Elsewhere(node.to_string(), cluster));
            }
            (Duration::from_millis(heartbeat_ms.clamp(10, 10_000)), takes_asks)
        }
        ToNode::Command { .. } | ToNode::Leads { .. } | ToNode::Picture { .. } | ToNode::Answer { .. } => {
            return Err(SessionError::Elsewhere("?".to_owned(), "?".to_owned()));
        }
    };
    info!(%peer, "session open");
    let _present = agent.board.presence();
    let (asks, questions) = mpsc::channel(64);
    let _asked = takes_asks.then(|| agent.asks.join(asks));
    converse(agent, orders, &mut lines, heartbeat, questions).await
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    agent: &Arc<Agent>,
    orders: &mpsc::Sender<Order>,
    lines: &mut Framed<S, LinesCodec>,
    heartbeat: Duration,
    mut questions: mpsc::Receiver<ToOperator>,
) -> Result<(), SessionError> {
    let mut changes = agent.board.watch();
    let mut told = None;
    let (answers, mut outcomes) = mpsc::channel(256);
    let mut beats = interval(heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            change = changes.recv() => {
                let report = match change {
                    Ok(report) => report,
                    Err(RecvError::Lagged(_)) => agent.board.report(),
                    Err(RecvError::Closed) => return Err(SessionError::Ending),
                };
                send_report(lines, &report, &agent.board, &mut told).await?;
                beats.reset();
            }
            Some(outcome) = outcomes.recv() => {
                send_report(lines, &agent.board.report(), &agent.board, &mut told).await?;
                send(lines, &outcome).await?;
            }
            Some(question) = questions.recv() => send(lines, &question).await?,
            line = lines.next() => {
                let Some(line) = line else { return Ok(()) };
                match serde_json::from_str(&line?)? {
                    ToNode::Command { id, term, command } => {
                        let order = Order::Command { id, term, command, answers: answers.clone() };
                        orders.send(order).await.map_err(|_| SessionError::Ending)?;
                    }
                    ToNode::Leads { names, age_ms, peers } => {
                        let at = clock::uptime().saturating_sub(age_ms);
                        agent.board.hear(Said { word: Some(Word { at, names }), peers });
                    }
                    ToNode::Picture { picture } => agent.picture(*picture),
                    ToNode::Answer { id, answer } => agent.asks.answered(id, answer),
                    ToNode::Hello { .. } => {}
                }
            }
            _ = beats.tick() => send_report(lines, &agent.board.report(), &agent.board, &mut told).await?,
        }
    }
}

/// `told`: what the session said last of the transactions that are kept; it is not said ten times a second.
async fn send_report<S>(
    lines: &mut Framed<S, LinesCodec>,
    report: &NodeReport,
    board: &Board,
    told: &mut Option<Arc<Kept>>,
) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let kept = board.kept().filter(|kept| told.as_ref() != Some(kept));
    send(
        lines,
        &ToOperator::Report {
            report: Box::new(report.clone()),
            takes_pictures: true,
            kept: kept.as_deref().map(|kept| Box::new(kept.clone())),
        },
    )
    .await?;
    *told = kept.or(told.take());
    Ok(())
}

async fn send<S>(lines: &mut Framed<S, LinesCodec>, message: &ToOperator) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let line = serde_json::to_string(message)?;
    timeout(WRITE, lines.send(line))
        .await
        .map_err(|_| SessionError::Slow)??;
    Ok(())
}
