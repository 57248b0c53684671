//! The data API with curl alone: the classic endpoints through a slave, and writes through a slave while the master is
//! killed; and the example clients.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use api::names;
use e2e::{
    curl::{self, Curl},
    database::{Database, Node},
    faults, feed, keyed, tools,
    wait::{Seen, until},
    world::{World, on_cluster},
};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

const HEALED: Duration = Duration::from_mins(2);
/// So many masters are killed under the fifty clients.
const KILLS: u32 = 10;
/// Ten kills and what the feed is behind.
const ALL_TOLD: Duration = Duration::from_mins(10);
/// The table whose changes are told meanwhile.
const TOLD: &str = "e2e_kill.writes";

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
fn fifty_clients_write_through_a_slave_while_ten_masters_are_killed_and_each_row_is_there_and_told_once() {
    on_cluster(async |world| {
        let (database, slave, client) = client(world, "writer").await?;
        let mut nodes = Vec::new();
        for node in database.pods().await? {
            let address = node.ip.context("the node has no address")?;
            nodes.push(Curl::of(&database, client.token(), &node.name, &address).await?);
        }
        let from = feed::position(&client, TOLD).await?;
        let wanted = AtomicUsize::new(usize::MAX);
        let kills = async {
            for _ in 0..KILLS {
                let term = database.status().await?.record.term.0;
                // The node that is asked may have come to lead; it is asked on.
                faults::signal_mysqld(&database.master_pod().await?, Signal::SIGKILL)?;
                database.wait_healed(term, HEALED).await?;
            }
            Ok(())
        };
        let written = async {
            let written = Box::pin(keyed::write_through(&client, "e2e_kill", 50, kills)).await?;
            wanted.store(written.rows.len(), Ordering::Relaxed);
            Ok(written)
        };
        let told = async {
            let told = timeout(ALL_TOLD, Box::pin(feed::follow(&nodes, TOLD, from, &wanted))).await;
            told.context("the feed does not tell every row")?
        };
        let (written, told) = tokio::try_join!(written, told)?;
        eprintln!("    asking {}: {}", slave.name, written.sentence());
        eprintln!("    told of {} rows by {} feeds", told.rows.len(), told.feeds);
        ensure!(
            told.rows == written.rows,
            "the feed told other rows than were acknowledged"
        );
        database.wait_healthy(HEALED).await?;
        written.are_everywhere(&database, "e2e_kill", HEALED).await
    });
}

/// A port of this machine behind which a node's data API is, as behind `kubectl port-forward`. It ends with the future.
async fn forward(address: String, ready: tokio::sync::oneshot::Sender<u16>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    _ = ready.send(listener.local_addr()?.port());
    let mut passages = tokio::task::JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await?;
        let address = address.clone();
        passages.spawn(async move {
            let mut node = TcpStream::connect((address.as_str(), api::wire::API_PORT)).await?;
            tokio::io::copy_bidirectional(&mut client, &mut node).await
        });
    }
}

/// Runs an example as its own first lines say; returns what it prints.
async fn run_example(words: [&str; 2], client: &Curl, port: u16) -> Result<String> {
    let [program, file] = words;
    let output = tokio::process::Command::new(program)
        .arg(tools::repository().join("examples/clients").join(file))
        .env("DDB_URL", format!("https://localhost:{port}"))
        .env("DDB_TOKEN", client.token())
        .env("DDB_CA", client.authority())
        .env("NODE_EXTRA_CA_CERTS", client.authority())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("`{program}` cannot be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "{file}: {printed} {said}");
    Ok(printed)
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn the_example_clients_do_what_they_say_and_outlast_a_killed_master() {
    on_cluster(async |world| {
        let (database, slave, client) = client(world, "admin").await?;
        let (ready, port) = tokio::sync::oneshot::channel();
        let forwarding = tokio::spawn(forward(slave.ip.context("the slave has no address")?, ready));
        let port = port.await?;
        let python = "Ada, Grace\nrefused: ";
        let examples = [
            (["python3", "guestbook.py"], python),
            (["node", "guestbook.mjs"], python),
            (
                ["sh", "guestbook.sh"],
                "{\"rows\":[{\"name\":\"Ada\"},{\"name\":\"Grace\"}]",
            ),
        ];
        for (words, wanted) in examples {
            let printed = run_example(words, &client, port).await?;
            ensure!(printed.starts_with(wanted), "{words:?}: {printed}");
        }
        for (words, wanted) in examples {
            let term = database.status().await?.record.term.0;
            faults::signal_mysqld(&database.master_pod().await?, Signal::SIGKILL)?;
            let printed = run_example(words, &client, port).await?;
            ensure!(
                printed.starts_with(wanted),
                "{words:?} during a failover: {printed}"
            );
            database.wait_healed(term, HEALED).await?;
        }
        forwarding.abort();
        Ok(())
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_switchover_is_asked_for_with_curl_and_its_account_is_read_with_curl() {
    on_cluster(async |world| {
        let (database, slave, client) = client(world, "admin").await?;
        let term = database.status().await?.record.term.0;
        let stale = json!({"target": slave.name, "expectedTerm": term + 7});
        let refused = client
            .post("/v1/cluster/switchover", &stale, &[])
            .await?
            .must(409)?;
        ensure!(refused["detail"].to_string().contains("term"), "{refused}");
        let wish = json!({"target": slave.name, "expectedTerm": term});
        let accepted = client.post("/v1/cluster/switchover", &wish, &[]).await?;
        ensure!(
            accepted.header("location") == Some("/v1/cluster/events"),
            "{accepted:?}"
        );
        accepted.must(202)?;
        database.wait_healed(term, HEALED).await?;
        let path = "/v1/cluster/failovers";
        let failover = until("tell of the switchover", HEALED, async || {
            let all = client.get(path, &[], &[]).await?.must(200)?;
            let newest = all["failovers"][0].clone();
            let complete = newest["at"].is_string() && newest["term"].as_u64() > Some(term);
            Ok(if complete {
                Seen::Done(newest)
            } else {
                Seen::NotYet(all.to_string())
            })
        })
        .await?;
        eprintln!("    {failover}");
        ensure!(
            failover["kind"] == "Switchover" && failover["to"] == slave.name.as_str(),
            "{failover}"
        );
        let kept = failover["kept"].as_str().unwrap_or_default();
        ensure!(!kept.is_empty(), "there is no proof of what was kept: {failover}");
        for step in failover::STEPS {
            ensure!(failover["steps"][step].is_u64(), "{step}: {failover}");
        }
        // What the engine refuses is told in the same place as what it did.
        let own = json!({"target": slave.name});
        client
            .post("/v1/cluster/switchover", &own, &[])
            .await?
            .must(202)?;
        until("tell of the second wish", HEALED, async || {
            let cluster = client.get("/v1/cluster", &[], &[]).await?.must(200)?;
            let told = cluster["lastRequest"]["message"].to_string();
            Ok(if told.contains(&slave.name) {
                Seen::Done(())
            } else {
                Seen::NotYet(told)
            })
        })
        .await?;
        let diagnosis = client.get("/v1/diagnose", &[], &[]).await?.must(200)?;
        ensure!(diagnosis["ok"] == true, "{diagnosis}");
        let processes = client.get("/v1/processes", &[], &[]).await?.must(200)?;
        let nodes = processes["nodes"].as_array().cloned().unwrap_or_default();
        ensure!(
            nodes.len() == 3 && nodes.iter().all(|node| node["processes"].is_array()),
            "{processes}"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs a cluster: run `cargo xtask test`"]
fn a_service_account_is_let_in_with_a_token_for_the_database_and_no_other_token() {
    on_cluster(async |world| {
        let (database, _, client) = client(world, "reader").await?;
        let Database { namespace, name, .. } = &database;
        let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), namespace);
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some("e2e-web".to_owned()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match accounts.create(&PostParams::default(), &account).await {
            Err(kube::Error::Api(refused)) if refused.code == 409 => {}
            made => _ = made?,
        }
        let token = async |audience: &str| -> Result<String> {
            let request = TokenRequest {
                spec: TokenRequestSpec {
                    audiences: vec![audience.to_owned()],
                    ..TokenRequestSpec::default()
                },
                ..TokenRequest::default()
            };
            let made: TokenRequest = accounts
                .create_subresource("token", "e2e-web", &PostParams::default(), &request)
                .await?;
            Ok(made.status.context("no token")?.token)
        };
        let audience = names::api_audience(name, namespace);
        let right = token(&audience).await?;
        let wrong = token(&names::api_audience("another", namespace)).await?;
        let (right, wrong) = (client.with_token(&right), client.with_token(&wrong));
        right.get("/databases", &[], &[]).await?.must(401)?;
        let role = |role: serde_json::Value| json!({"spec": {"api": {"serviceAccounts": role}}});
        database
            .patch(role(json!([{"name": "e2e-web", "role": "reader"}])))
            .await?;
        until("let the service account in", HEALED, async || {
            let answer = right.get("/databases", &[], &[]).await?;
            Ok(if answer.status == 200 {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{answer:?}"))
            })
        })
        .await?;
        right
            .get("/createdb", &[("name", "e2e_account")], &[])
            .await?
            .must(403)?;
        wrong.get("/databases", &[], &[]).await?.must(401)?;
        database.patch(role(json!([]))).await?;
        Ok(())
    });
}
