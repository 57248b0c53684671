//! What the data API promises about freshness, repeated requests and a missing master, under a real failover.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    curl::{self, Answer, Curl},
    database::{Database, Node},
    faults,
    wait::{Seen, until},
    world::on_cluster,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

const HEALED: Duration = Duration::from_mins(2);
/// A server that stands still is noticed within this time.
const NOTICED: Duration = Duration::from_secs(5);
const KEY: &str = "Idempotency-Key: e2e-routing-1";

fn row(id: u64) -> Value {
    json!({"dbname": "e2e_routing", "table": "t", "data": {"id": id}})
}

/// How many rows with this id a node shows.
async fn count(node: &Curl, id: u64, headers: &[&str]) -> Result<(usize, Answer)> {
    let id = id.to_string();
    let table = [
        ("dbname", "e2e_routing"),
        ("table", "t"),
        ("column", "id"),
        ("value", &id),
    ];
    let answer = node.get("/search", &table, headers).await?;
    ensure!(answer.status == 200, "{headers:?}: {answer:?}");
    let found = answer.body["found"].as_array().cloned().unwrap_or_default();
    let rows = found.iter().filter_map(|one| Some(one["rows"].as_array()?.len()));
    Ok((rows.sum(), answer))
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn what_the_data_api_promised_holds_on_every_node_after_its_master_was_killed() {
    on_cluster(async |world| {
        let database = world.database().await?;
        let (slave, client) = curl::client(&database, "writer").await?;
        let mut nodes = Vec::new();
        for node in database.pods().await? {
            let address = node.ip.clone().context("the node has no address")?;
            nodes.push(Curl::of(&database, client.token(), &node.name, &address).await?);
        }
        client
            .get("/createdb", &[("name", "e2e_routing")], &[])
            .await?
            .must(200)?;
        let table = json!({"dbname": "e2e_routing", "table": "t", "columns": {"id": "int"}});
        client.post("/createtable", &table, &[]).await?.must(200)?;
        let first = client.post("/insert", &row(1), &[KEY]).await?;
        let token = first.header("write-token").context("no Write-Token")?;
        let after = format!("After: {token}");
        let first = first.must(200)?;
        redirected(&database, &client).await?;

        let term = database.status().await?.record.term.0;
        faults::signal_mysqld(&database.master_pod().await?, Signal::SIGKILL)?;
        let without_key = client.post("/insert", &row(2), &["Prefer: wait=10"]).await?;
        fresh(&nodes, &after).await?;
        database.wait_healed(term, HEALED).await?;
        eprintln!(
            "    asking {} without a key in the middle of it: {}",
            slave.name, without_key.status
        );
        truthful(&nodes, &without_key).await?;
        fresh(&nodes, &after).await?;
        repeated(&nodes, &first).await?;
        nobody_leads(&database, &client).await
    });
}

/// Who wants to be sent to the master is told its address.
async fn redirected(database: &Database, client: &Curl) -> Result<()> {
    let master = Node::from(&database.master_pod().await?);
    let address = master.ip.context("the master has no address")?;
    let sent = client
        .post("/insert", &row(9), &["Prefer: routing=redirect"])
        .await?;
    let place = sent.header("location").unwrap_or_default();
    ensure!(
        sent.status == 307 && place.contains(&address),
        "not to {address}: {sent:?}"
    );
    Ok(())
}

/// A token of a write that was acknowledged before the kill is good on every node, and so is each level of freshness.
async fn fresh(nodes: &[Curl], after: &str) -> Result<()> {
    for node in nodes {
        for level in ["any", "session", "leader", "strong", "bounded=10s"] {
            let level = format!("Consistency: {level}");
            let asked = [after, &level, "Prefer: wait=10"];
            let (rows, answer) = count(node, 1, &asked).await?;
            ensure!(rows == 1, "{level}: {rows} rows: {answer:?}");
        }
    }
    Ok(())
}

/// What was said of a write without a key is so.
async fn truthful(nodes: &[Curl], answer: &Answer) -> Result<()> {
    let wanted = match (answer.status, answer.body["outcome"].as_str()) {
        (200, _) => 1..=1,
        (503, Some("not-applied")) => 0..=0,
        (503, Some("unknown")) => 0..=1,
        _ => anyhow::bail!("neither done nor refused: {answer:?}"),
    };
    for node in nodes {
        let (rows, _) = count(node, 2, &["Consistency: leader"]).await?;
        ensure!(wanted.contains(&rows), "{rows} rows after {answer:?}");
    }
    Ok(())
}

/// The request with the key gets the reply of the former master, and another one with it is refused.
async fn repeated(nodes: &[Curl], first: &Value) -> Result<()> {
    for node in nodes {
        let again = node.post("/insert", &row(1), &[KEY]).await?;
        ensure!(again.header("idempotency-replayed") == Some("true"), "{again:?}");
        ensure!(again.header("write-token").is_some(), "{again:?}");
        let again = again.must(200)?;
        ensure!(again == *first, "{again}, and first {first}");
        node.post("/insert", &row(3), &[KEY]).await?.must(422)?;
    }
    let (rows, answer) = count(&nodes[0], 1, &["Consistency: leader"]).await?;
    ensure!(rows == 1, "{answer:?}");
    Ok(())
}

/// While failover is switched off and the master's server stands still, a change is refused once its time is over, with
/// how things stand and when to come again.
async fn nobody_leads(database: &Database, client: &Curl) -> Result<()> {
    let paused = |paused: bool| database.patch(json!({"spec": {"paused": paused}}));
    paused(true).await?;
    let master = database.master_pod().await?;
    // The node that is asked must not be the one that stands still.
    let other = Node::from(&database.slave_pod().await?);
    let address = other.ip.context("the slave has no address")?;
    let client = Curl::of(database, client.token(), &other.name, &address).await?;
    sleep(NOTICED).await;
    faults::signal_mysqld(&master, Signal::SIGSTOP)?;
    let refused = refused(&client).await;
    faults::signal_mysqld(&master, Signal::SIGCONT)?;
    paused(false).await?;
    refused?;
    database.wait_healthy(HEALED).await?;
    client
        .post("/insert", &row(5), &["Prefer: wait=10"])
        .await?
        .must(200)?;
    Ok(())
}

async fn refused(client: &Curl) -> Result<()> {
    sleep(NOTICED).await;
    until("refuse for want of a master", HEALED, async || {
        let answer = client
            .post(
                "/insert",
                &row(4),
                &["Prefer: wait=1", "Idempotency-Key: e2e-routing-4"],
            )
            .await?;
        let tells = answer.body["phase"].is_string()
            && answer.body["term"].is_u64()
            && answer.header("retry-after").is_some();
        Ok(if answer.status == 503 && tells {
            eprintln!("    {}", answer.body);
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{answer:?}"))
        })
    })
    .await
}
