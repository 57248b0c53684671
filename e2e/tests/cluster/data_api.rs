//! The data API with curl alone: the classic endpoints through a slave, and writes through a slave while the master is
//! killed.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{
    clock::millis,
    curl::{self, Curl},
    database::{Database, Node},
    faults, sql,
    wait::{Seen, until},
    world::{World, on_cluster},
};
use futures::future::try_join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The kubelets bring a changed Secret to the nodes one after the other.
const KNOWN: Duration = Duration::from_mins(3);
const HEALED: Duration = Duration::from_mins(2);
const WRITERS: usize = 3;
/// Rows that each writer is to have written at least, before and after the fault together; a busy machine writes few.
const ROWS: usize = 5;

/// A client with a new token for a slave's own port, once every node knows the token: any may come to lead.
async fn client(world: &World, role: &str) -> Result<(Database, Node, Curl)> {
    let database = world.database().await?;
    let token = curl::make_token(&database, role).await?;
    let slave = Node::from(&database.slave_pod().await?);
    let address = slave.ip.clone().context("the slave has no address")?;
    for node in database.pods().await? {
        let address = node.ip.clone().context("the node has no address")?;
        let client = Curl::of(&database, &token, &node.name, &address).await?;
        until("answer to the new token", KNOWN, async || {
            let answer = client.get("/is-master", &[], &[]).await?;
            Ok(if answer.status == 200 {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{}: {answer:?}", node.name))
            })
        })
        .await?;
    }
    let client = Curl::of(&database, &token, &slave.name, &address).await?;
    Ok((database, slave, client))
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn with_a_token_and_curl_a_database_is_made_filled_searched_and_changed_through_a_slave() {
    on_cluster(async |world| {
        let (database, slave, client) = client(world, "admin").await?;
        let master = Node::from(&database.master_pod().await?).name;
        let is_master = client.get("/is-master", &[], &[]).await?.must(200)?;
        ensure!(is_master == json!({"isMaster": false}), "{is_master}");
        let made = client.get("/createdb", &[("name", "e2e_curl")], &[]).await?;
        ensure!(made.header("served-by") == Some(&*master), "{made:?}");
        made.must(200)?;
        let table = [
            ("dbname", "e2e_curl"),
            ("table", "users"),
            ("schema", "name VARCHAR(100), email VARCHAR(100), age INT"),
        ];
        client.get("/createtable", &table, &[]).await?.must(200)?;
        let values = "NULL, \"John Doe\", \"john@example.com\", 30";
        let row = json!({"dbname": "e2e_curl", "table": "users", "values": values});
        let inserted = client.post("/insert", &row, &[]).await?;
        let token = format!(
            "After: {}",
            inserted.header("write-token").context("no Write-Token")?
        );
        ensure!(inserted.must(200)?["id"] == 1, "another id");
        classic_reads(&client, &slave, &token).await?;
        let change = json!({"dbname": "e2e_curl", "table": "users",
            "set": "name = \"Jane\", age = 31", "where": "Id = 1"});
        ensure!(
            client.post("/update", &change, &[]).await?.must(200)?["rows"] == 1,
            "not updated"
        );
        let parameters = [("dbname", "e2e_curl"), ("value", "Jane")];
        let found = client
            .get("/search", &parameters, &["Consistency: leader"])
            .await?
            .must(200)?;
        ensure!(found["found"][0]["rows"][0]["age"] == 31, "{found}");
        let gone = json!({"dbname": "e2e_curl", "table": "users", "where": "Id = 1"});
        ensure!(
            client.post("/delete", &gone, &[]).await?.must(200)?["rows"] == 1,
            "not deleted"
        );
        let nodes = client.get("/nodes", &[], &[]).await?.must(200)?;
        let all = nodes["nodes"].as_array().map_or(0, Vec::len);
        ensure!(all == 3, "{nodes}");
        client
            .get("/dropdb", &[("name", "e2e_curl")], &[])
            .await?
            .must(200)?;
        Ok(())
    });
}

async fn classic_reads(client: &Curl, slave: &Node, after: &str) -> Result<()> {
    let table = [("dbname", "e2e_curl"), ("table", "users")];
    let rows = client.get("/select", &table, &[after]).await?;
    let served = rows.header("served-by").unwrap_or_default().to_owned();
    let rows = rows.must(200)?;
    let john = json!({"Id": 1, "name": "John Doe", "email": "john@example.com", "age": 30});
    ensure!(rows["rows"] == json!([john]), "{rows}");
    eprintln!(
        "    a row that was just written is read from {served} ({} was asked)",
        slave.name
    );
    let found = client
        .get("/search", &[("value", "john@example.com")], &[after])
        .await?;
    let found = found.must(200)?;
    ensure!(found["found"][0]["rows"][0]["name"] == "John Doe", "{found}");
    Ok(())
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn writes_with_curl_through_a_slave_outlast_a_killed_master_and_each_row_is_there_once() {
    on_cluster(async |world| {
        let (database, _, client) = client(world, "writer").await?;
        client
            .get("/createdb", &[("name", "e2e_kill")], &[])
            .await?
            .must(200)?;
        let table = json!({"dbname": "e2e_kill", "table": "writes", "columns": {"id": "int"}});
        client.post("/createtable", &table, &[]).await?.must(200)?;
        let term = database.status().await?.record.term.0;
        let stop = AtomicBool::new(false);
        let kill = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            faults::signal_mysqld(&database.master_pod().await?, Signal::SIGKILL)?;
            let led = database.wait_led(term, HEALED).await;
            // Writes on the new master, too.
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.store(true, Ordering::Relaxed);
            led
        };
        let writers = (0..WRITERS).map(|writer| write(&client, writer, &stop));
        let (killed, written) = tokio::join!(kill, try_join_all(writers));
        killed?;
        let written = written?;
        let slowest = written.iter().map(|(_, slowest)| *slowest).max();
        let expected: BTreeMap<i64, u64> = written
            .into_iter()
            .flat_map(|(ids, _)| ids)
            .map(|id| (id, 1))
            .collect();
        eprintln!(
            "    {} rows acknowledged through a slave, none refused, the slowest after {} ms",
            expected.len(),
            slowest.map_or(0, millis)
        );
        ensure!(expected.len() > WRITERS * ROWS, "only {} rows", expected.len());
        database.wait_healthy(HEALED).await?;
        for node in database.pods().await? {
            let address = node.ip.with_context(|| format!("{} has no address", node.name))?;
            same_rows(&database, &node.name, &address, &expected).await?;
        }
        Ok(())
    });
}

/// Writes one row after the other; every one must be acknowledged. Gives their ids and the longest wait.
async fn write(client: &Curl, writer: usize, stop: &AtomicBool) -> Result<(Vec<i64>, Duration)> {
    let clock = e2e::clock::Clock::start();
    let (mut ids, mut slowest) = (Vec::new(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let id = i64::try_from(writer * 1_000_000 + ids.len() + 1)?;
        let row = json!({"dbname": "e2e_kill", "table": "writes", "data": {"id": id}});
        let key = format!("Idempotency-Key: e2e-{id}");
        let begun = clock.at();
        let answer = client.post("/insert", &row, &["Prefer: wait=10", &key]).await?;
        let reply: Value = answer.must(200).with_context(|| format!("row {id}"))?;
        ensure!(reply["rows"] == 1, "{reply}");
        slowest = slowest.max(clock.at().saturating_sub(begun));
        ids.push(id);
    }
    Ok((ids, slowest))
}

/// Waits until the node has all that it is to have; then it must hold these rows, each once.
async fn same_rows(
    database: &Database,
    node: &str,
    address: &str,
    expected: &BTreeMap<i64, u64>,
) -> Result<()> {
    let found = until("all rows on a node", HEALED, async || {
        let mut connection = sql::connect(&database.at(address).await?, Duration::from_secs(2)).await?;
        let found = sql::ids(&mut connection, "e2e_kill.writes").await?;
        Ok(if found.len() >= expected.len() {
            Seen::Done(found)
        } else {
            Seen::NotYet(format!("{node} has {} of {}", found.len(), expected.len()))
        })
    })
    .await?;
    ensure!(
        &found == expected,
        "{node} holds other rows than were acknowledged"
    );
    Ok(())
}
