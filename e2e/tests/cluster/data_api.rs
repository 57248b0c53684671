//! The data API with curl alone: the classic endpoints through a slave, and writes through a slave while the master is
//! killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    curl::{self, Curl},
    database::{Database, Node},
    faults, keyed,
    world::{World, on_cluster},
};
use nix::sys::signal::Signal;
use serde_json::json;

const HEALED: Duration = Duration::from_mins(2);

async fn client(world: &World, role: &str) -> Result<(Database, Node, Curl)> {
    let database = world.database().await?;
    let (slave, client) = curl::client(&database, role).await?;
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
        let term = database.status().await?.record.term.0;
        let written = keyed::write_through(&client, "e2e_kill", async {
            faults::signal_mysqld(&database.master_pod().await?, Signal::SIGKILL)?;
            database.wait_led(term, HEALED).await.map(drop)
        })
        .await?;
        eprintln!("    {}", written.sentence());
        database.wait_healthy(HEALED).await?;
        written.are_everywhere(&database, "e2e_kill", HEALED).await
    });
}
