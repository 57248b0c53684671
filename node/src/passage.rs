//! The second MySQL port: passes connections through to the current master, from whichever node they arrive at.
//!
//! Nothing is parsed. In MySQL's protocol the server speaks first, so a connection that comes while there is no
//! master is held before its greeting, and the client sees a slow connect instead of an error. A passage ends by a
//! reset as soon as another master is known, because a client of a former master must not wait for a timeout. It is
//! never moved to another server: what the session held is lost with the former master.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use api::wire::Picture;
use failover::{NodeReport, Role, Server};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, broadcast::error::RecvError, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::debug;

use crate::{agent::Agent, clock, master};

/// How long a client is held while there is no master; less than the ten seconds that clients commonly wait.
const HOLD: Duration = Duration::from_secs(8);
/// A master that accepts no connection, or does not greet, within this time is tried again.
const TRY: Duration = Duration::from_millis(700);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(25);
/// A silent peer is noticed after this time and three probes more.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Passages at a time; further clients wait to be accepted.
const AT_ONCE: usize = 4096;

/// Where the master's MySQL server is, as `host` and `port`.
type Way = (String, u16);

/// Starts to pass connections through.
pub async fn listen(agent: &Arc<Agent>) -> io::Result<JoinHandle<()>> {
    let listener = TcpListener::bind(agent.settings.passage_listen).await?;
    let (sender, ways) = watch::channel(None);
    let known = Arc::clone(agent);
    tokio::spawn(async move { follow(&known, sender).await });
    Ok(tokio::spawn(accept(listener, ways)))
}

/// The way to the master as this node knows it; `None` while it knows of none that is open to clients.
fn way(agent: &Agent, report: &NodeReport, picture: &Picture) -> Option<Way> {
    if let Server::Up(state) = &report.server
        && matches!(state.role, Role::Master { .. })
    {
        return state
            .open
            .then(|| ("127.0.0.1".to_owned(), agent.settings.mysql_port));
    }
    let (_, address) = master::elsewhere(&agent.settings.node, report, picture)?;
    Some(agent.endpoint(address))
}

async fn follow(agent: &Agent, ways: watch::Sender<Option<Way>>) {
    let mut reports = agent.board.watch();
    let mut pictures = agent.picture.subscribe();
    loop {
        let now = way(agent, &agent.board.report(), &pictures.borrow_and_update());
        ways.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        tokio::select! {
            report = reports.recv() => match report {
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            picture = pictures.changed() => {
                if picture.is_err() {
                    return;
                }
            }
        }
    }
}

async fn accept(listener: TcpListener, ways: watch::Receiver<Option<Way>>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, _)) => {
                let ways = ways.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(client, ways, HOLD).await {
                        debug!(%error, "a passage ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: others will be closed.
                debug!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// One client from its connection to its end.
async fn serve(
    mut client: TcpStream,
    mut ways: watch::Receiver<Option<Way>>,
    hold: Duration,
) -> io::Result<()> {
    prepare(&client)?;
    let Some((way, mut server, greeting)) = greeted(&mut ways, clock::now() + hold).await else {
        return client.write_all(&no_master(hold)).await;
    };
    client.write_all(&greeting).await?;
    tokio::select! {
        ended = copy_bidirectional(&mut client, &mut server) => ended.map(drop),
        () = replaced(&mut ways, &way) => {
            reset(&client)?;
            reset(&server)
        }
    }
}

/// The master's connection once it has greeted, with the greeting; `None` when there was none in time.
async fn greeted(
    ways: &mut watch::Receiver<Option<Way>>,
    until: Instant,
) -> Option<(Way, TcpStream, Vec<u8>)> {
    loop {
        let way = ways.borrow_and_update().clone();
        let patience = clock::left(until).min(TRY);
        if patience.is_zero() {
            return None;
        }
        if let Some(way) = way {
            tokio::select! {
                tried = timeout(patience, greeting(&way)) => match tried {
                    Ok(Ok((server, greeting))) => return Some((way, server, greeting)),
                    Ok(Err(_)) => sleep(PAUSE).await,
                    Err(_) => {}
                },
                _ = ways.changed() => {}
            }
        } else {
            let _ = timeout(patience, ways.changed()).await;
        }
    }
}

async fn greeting((host, port): &Way) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut server = TcpStream::connect((host.as_str(), *port)).await?;
    prepare(&server)?;
    let mut greeting = vec![0; 512];
    let length = server.read(&mut greeting).await?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    greeting.truncate(length);
    Ok((server, greeting))
}

/// Returns when another master is known. That none is known for a while ends no passage: this node may have lost
/// its own place in the replication, and the master serve on.
async fn replaced(ways: &mut watch::Receiver<Option<Way>>, served: &Way) {
    let is_other = |way: &Option<Way>| way.as_ref().is_some_and(|way| way != served);
    let ends = ways.wait_for(is_other).await.is_err();
    if ends {
        // The agent ends, and its connections with it.
        std::future::pending::<()>().await;
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 5)
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The connection will end by a reset when it is dropped.
fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// The packet by which a server refuses before its greeting: error 3032, which clients know of a server that is
/// offline.
fn no_master(waited: Duration) -> Vec<u8> {
    let message = format!("There has been no master for {} s; try again", waited.as_secs());
    let mut packet = vec![0xff];
    packet.extend(3032_u16.to_le_bytes());
    packet.extend(message.as_bytes());
    let length = u32::try_from(packet.len()).unwrap_or_default().to_le_bytes();
    [&length[..3], &[0], &packet].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that greets with its name and then says everything back.
    async fn server(name: &'static str) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.write_all(name.as_bytes()).await.unwrap();
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        ("127.0.0.1".to_owned(), port)
    }

    async fn client(ways: &watch::Receiver<Option<Way>>, hold: Duration) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (passed, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(passed, ways.clone(), hold));
        client
    }

    async fn hears(client: &mut TcpStream) -> String {
        let mut heard = [0; 64];
        let length = timeout(Duration::from_secs(5), client.read(&mut heard))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_client_that_comes_while_there_is_no_master_is_served_by_the_next() {
        let (sender, ways) = watch::channel(None);
        let mut client = client(&ways, HOLD).await;
        assert!(
            timeout(Duration::from_millis(100), client.readable())
                .await
                .is_err(),
            "it is held"
        );
        sender.send(Some(server("one").await)).unwrap();
        assert_eq!(hears(&mut client).await, "one");
        client.write_all(b"again").await.unwrap();
        assert_eq!(hears(&mut client).await, "again");
    }

    #[tokio::test]
    async fn clients_of_a_former_master_are_reset_when_another_is_known_and_not_before() {
        let (sender, ways) = watch::channel(Some(server("one").await));
        let mut client = client(&ways, HOLD).await;
        assert_eq!(hears(&mut client).await, "one");
        sender.send(None).unwrap();
        client.write_all(b"still").await.unwrap();
        assert_eq!(hears(&mut client).await, "still");
        sender.send(Some(server("two").await)).unwrap();
        let ended = timeout(Duration::from_secs(5), client.read(&mut [0; 8]))
            .await
            .unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_master_that_accepts_but_does_not_greet_is_left_for_the_next() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let (sender, ways) = watch::channel(Some(("127.0.0.1".to_owned(), port)));
        let mut client = client(&ways, HOLD).await;
        sleep(Duration::from_millis(50)).await;
        sender.send(Some(server("two").await)).unwrap();
        assert_eq!(hears(&mut client).await, "two");
    }

    #[tokio::test]
    async fn a_client_is_told_when_no_master_comes() {
        let (_sender, ways) = watch::channel(None);
        let mut client = client(&ways, Duration::from_millis(20)).await;
        let mut packet = Vec::new();
        client.read_to_end(&mut packet).await.unwrap();
        assert!(
            packet.ends_with(b"There has been no master for 0 s; try again"),
            "{packet:?}"
        );
        assert_eq!(usize::from(packet[0]), packet.len() - 4, "one whole packet");
    }
}
