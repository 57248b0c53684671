//! Clients that work one request after the other, and what they come to in a slice of time.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use sqlx::mysql::MySqlConnection;
use tokio::time::sleep;

use crate::{
    client::Client,
    direct::{self, POINTS},
    facts::middle,
    support::now,
};

/// From the first request to the beginning of what is counted.
const SETTLE: Duration = Duration::from_millis(200);
/// Every client begins with other rows than the others.
const APART: u64 = 7919;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A row by its key.
    Read,
    /// A row more.
    Write,
}

/// One client.
pub trait Worker: Send + 'static {
    /// One request; a number that differs from request to request.
    fn once(&mut self, work: Work, number: u64) -> impl Future<Output = Result<()>> + Send;
}

impl Worker for MySqlConnection {
    async fn once(&mut self, work: Work, number: u64) -> Result<()> {
        match work {
            Work::Read => direct::read(self, number % POINTS + 1).await,
            Work::Write => direct::write(self, number).await,
        }
    }
}

impl Worker for Client {
    async fn once(&mut self, work: Work, number: u64) -> Result<()> {
        match work {
            Work::Read => {
                let path = format!("/v1/databases/bench/tables/points/rows/{}", number % POINTS + 1);
                self.must("GET", &path, "", "").await
            }
            Work::Write => {
                let body = format!(r#"{{"name":"somebody number {number}","age":{}}}"#, number % 100);
                let path = "/v1/databases/bench/tables/writes/rows";
                let more = "content-type: application/json\r\n";
                self.must("POST", path, more, &body).await
            }
        }
    }
}

/// What a slice came to.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Requests per second of all clients.
    pub per_second: f64,
    /// The median request in milliseconds.
    pub median_ms: f64,
}

/// All clients at once for a slice of time; their connections stay.
pub async fn pound<W: Worker>(workers: &mut Vec<W>, work: Work, slice: Duration) -> Result<Rate> {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut tasks = Vec::new();
    for (at, mut worker) in workers.drain(..).enumerate() {
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        let mut number = at as u64 * APART;
        tasks.push(tokio::spawn(async move {
            let mut spans = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let begun = now();
                worker.once(work, number).await?;
                spans.push(begun.elapsed().as_secs_f64() * 1000.0);
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok((worker, spans))
        }));
    }
    sleep(SETTLE).await;
    let (begun, before) = (now(), done.load(Ordering::Relaxed));
    sleep(slice).await;
    let (count, took) = (done.load(Ordering::Relaxed) - before, begun.elapsed());
    stop.store(true, Ordering::Relaxed);
    let mut spans = Vec::new();
    for task in tasks {
        let (worker, of_one) = task.await??;
        workers.push(worker);
        spans.extend(of_one);
    }
    Ok(Rate {
        per_second: f64::from(count) / took.as_secs_f64(),
        median_ms: middle(spans),
    })
}
