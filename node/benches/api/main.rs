//! What the data API costs against a direct client of the same MySQL servers: three real servers with agents of the
//! release build on 127.0.0.1, led by the tests' operator. No cluster: what its network and its other tenants add
//! would be added to both sides, and hide what is measured. `cargo xtask bench api` builds and runs it.

#![allow(clippy::unwrap_used)]

mod bulk;
mod client;
mod direct;
mod facts;
mod load;
mod memory;
mod overload;
mod pairs;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use client::Client;
use facts::{Facts, Read, line};
use load::Work;
use pairs::compare;
use rustls::ClientConfig;
use sqlx::mysql::MySqlConnection;
use support::{Node, cluster::Cluster};

#[derive(Parser)]
struct Arguments {
    /// How many turns of each comparison.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Clients at a time, and connections of each way.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Milliseconds of one way in one turn.
    #[arg(long, default_value_t = 700, value_parser = clap::value_parser!(u64).range(1..))]
    slice: u64,
    /// Only these: read, write, bulk, overload, forward, memory. What is left out is null.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// cargo says so of every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cluster = Cluster::led("bench")
        .await
        .context("it needs mysqld, see above")?;
    let facts = measure(&cluster, &arguments).await;
    cluster.end();
    println!("{}", serde_json::to_string(&facts?)?);
    Ok(())
}

async fn measure(cluster: &Cluster, arguments: &Arguments) -> Result<Facts> {
    let Arguments {
        turns,
        clients,
        slice,
        only,
        bench: _,
    } = arguments;
    let (turns, slice) = (*turns, Duration::from_millis(*slice));
    let wanted = |what: &str| only.is_empty() || only.iter().any(|one| one == what);
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    let trust = client::trust(master)?;
    direct::prepare(master).await?;
    let mut facts = Facts::default();
    if wanted("read") {
        line("point reads, MySQL directly and the API");
        let (mut directs, mut apis) = both(master, &trust, *clients).await?;
        let many = compare((&mut directs, &mut apis), Work::Read, turns, slice).await?;
        line("of one client");
        let (mut directs, mut apis) = both(master, &trust, 1).await?;
        let alone = compare((&mut directs, &mut apis), Work::Read, turns, slice).await?;
        facts.read = Some(Read {
            ratio: many.ratio,
            added_median_ms: alone.added_median_ms,
            many,
            alone,
        });
    }
    if wanted("write") {
        line("single rows, MySQL directly and the API");
        let (mut directs, mut apis) = both(master, &trust, *clients).await?;
        facts.write = Some(compare((&mut directs, &mut apis), Work::Write, turns, slice).await?);
    }
    if wanted("forward") {
        line("single rows of one client, to the master's node and to a slave's");
        let mut near = vec![Client::connect(master, &trust).await?];
        let mut far = vec![Client::connect(slave, &trust).await?];
        facts.forward = Some(compare((&mut near, &mut far), Work::Write, turns, slice).await?);
    }
    if wanted("bulk") {
        line("many rows");
        facts.bulk = Some(bulk::measure(master, &trust, turns.div_ceil(3)).await?);
    }
    if wanted("overload") {
        line("three times the load");
        facts.overload = Some(overload::measure(master, &trust, turns.div_ceil(3), 3 * slice).await?);
    }
    if wanted("memory") {
        line("very many requests");
        facts.memory = Some(memory::measure(master, &trust).await?);
    }
    Ok(facts)
}

/// So many clients of MySQL and as many of the API.
async fn both(
    node: &Node,
    trust: &Arc<ClientConfig>,
    clients: u32,
) -> Result<(Vec<MySqlConnection>, Vec<Client>)> {
    let (mut directs, mut apis) = (Vec::new(), Vec::new());
    for _ in 0..clients {
        directs.push(direct::connect(node).await?);
        apis.push(Client::connect(node, trust).await?);
    }
    Ok((directs, apis))
}
