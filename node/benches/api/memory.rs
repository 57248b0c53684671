//! What the agent needs while very many requests are under way.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use rustls::ClientConfig;
use sqlx::raw_sql;
use tokio::time::sleep;

use crate::{
    client::Client,
    direct,
    facts::{Memory, line},
    support::Node,
};

/// How many requests.
const REQUESTS: usize = 1000;

/// Holds a lock that every request waits for, so that all are under way together, and lets them go.
pub async fn measure(node: &Node, trust: &Arc<ClientConfig>) -> Result<Memory> {
    line(&format!("  no connection: {} KiB", node.agent_rss()));
    let mut lock = direct::connect(node).await?;
    let mut clients = Vec::new();
    for _ in 0..REQUESTS {
        clients.push(Client::connect(node, trust).await?);
    }
    line(&format!("  {REQUESTS} connections: {} KiB", node.agent_rss()));
    node.forget_agent_peak();
    raw_sql("LOCK TABLES bench.points WRITE")
        .execute(&mut lock)
        .await?;
    let asked: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(at, mut client)| {
            let path = format!("/v1/databases/bench/tables/points/rows/{}", at + 1);
            tokio::spawn(async move { client.ask("GET", &path, "", "").await })
        })
        .collect();
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
    line(&format!("  {most} requests under way: {resident_mib:.1} MiB"));
    Ok(Memory {
        requests: most,
        resident_mib,
    })
}

async fn under_way(node: &Node) -> u64 {
    let text = node.get("/metrics").await;
    text.lines()
        .find_map(|line| line.strip_prefix("ddb_node_api_requests_under_way "))
        .and_then(|count| count.parse().ok())
        .unwrap_or_default()
}
