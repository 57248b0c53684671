//! What the agent needs while very many requests are under way.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use axum::{body::Body, http::Request};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use sqlx::raw_sql;
use tokio::{net::TcpStream, task::JoinHandle, time::sleep};
use tokio_rustls::TlsConnector;

use crate::{
    client::Client,
    direct,
    facts::{Memory, line},
    support::{Node, https::WRITER},
};

/// How many requests.
const REQUESTS: usize = 1000;
/// Over how many connections of HTTP/2.
const SHARED: usize = 10;

type Asked = Vec<JoinHandle<Result<u16>>>;

/// Over a connection each, and over a few connections.
pub async fn measure(node: &Node, trust: &Arc<ClientConfig>) -> Result<Memory> {
    line(&format!("  no connection: {} KiB", node.agent_rss()));
    // Memory that was used is not always given back, so the smaller one is first.
    let mut senders = Vec::new();
    for _ in 0..SHARED {
        senders.push(shared(node, trust).await?);
    }
    let over = |at: usize| {
        let mut sender = senders[at % SHARED].clone();
        let request = Request::get(format!("https://node.test{}", path(at)))
            .header("authorization", format!("Bearer {WRITER}"))
            .body(Body::empty());
        tokio::spawn(async move { Ok(sender.send_request(request?).await?.status().as_u16()) })
    };
    let (_, shared_mib) = held(node, || (0..REQUESTS).map(over).collect()).await?;
    line(&format!(
        "  {REQUESTS} requests over {SHARED} connections: {shared_mib:.1} MiB"
    ));

    let mut clients = Vec::new();
    for _ in 0..REQUESTS {
        clients.push(Client::connect(node, trust).await?);
    }
    line(&format!("  {REQUESTS} connections: {} KiB", node.agent_rss()));
    let over = |(at, mut client): (usize, Client)| {
        tokio::spawn(async move { client.ask("GET", &path(at), "", "").await })
    };
    let (requests, resident_mib) = held(node, || clients.into_iter().enumerate().map(over).collect()).await?;
    line(&format!("  {requests} requests under way: {resident_mib:.1} MiB"));
    Ok(Memory {
        requests,
        resident_mib,
        shared_mib,
    })
}

fn path(at: usize) -> String {
    format!("/v1/databases/bench/tables/points/rows/{}", at + 1)
}

async fn shared(node: &Node, trust: &Arc<ClientConfig>) -> Result<SendRequest<Body>> {
    let mut config = ClientConfig::clone(trust);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", node.api_port())).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("node.test")?, stream)
        .await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Holds a lock that every request waits for, so that all are under way together, and lets them go. Gives how many there
/// were, and the most MiB that were resident.
async fn held(node: &Node, ask: impl FnOnce() -> Asked) -> Result<(u64, f64)> {
    let mut lock = direct::connect(node).await?;
    node.forget_agent_peak();
    raw_sql("LOCK TABLES bench.points WRITE")
        .execute(&mut lock)
        .await?;
    let asked = ask();
    let mut most = 0;
    for _ in 0..40 {
        sleep(Duration::from_millis(50)).await;
        most = most.max(under_way(node).await);
        if most >= REQUESTS as u64 {
            break;
        }
    }
    raw_sql("UNLOCK TABLES").execute(&mut lock).await?;
    for one in asked {
        let status = one.await??;
        ensure!(status == 200, "a request that waited was answered {status}");
    }
    ensure!(most >= REQUESTS as u64, "only {most} requests were under way");
    let resident_mib = f64::from(u32::try_from(node.agent_peak())?) / 1024.0;
    Ok((most, resident_mib))
}

async fn under_way(node: &Node) -> u64 {
    let text = node.get("/metrics").await;
    text.lines()
        .find_map(|line| line.strip_prefix("ddb_node_api_requests_under_way "))
        .and_then(|count| count.parse().ok())
        .unwrap_or_default()
}
