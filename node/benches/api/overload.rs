//! More load than the node can bear. Requests come as they please, whether earlier ones were answered or not: three
//! times as many in a second as the node answers at its best. What counts is how many are answered well and in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use rustls::ClientConfig;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::{
    client::Client,
    direct::POINTS,
    facts::{line, middle},
    load::{Rate, Work, pound},
    support::Node,
};

/// How many clients work one request after the other while the best is sought.
const LADDER: [usize; 5] = [8, 16, 32, 64, 128];
/// Connections over which requests come as they please.
const CONNECTIONS: usize = 384;
/// An answer is of use to a client for so long.
const IN_TIME: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overload {
    /// Good answers under overload as a part of the most: median of the turns.
    pub goodput_ratio: f64,
    /// The most good answers in a second.
    pub peak_per_second: f64,
    /// Requests in a second that were wanted under overload, and that were really sent.
    pub offered_per_second: (f64, f64),
    /// Good answers in a second under overload.
    pub good_per_second: f64,
    /// Refusals in a second under overload.
    pub refused_per_second: f64,
}

/// Seeks the best, then asks for three times as much, in turns.
pub async fn measure(
    node: &Node,
    trust: &Arc<ClientConfig>,
    turns: u32,
    slice: Duration,
) -> Result<Overload> {
    let mut workers = Vec::new();
    let mut best = (0_usize, 0.0);
    for clients in LADDER {
        while workers.len() < clients {
            workers.push(Client::connect(node, trust).await?);
        }
        let Rate { per_second, .. } = pound(&mut workers, Work::Read, slice).await?;
        line(&format!("  {clients:>3} clients  {per_second:>6.0}/s"));
        if per_second > best.1 {
            best = (clients, per_second);
        }
    }
    workers.truncate(best.0);
    let mut crowd = Vec::new();
    for _ in 0..CONNECTIONS {
        crowd.push(Client::connect(node, trust).await?);
    }
    let mut turned = Vec::new();
    for turn in 1..=turns {
        let peak = pound(&mut workers, Work::Read, slice).await?.per_second;
        let flood = flood(&mut crowd, 3.0 * peak, slice).await?;
        line(&format!(
            "  turn {turn:>2}  {peak:>6.0}/s at best; {:>6.0}/s asked: {:>6.0}/s good, {:>6.0}/s refused",
            flood.sent, flood.good, flood.refused
        ));
        turned.push((peak, flood));
    }
    let of = |value: fn(&(f64, Flood)) -> f64| middle(turned.iter().map(value).collect());
    Ok(Overload {
        goodput_ratio: of(|(peak, flood)| flood.good / peak.max(1.0)),
        peak_per_second: of(|(peak, _)| *peak),
        offered_per_second: (of(|(peak, _)| 3.0 * peak), of(|(_, flood)| flood.sent)),
        good_per_second: of(|(_, flood)| flood.good),
        refused_per_second: of(|(_, flood)| flood.refused),
    })
}

/// Per second.
struct Flood {
    sent: f64,
    good: f64,
    refused: f64,
}

/// So many requests a second, spread over all connections. A connection whose answer is late is late with its next
/// request, too, and then sends at once.
async fn flood(crowd: &mut Vec<Client>, per_second: f64, slice: Duration) -> Result<Flood> {
    let connections = u32::try_from(crowd.len())?;
    let apart = Duration::from_secs_f64(f64::from(connections) / per_second);
    let counts = Arc::new([const { AtomicU32::new(0) }; 3]);
    let number = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let end = begin + slice;
    let mut tasks = Vec::new();
    for (at, mut client) in (0..connections).zip(crowd.drain(..)) {
        let (counts, number) = (Arc::clone(&counts), Arc::clone(&number));
        let mut due = begin + apart.mul_f64(f64::from(at) / f64::from(connections));
        tasks.push(tokio::spawn(async move {
            while due < end {
                sleep_until(due).await;
                counts[0].fetch_add(1, Ordering::Relaxed);
                let id = number.fetch_add(1, Ordering::Relaxed) % POINTS + 1;
                let path = format!("/v1/databases/bench/tables/points/rows/{id}");
                let sent = Instant::now();
                let status = client.ask("GET", &path, "", "").await?;
                if status == 200 && sent.elapsed() <= IN_TIME {
                    counts[1].fetch_add(1, Ordering::Relaxed);
                } else if status == 503 {
                    counts[2].fetch_add(1, Ordering::Relaxed);
                }
                due = (due + apart).max(Instant::now());
            }
            anyhow::Ok(client)
        }));
    }
    for task in tasks {
        crowd.push(task.await??);
    }
    let took = begin.elapsed().as_secs_f64();
    let [sent, good, refused] = [0, 1, 2].map(|at| f64::from(counts[at].load(Ordering::Relaxed)) / took);
    Ok(Flood { sent, good, refused })
}
