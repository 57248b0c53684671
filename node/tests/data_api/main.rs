//! The data API on three real nodes: the classic examples as they are typed, routing, keys, hostile input, and a
//! change of master in the middle. Skipped, with a message, where there is no mysqld.
//!
//! `cargo build -p supervisor && DDB_TEST_MYSQLD=/path/to/mysqld cargo test -p node --test data_api -- --nocapture`

#![allow(clippy::unwrap_used)]

mod by_key;
mod certificate;
mod changes;
mod clients;
mod document;
mod input;
mod loading;
mod manners;
mod own_roles;
mod steering;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod takeover;
mod trials;
mod v1;

use std::time::Duration;

use failover::GtidSet;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _, raw_sql};
use support::{
    Node,
    cluster::Cluster,
    https::{ADMIN, Answer, LIMITED, READER, WRITER},
    now,
};
use tokio::time::sleep;

/// Two clusters at a time would disturb each other's times.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_api_does_what_its_contract_says() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(mut cluster) = Cluster::led("api").await else {
        return;
    };
    wait_for_roles(&cluster.nodes[0]).await;
    nothing_without_a_token(&cluster).await;
    for node in [1, 0] {
        classic_examples(&cluster.nodes[node]).await;
    }
    roles_bound_what_can_be_done(&cluster).await;
    routing(&cluster).await;
    barriers(&cluster).await;
    keys(&cluster).await;
    input::hostile(&cluster).await;
    input::types(&cluster).await;
    input::statements(&cluster).await;
    input::limits(&cluster).await;
    clients::gone(&cluster.nodes[1], &cluster.nodes[0]).await;
    clients::idle_and_slow(&cluster.nodes[2]).await;
    clients::commits_that_wait(&cluster).await;
    v1::databases_and_tables(&cluster).await;
    v1::definitions(&cluster).await;
    v1::rows(&cluster).await;
    v1::pages(&cluster).await;
    v1::exports(&cluster).await;
    v1::representations(&cluster).await;
    by_key::puts(&cluster).await;
    by_key::defaults(&cluster).await;
    by_key::at_once(&cluster).await;
    by_key::binary(&cluster).await;
    by_key::as_shown(&cluster).await;
    v1::transactions(&cluster).await;
    steering::processes(&cluster).await;
    steering::diagnosis(&cluster).await;
    steering::bounded_reads(&cluster).await;
    steering::slow_reads(&cluster).await;
    certificate::users_certificate(&cluster).await;
    steering::wishes(&cluster).await;
    steering::service_accounts(&cluster).await;
    steering::events(&cluster).await;
    steering::statements(&mut cluster).await;
    manners::compression(&cluster.nodes[1]).await;
    manners::early_answers(&cluster.nodes[1]).await;
    document::roles::roles(&cluster).await;
    audit(&cluster);
    counted(&cluster).await;
    own_roles::bounded(&mut cluster).await;
    takeover::plant_old_keys(&cluster.nodes[0]).await;
    let master = takeover::change_of_master(&mut cluster).await;
    trials::rejoin(&mut cluster, 0, master, 2).await;
    takeover::old_keys_are_forgotten(&cluster.nodes[master]).await;
    let master = trials::killed_between_commit_and_reply(&mut cluster, master).await;
    trials::read_your_writes(&cluster, master).await;
    manners::limits_and_origins(&mut cluster.nodes[(master + 1) % 3]).await;
    for node in &cluster.nodes {
        println!("agent {} resident: {} KiB", node.name, node.agent_rss());
    }
    takeover::nobody_leads(&mut cluster, master).await;
    cluster.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_the_data_api_lose_nothing_and_take_constant_memory() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(mut cluster) = Cluster::led("api-streams").await else {
        return;
    };
    wait_for_roles(&cluster.nodes[0]).await;
    streams::exports::exports(&cluster).await;
    streams::rows::rows(&cluster).await;
    streams::rows::many_rows(&cluster).await;
    streams::imports::imports(&cluster).await;
    streams::imports::held_up(&cluster).await;
    streams::imports::large_import(&cluster).await;
    streams::search::search(&cluster).await;
    streams::imports::import_and_change_of_master(&mut cluster).await;
    cluster.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_change_feed_tells_each_change_once_and_none_that_may_be_lost() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(mut cluster) = Cluster::led("changes").await else {
        return;
    };
    wait_for_roles(&cluster.nodes[0]).await;
    changes::told::in_order(&cluster.nodes[0]).await;
    changes::told::as_they_were(&cluster.nodes[0]).await;
    changes::told::every_type(&cluster.nodes[0]).await;
    changes::told::only_what_is_wanted(&cluster.nodes[0]).await;
    changes::told::by_transactions(&cluster.nodes[0]).await;
    changes::place::from_where_it_was(&cluster).await;
    changes::told::no_longer_than_the_token_is_good(&cluster.nodes[0]).await;
    changes::place::many(&cluster.nodes[0]).await;
    changes::place::large(&cluster.nodes[0]).await;
    changes::certain::only_what_is_acknowledged(&cluster).await;
    changes::place::left_alone(&cluster.nodes[0]).await;
    changes::place::deleted(&cluster.nodes[0]).await;
    let master = changes::certain::through_a_change_of_master(&mut cluster).await;
    changes::certain::no_longer_than_it_leads(&mut cluster, master).await;
    cluster.end();
}

async fn wait_for_roles(master: &Node) {
    let begun = now();
    loop {
        let answer = master.fetch(ADMIN, "/databases").await;
        let admin = master
            .send(
                ADMIN,
                "/insert",
                &json!({"dbname":"t","table":"r","data":{"n":0}}),
            )
            .await;
        if answer.status == 200 && admin.status == 200 {
            println!("roles' accounts after {} ms", begun.elapsed().as_millis());
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{answer:?} {admin:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn nothing_without_a_token(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    for path in [
        "/ping",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/v1/openapi.json",
    ] {
        assert_eq!(node.request("GET", path, &[], "").await.unwrap().status, 200);
    }
    for path in [
        "/databases",
        "/is-master",
        "/nodes",
        "/createdb?name=x",
        "/v1/cluster/position",
    ] {
        let answer = node.request("GET", path, &[], "").await.unwrap();
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(node.fetch("ddb_admin_wrong", path).await.status, 401);
    }
    assert_eq!(node.fetch(READER, "/no-such-path").await.status, 404);
}

/// The contract's examples, as they stand.
async fn classic_examples(node: &Node) {
    let made = node.fetch(WRITER, "/createdb?name=testdb").await;
    assert_eq!(made.must(200), json!({"ok": true, "database": "testdb"}));
    assert_eq!(made.header("served-by"), Some("a"));
    assert_eq!(made.header("served-role"), Some("master"));
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let token = made.header("write-token").unwrap().to_owned();
    assert_eq!(
        node.fetch(WRITER, "/createdb?name=testdb").await.must(409)["code"],
        1007
    );
    let schema = "name VARCHAR(100), email VARCHAR(100), age INT";
    node.fetch(
        WRITER,
        &format!("/createtable?dbname=testdb&table=users&schema={schema}"),
    )
    .await
    .must(200);
    let body =
        json!({"dbname":"testdb","table":"users","values":"NULL, \"John Doe\", \"john@example.com\", 30"});
    let traced = [(
        "Traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )];
    let inserted = node.send_with(WRITER, "/insert", &traced, &body).await.unwrap();
    assert_eq!(inserted.must(200), json!({"ok": true, "rows": 1, "id": 1}));
    let body =
        json!({"dbname":"testdb","table":"users","data":[{"name":"O'Neil \\ \"x\"","age":7},{"name":"Ann"}]});
    assert_eq!(node.send(WRITER, "/insert", &body).await.must(200)["rows"], 2);
    let token = inserted_token(&inserted.headers).unwrap_or(token);
    let selected = node
        .request(
            "GET",
            "/select?dbname=testdb&table=users",
            &[("Authorization", &format!("Bearer {READER}")), ("After", &token)],
            "",
        )
        .await
        .unwrap()
        .must(200);
    assert_eq!(
        selected["rows"][0],
        json!({"Id": 1, "name": "John Doe", "email": "john@example.com", "age": 30})
    );
    let body = json!({"dbname":"testdb","table":"users","set":"name = \"Jane\", age = 31","where":"Id = 1"});
    assert_eq!(node.send(WRITER, "/update", &body).await.must(200)["rows"], 1);
    let body = json!({"dbname":"testdb","table":"users","data":{"email":null},"condition":{"Id":2}});
    node.send(WRITER, "/update", &body).await.must(200);
    let strong = [
        ("Authorization", &*format!("Bearer {READER}")),
        ("Consistency", "leader"),
    ];
    let found = node
        .request("GET", "/search?value=Jane", &strong, "")
        .await
        .unwrap()
        .must(200);
    assert_eq!(found["found"][0]["table"], "users", "{found}");
    assert_eq!(found["found"][0]["rows"][0]["age"], 31);
    let path = "/search?dbname=testdb&table=users&column=age&value=7";
    let found = node.request("GET", path, &strong, "").await.unwrap().must(200);
    assert_eq!(found["found"][0]["rows"][0]["name"], "O'Neil \\ \"x\"", "{found}");
    let path = "/search?dbname=testdb&table=users&condition={\"name\":\"Ann\"}";
    assert_eq!(
        node.request("GET", path, &strong, "").await.unwrap().must(200)["count"],
        1
    );
    let body = json!({"dbname":"testdb","table":"users","where":"Id = 1"});
    assert_eq!(node.send(WRITER, "/delete", &body).await.must(200)["rows"], 1);
    rpc(node).await;
    let tables = node
        .request("GET", "/tables?dbname=testdb", &strong, "")
        .await
        .unwrap();
    assert_eq!(tables.must(200)["tables"], json!(["plain", "plainer", "users"]));
    node.fetch(ADMIN, "/droptable?dbname=testdb&table=users")
        .await
        .must(200);
    node.fetch(ADMIN, "/dropdb?name=testdb").await.must(200);
    node.fetch(ADMIN, "/dropdb?name=testdb").await.must(404);
    assert_eq!(
        node.fetch(READER, "/is-master").await.must(200),
        json!({"isMaster": node.name == "a"})
    );
    let nodes = node.fetch(READER, "/nodes").await.must(200);
    assert!(
        nodes["nodes"].as_array().is_some_and(|all| !all.is_empty()),
        "{nodes}"
    );
    println!("the classic examples through {}", node.name);
}

async fn rpc(node: &Node) {
    let columns =
        json!({"dbname":"testdb","table":"plain","columns":{"id":"int","name":"string","ok":"bool"}});
    node.send(WRITER, "/createtable", &columns).await.must(200);
    let call = |operation: &str, more: Value| {
        let mut body = json!({"operation": operation, "database": "testdb", "table": "plainer"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let send = async |body: Value| {
        let headers = [("Consistency", "leader")];
        node.send_with(WRITER, "/rpc", &headers, &body)
            .await
            .unwrap()
            .must(200)
    };
    send(call(
        "CREATE_TABLE",
        json!({"data": {"name": "string", "age": "int"}}),
    ))
    .await;
    send(call("INSERT", json!({"data": {"name": "Bob", "age": 5}}))).await;
    send(call(
        "UPDATE",
        json!({"data": {"age": 6}, "condition": {"name": "Bob"}}),
    ))
    .await;
    let found = send(call("SEARCH", json!({"condition": {"age": 6}}))).await;
    assert_eq!(found["found"][0]["rows"][0]["name"], "Bob", "{found}");
    assert_eq!(
        send(call("DELETE", json!({"condition": {"age": 6}}))).await["rows"],
        1
    );
    let wrong = node
        .send(
            WRITER,
            "/rpc",
            &json!({"operation":"DROP_EVERYTHING","database":"x"}),
        )
        .await;
    assert_eq!(wrong.status, 400);
}

fn inserted_token(headers: &str) -> Option<String> {
    headers
        .lines()
        .find_map(|line| line.strip_prefix("write-token: ").map(str::to_owned))
}

async fn roles_bound_what_can_be_done(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    node.fetch(READER, "/createdb?name=x").await.must(403);
    node.fetch(WRITER, "/dropdb?name=t").await.must(403);
    for path in [
        "/createdb?name=mysql",
        "/tables?dbname=MySQL",
        "/select?dbname=ddb&table=api_keys",
        "/select?dbname=performance_schema&table=threads",
        "/search?dbname=sys&value=x",
    ] {
        node.fetch(ADMIN, path).await.must(403);
    }
    node.fetch(LIMITED, "/createdb?name=shop").await.must(200);
    node.fetch(LIMITED, "/select?dbname=t&table=r").await.must(403);
    assert_eq!(
        node.fetch(LIMITED, "/databases").await.must(200)["databases"],
        json!(["shop"])
    );
    // Even the account itself reaches nothing of the system.
    for (user, allowed) in [
        ("ddb_api_reader", "SELECT 1 FROM t.r"),
        ("ddb_api_admin", "DELETE FROM t.r WHERE n = -1"),
    ] {
        let role = user.rsplit('_').next().unwrap();
        let options = sqlx::mysql::MySqlConnectOptions::new()
            .socket(node.socket())
            .username(user)
            .password(&format!("{role} password"))
            .ssl_mode(sqlx::mysql::MySqlSslMode::Required);
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        raw_sql(sqlx::AssertSqlSafe(allowed.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
        for sql in [
            "SELECT * FROM mysql.user",
            "SELECT * FROM performance_schema.threads",
            "DELETE FROM ddb.api_keys",
            "SELECT * FROM ddb.beat",
            "SET GLOBAL read_only = 1",
            "CREATE USER x@localhost",
        ] {
            assert!(
                raw_sql(sql).execute(&mut connection).await.is_err(),
                "{user}: {sql}"
            );
        }
    }
}

async fn routing(cluster: &Cluster) {
    let slave = &cluster.nodes[1];
    let body = json!({"dbname":"t","table":"r","data":{"n":500}});
    let redirected = slave
        .send_with(WRITER, "/insert", &[("Prefer", "routing=redirect")], &body)
        .await
        .unwrap();
    assert_eq!(redirected.status, 307);
    let port = cluster.nodes[0].api_port();
    assert_eq!(
        redirected.header("location"),
        Some(&*format!("https://127.0.0.1:{port}/insert"))
    );
    let forged = slave
        .send_with(WRITER, "/insert", &[("Ddb-Forwarded-By", "c")], &body)
        .await
        .unwrap();
    forged.must(400);
    let here = slave.fetch(READER, "/select?dbname=t&table=r").await;
    assert_eq!(here.header("served-by"), Some("b"), "a read stays: {here:?}");
    let begun = now();
    for number in 0..50 {
        let body = json!({"dbname":"t","table":"r","data":{"n":600 + number}});
        let answer = slave.send(WRITER, "/insert", &body).await;
        answer.must(200);
        let token = answer.header("write-token").unwrap();
        let headers = [("Authorization", &*format!("Bearer {READER}")), ("After", token)];
        let path = format!("/search?dbname=t&table=r&column=n&value={}", 600 + number);
        let found = cluster.nodes[2]
            .request("GET", &path, &headers, "")
            .await
            .unwrap();
        assert_eq!(
            found.must(200)["count"],
            1,
            "a slave's answer was stale: {found:?}"
        );
    }
    println!(
        "50 forwarded writes, each read again on another slave: {} ms",
        begun.elapsed().as_millis()
    );
    let lost = [
        ("Authorization", &*format!("Bearer {READER}")),
        ("After", "1.00000000-0000-4000-8000-000000000000:1-5"),
        // Otherwise a heartbeat that failed is tried again.
        ("Prefer", "wait=0"),
    ];
    let ask = async || {
        let asked = cluster.nodes[2].request("GET", "/select?dbname=t&table=r", &lost, "");
        let answer = asked.await.unwrap();
        assert_eq!(
            answer.must(409)["type"],
            "urn:ddb:problem:token-lost",
            "{answer:?}"
        );
    };
    // The master proves that it leads by a heartbeat row, also where that connection was lost since the last one.
    let ((), writers) = tokio::join!(ask(), writers_of_heartbeats(&cluster.nodes[0]));
    let mut root = cluster.nodes[0].root().await;
    for writer in writers {
        let kill = AssertSqlSafe(format!("KILL {writer}"));
        raw_sql(kill).execute(&mut root).await.unwrap();
    }
    ask().await;
}

/// The connections that write the next heartbeat row.
async fn writers_of_heartbeats(master: &Node) -> Vec<u64> {
    let mut root = master.root().await;
    raw_sql("LOCK TABLES ddb.beat WRITE")
        .execute(&mut root)
        .await
        .unwrap();
    let waiting = "SELECT ID FROM performance_schema.processlist WHERE INFO LIKE 'INSERT INTO ddb.beat %'";
    for _ in 0..80 {
        let writers = raw_sql(waiting).fetch_all(&mut root).await.unwrap();
        if !writers.is_empty() {
            raw_sql("UNLOCK TABLES").execute(&mut root).await.unwrap();
            let ids = writers.iter().map(|row| row.try_get_unchecked(0).unwrap());
            return ids.collect();
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody wrote a heartbeat");
}

async fn barriers(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    assert!(
        master.fetch(READER, "/sync").await.must(409)["detail"]
            .as_str()
            .unwrap()
            .contains("master")
    );
    assert_eq!(slave.fetch(READER, "/sync").await.must(200)["inSync"], true);
    slave.fetch(READER, "/sync?mode=check").await.must(200);
    slave.fetch(READER, "/replicate/db?name=t").await.must(200);
    slave.fetch(READER, "/replicate/db?name=nowhere").await.must(409);
    slave
        .fetch(READER, "/replicate/dropdb?name=nowhere")
        .await
        .must(200);
    slave
        .fetch(READER, "/replicate/table?dbname=t&table=r&schema=n BIGINT")
        .await
        .must(200);
    slave
        .fetch(READER, "/replicate/table?dbname=t&table=r&schema=m BIGINT")
        .await
        .must(409);
    let row = json!({"dbname":"t","table":"r","values":"1234"});
    slave.send(READER, "/replicate/insert", &row).await.must(409);
    master.send(WRITER, "/insert", &row).await.must(200);
    slave.send(READER, "/replicate/insert", &row).await.must(200);
    let change = json!({"dbname":"t","table":"r","set":"n = 1235","where":"n = 1234"});
    master.send(WRITER, "/update", &change).await.must(200);
    let now_there = json!({"dbname":"t","table":"r","set":"n = 1235","where":"n = 1235"});
    slave
        .send(READER, "/replicate/update", &now_there)
        .await
        .must(200);
    let gone = json!({"dbname":"t","table":"r","where":"n = 1235"});
    slave.send(READER, "/replicate/delete", &gone).await.must(409);
    master.send(WRITER, "/delete", &gone).await.must(200);
    slave.send(READER, "/replicate/delete", &gone).await.must(200);
}

/// The state that a reply's token names.
fn state(answer: &Answer) -> GtidSet {
    let token = answer.header("write-token").unwrap();
    token.split_once('.').unwrap().1.parse().unwrap()
}

async fn keys(cluster: &Cluster) {
    let slave = &cluster.nodes[1];
    slave
        .fetch(WRITER, "/createtable?dbname=t&table=k&schema=name VARCHAR(20)")
        .await
        .must(200);
    let body = json!({"dbname":"t","table":"k","data":{"name":"once"}});
    let keyed = [("Idempotency-Key", "key-1")];
    let first = slave.send_with(WRITER, "/insert", &keyed, &body).await.unwrap();
    let again = cluster.nodes[2]
        .send_with(WRITER, "/insert", &keyed, &body)
        .await
        .unwrap();
    assert_eq!(first.must(200), again.must(200));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert!(state(&again).contains(&state(&first)), "{again:?}");
    let other = json!({"dbname":"t","table":"k","data":{"name":"twice"}});
    slave
        .send_with(WRITER, "/insert", &keyed, &other)
        .await
        .unwrap()
        .must(422);
    // Another token's keys are others.
    slave
        .send_with(ADMIN, "/insert", &keyed, &other)
        .await
        .unwrap()
        .must(200);
    // A definition, too.
    let keyed = [
        ("Authorization", &*format!("Bearer {WRITER}")),
        ("Idempotency-Key", "key-2"),
    ];
    let path = "/createdb?name=keyed";
    slave.request("GET", path, &keyed, "").await.unwrap().must(200);
    let again = slave.request("GET", path, &keyed, "").await.unwrap();
    again.must(200);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    // One that is refused is refused again: what stood in its way was not made by it.
    let refused = [keyed[0], ("Idempotency-Key", "key-4")];
    for _ in 0..2 {
        let path = "/createtable?dbname=t&table=k&schema=other INT";
        let answer = slave.request("GET", path, &refused, "").await.unwrap();
        assert_eq!(answer.must(409)["outcome"], "not-applied", "{answer:?}");
    }
    // It is carried out once nothing stands in its way any more, and then it is done.
    let ask = async |path: &str, key: &str| {
        let headers = [keyed[0], ("Idempotency-Key", key)];
        slave.request("GET", path, &headers, "").await.unwrap()
    };
    let made = "/createtable?dbname=t&table=k2&schema=other INT";
    ask(made, "key-5").await.must(200);
    ask(made, "key-6").await.must(409);
    let dropped = slave.fetch(ADMIN, "/droptable?dbname=t&table=k2").await;
    dropped.must(200);
    assert_eq!(ask(made, "key-6").await.header("idempotency-replayed"), None);
    let again = ask(made, "key-6").await;
    again.must(200);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    // Twenty at once are one.
    let all = futures::future::join_all((0..20).map(|at| {
        let node = &cluster.nodes[at % 3];
        let body = &body;
        async move {
            node.send_with(WRITER, "/insert", &[("Idempotency-Key", "key-3")], body)
                .await
                .unwrap()
        }
    }))
    .await;
    let ids: Vec<Value> = all.iter().map(|answer| answer.must(200)["id"].clone()).collect();
    assert!(ids.iter().all(|id| id == &ids[0]), "{ids:?}");
    let done = all
        .iter()
        .find(|answer| answer.header("idempotency-replayed").is_none());
    let done = state(done.unwrap());
    for answer in &all {
        assert!(state(answer).contains(&done), "{answer:?}");
    }
    let rows = cluster.nodes[0]
        .fetch(READER, "/select?dbname=t&table=k")
        .await
        .must(200);
    assert_eq!(rows["count"], 3, "{rows}");
}

fn audit(cluster: &Cluster) {
    let records = cluster.nodes[0].audit();
    let insert = records
        .iter()
        .find(|record| record["operation"] == "POST /insert" && record["object"] == "testdb.users")
        .unwrap();
    assert_eq!(insert["outcome"], "applied");
    assert_eq!(insert["who"], "writer");
    assert_eq!(insert["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(insert["rows"], 1);
    assert_eq!(
        insert["statement"],
        "INSERT INTO `testdb`.`users` VALUES (?, ?, ?, ?)"
    );
    let text = json!(records).to_string();
    assert!(!text.contains("john@example.com") && !text.contains("0123456789abcdef"));
    assert!(records.iter().any(|record| record["status"] == 403));
    let records = cluster.nodes[1].audit();
    let refused = |status: u16, who: &str| {
        records
            .iter()
            .any(|record| record["status"] == status && record["who"] == who && record["from"] == "127.0.0.1")
    };
    assert!(refused(401, ""), "a request without a token: {records:?}");
    assert!(refused(413, "writer"), "a body that is too large: {records:?}");
}

/// What was done is counted by route and role, and shown with the agent's own metrics.
async fn counted(cluster: &Cluster) {
    let text = cluster.nodes[0].get("/metrics").await;
    for series in [
        r#"ddb_node_api_requests_total{method="POST",route="/insert",role="writer",status="200"}"#,
        r#"ddb_node_api_request_duration_seconds_count{route="/select",role="reader"}"#,
        "ddb_node_api_requests_under_way 0",
    ] {
        assert!(text.contains(series), "{series} is not in {text}");
    }
    let slave = cluster.nodes[1].get("/metrics").await;
    let refused = r#"ddb_node_api_requests_total{method="GET",route="/databases",role="none",status="401"}"#;
    assert!(slave.contains(refused), "{refused} is not in {slave}");
    let forwarded = slave
        .lines()
        .find_map(|line| line.strip_prefix("ddb_node_api_forwarded_total "))
        .and_then(|count| count.parse::<u64>().ok());
    assert!(
        forwarded.is_some_and(|count| count >= 50),
        "{forwarded:?}: {slave}"
    );
}
