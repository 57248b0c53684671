//! Streams of the data API on real servers: exports, rows and imports as NDJSON and CSV, search.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::raw_sql;
use tokio::time::sleep;

use crate::{
    support::{
        Node,
        cluster::Cluster,
        https::{ADMIN, Answer, LIMITED, READER, WRITER},
        now,
    },
    takeover,
};

async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {READER}");
    let mut all = vec![("Authorization", bearer.as_str()), ("Consistency", "leader")];
    all.extend_from_slice(headers);
    node.request("GET", path, &all, "").await.unwrap()
}

async fn run(node: &Node, sql: &'static str) {
    raw_sql(sql).execute(&mut node.root().await).await.unwrap();
}

fn lines_of(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// CSV with every sign that could be taken for another; a database whole and of one moment.
pub async fn exports(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        r#"CREATE DATABASE store;
        CREATE TABLE store.kinds (id INT PRIMARY KEY, `te,xt` VARCHAR(40), n DECIMAL(20,10), f DOUBLE, j JSON,
            raw VARBINARY(9), flags BIT(9), at DATETIME(3));
        INSERT INTO store.kinds VALUES (1, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
            (2, '', 1.5, 0.1, '{}', X'', b'1', '2024-02-29 01:02:03.5'),
            (3, '\\N', -2, 1e300, '[1, "a,b"]', X'00FF', b'111111111', '2024-01-01'),
            (4, 'a"b,c\nd\r\n', 0, -0e0, 'null', X'41', 0, '1000-01-01'),
            (5, '\\end rows=5', 0, 0, '""', X'5C4E', 0, '9999-12-31'), (6, '\\\\N', 0, 0, '1', '', 0, '2000-01-01');
        CREATE TABLE store.one (a VARCHAR(9)); INSERT INTO store.one VALUES (NULL), (''), ('x');
        CREATE TABLE store.empty (a INT, b INT);
        CREATE VIEW store.seen AS SELECT a FROM store.one"#,
    )
    .await;
    let csv = get(slave, "/v1/export/store/kinds", &[("Accept", "text/csv")]).await;
    assert_eq!(csv.status, 200, "{csv:?}");
    assert_eq!(
        csv.header("content-type"),
        Some("text/csv; charset=utf-8; header=present")
    );
    assert_eq!(
        csv.text,
        "id,\"te,xt\",n,f,j,raw,flags,at\n1,\\N,\\N,\\N,\\N,\\N,\\N,\\N\n\
         2,,1.5000000000,0.1,{},,1,2024-02-29 01:02:03.500000\n\
         3,\\\\N,-2.0000000000,1e+300,\"[1, \"\"a,b\"\"]\",AP8=,511,2024-01-01 00:00:00\n\
         4,\"a\"\"b,c\nd\r\n\",0.0000000000,-0.0,null,QQ==,0,1000-01-01 00:00:00\n\
         5,\\\\end rows=5,0.0000000000,0.0,\"\"\"\"\"\",XE4=,0,9999-12-31 00:00:00\n\
         6,\\\\\\N,0.0000000000,0.0,1,,0,2000-01-01 00:00:00\n\\end rows=6,,,,,,,\n"
    );
    let one = get(slave, "/v1/export/store/one?format=csv", &[]).await;
    assert_eq!(one.text, "a\n\\N\n\"\"\nx\n\\end rows=3\n");
    let lines = get(
        slave,
        "/v1/export/store/one?format=ndjson",
        &[("Accept", "text/csv")],
    )
    .await;
    assert_eq!(lines_of(&lines.text).len(), 4);
    get(slave, "/v1/export/store/one?format=xml", &[]).await.must(400);
    get(slave, "/v1/export/store?format=csv", &[]).await.must(400);
    get(slave, "/v1/export/nowhere", &[]).await.must(404);
    slave.fetch(ADMIN, "/v1/export/mysql").await.must(403);
    let whole = get(slave, "/v1/export/store", &[]).await;
    assert_eq!(whole.status, 200, "{whole:?}");
    let lines = lines_of(&whole.text);
    let count = |table: &str| lines.iter().filter(|line| line["table"] == table).count();
    assert_eq!(
        (count("kinds"), count("one"), count("empty"), count("seen")),
        (7, 4, 1, 0)
    );
    assert_eq!(lines[0], json!({"table":"empty","end":true,"rows":0}));
    assert_eq!(lines[2]["row"]["te,xt"], json!(""));
    assert_eq!(lines[lines.len() - 1], json!({"end":true,"tables":3,"rows":9}));
    one_moment(cluster).await;
}

/// Two tables that are always changed together are found together, whatever is written meanwhile.
async fn one_moment(cluster: &Cluster) {
    let master = &cluster.nodes[0];
    run(
        master,
        "CREATE DATABASE pair; CREATE TABLE pair.a (n INT PRIMARY KEY, filler TEXT); CREATE TABLE pair.z LIKE pair.a",
    )
    .await;
    let writing = async {
        for _ in 0..100 {
            run(
                master,
                "START TRANSACTION; SET @n = (SELECT COUNT(*) FROM pair.a); INSERT INTO pair.a VALUES (@n, \
                 REPEAT('x', 60000)); INSERT INTO pair.z VALUES (@n, ''); COMMIT",
            )
            .await;
        }
    };
    let reading = async {
        let mut seen = Vec::new();
        for _ in 0..10 {
            let answer = get(master, "/v1/export/pair", &[]).await;
            let ends: Vec<u64> = lines_of(&answer.text)
                .iter()
                .filter(|line| line["end"] == true && line["table"].is_string())
                .map(|line| line["rows"].as_u64().unwrap())
                .collect();
            assert_eq!(ends[0], ends[1], "the tables are of different moments");
            seen.push(ends[0]);
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert!(
        seen.last() > seen.first(),
        "nothing was written meanwhile: {seen:?}"
    );
    println!("ten exports of a database under writes, each of one moment: {seen:?}");
}

/// `POST` of a body of another type than JSON.
async fn post(node: &Node, path: &str, kind: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {WRITER}");
    let mut all = vec![("Authorization", bearer.as_str()), ("Content-Type", kind)];
    all.extend_from_slice(headers);
    node.request("POST", path, &all, body).await.unwrap()
}

async fn count(node: &Node, table: &str) -> u64 {
    let path = format!("/v1/databases/store/tables/{table}/rows?count=exact&limit=1");
    get(node, &path, &[]).await.must(200)["count"].as_u64().unwrap()
}

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";

/// An export is taken as it is, and comes out the same; what is wrong is named with its line and undoes all.
pub async fn rows(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        "CREATE TABLE store.again LIKE store.kinds; CREATE TABLE store.one_again LIKE store.one;
        CREATE TABLE store.people (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20) NOT NULL, age INT,
            born INT AS (2000 - age))",
    )
    .await;
    for (from, to) in [("kinds", "again"), ("one", "one_again")] {
        let rows = format!("/v1/databases/store/tables/{to}/rows");
        for (format, kind) in [("csv", CSV), ("ndjson", NDJSON)] {
            let export = |table: &str| format!("/v1/export/store/{table}?format={format}");
            let whole = get(slave, &export(from), &[]).await.text;
            let answer = post(slave, &rows, kind, &whole, &[]).await;
            assert_eq!(answer.must(201)["rows"], if from == "one" { 3 } else { 6 });
            let again = get(slave, &export(to), &[]).await.text;
            assert_eq!(again, whole, "{from} as {kind}");
            let clear = if from == "one" {
                "DELETE FROM store.one_again"
            } else {
                "DELETE FROM store.again"
            };
            run(master, clear).await;
        }
    }
    let path = "/v1/databases/store/tables/people/rows";
    let answer = post(
        slave,
        path,
        CSV,
        "name,age,born\r\nAnn,30,1\r\n\"Bob, jr\",\\N,2\r\n",
        &[],
    )
    .await;
    assert_eq!(
        answer.must(201),
        json!({"rows":2,"id":1}),
        "what MySQL makes is passed over"
    );
    let answer = post(slave, &format!("{path}?null="), CSV, "name,age\nCid,\n", &[]).await;
    assert_eq!(answer.must(201)["rows"], 1);
    let lines = "{\"name\":\"Dan\"}\n\n{\"age\":5,\"name\":\"Eve\"}\n";
    assert_eq!(post(slave, path, NDJSON, lines, &[]).await.must(201)["rows"], 2);
    for (kind, body, part) in [
        (NDJSON, "{\"name\":\"x\"}\n{\"name\":", "line 2"),
        (NDJSON, "{\"name\":\"x\"}\n{\"colour\":1}", "line 2"),
        (NDJSON, "{\"name\":\"x\"}\n{\"end\":true,\"rows\":2}\n", "2 rows"),
        (NDJSON, "{\"end\":true,\"rows\":0}\n{\"name\":\"x\"}\n", "line 2"),
        (NDJSON, "", "one row"),
        (NDJSON, "{\"name\":\"x\"}\n{\"name\":null}\n", "from line 1"),
        (CSV, "name\nx\ny,2\n", "line 3"),
        (CSV, "name,colour\nx,red\n", "colour"),
        (CSV, "name,name\nx,y\n", "twice"),
        (CSV, "name\nx\n\\end rows=2\n", "2 rows"),
        (CSV, "name,age\nx,\n", "age"),
        (CSV, "name,age\nx,12y\n", "age"),
    ] {
        let answer = post(slave, path, kind, body, &[]).await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
        assert_eq!(answer.json()["outcome"], "not-applied");
        assert!(answer.text.contains(part), "{body}: {answer:?}");
    }
    assert_eq!(count(master, "people").await, 5);
    let merge = format!("{path}?onConflict=merge");
    let lines = "{\"id\":1,\"age\":31}\n{\"id\":2,\"name\":\"Rob\"}\n{\"id\":3,\"name\":\"Sid\",\"age\":1}\n";
    let merged = post(
        slave,
        &merge,
        NDJSON,
        &lines.replace("31}", "31,\"name\":\"Ann\"}"),
        &[],
    )
    .await;
    assert_eq!(merged.status, 201, "{merged:?}");
    let people = get(slave, path, &[]).await.must(200)["rows"].clone();
    assert_eq!(people[0], json!({"id":1,"name":"Ann","age":31,"born":1969}));
    assert_eq!(people[1], json!({"id":2,"name":"Rob","age":null,"born":null}));
    let keyed = [("Idempotency-Key", "lines-1")];
    let first = post(slave, path, NDJSON, "{\"name\":\"Fay\"}\n", &keyed).await;
    let again = post(master, path, NDJSON, "{\"name\":\"Fay\"}\n", &keyed).await;
    assert_eq!(first.must(201), again.must(201));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    post(slave, path, NDJSON, "{\"name\":\"Gus\"}\n", &keyed)
        .await
        .must(422);
    assert_eq!(count(master, "people").await, 6);
}

/// More bound values than a statement takes, and more bytes than a body has otherwise.
pub async fn many_rows(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        "CREATE TABLE store.many (a INT PRIMARY KEY, b INT, c VARCHAR(1000))",
    )
    .await;
    let objects = |from: u32| -> Vec<Value> {
        (from..from + 30_000)
            .map(|n| json!({"a": n, "b": n, "c": "x"}))
            .collect()
    };
    let send =
        async |path: &str, body: Value| post(slave, path, "application/json", &body.to_string(), &[]).await;
    let path = "/v1/databases/store/tables/many/rows";
    assert_eq!(send(path, json!(objects(0))).await.must(201)["rows"], 30_000);
    let again = send(path, json!(objects(29_999))).await.must(409);
    assert_eq!(
        (&again["code"], &again["outcome"]),
        (&json!(1062), &json!("not-applied"))
    );
    let classic = json!({"dbname":"store","table":"many","data":objects(30_000)});
    assert_eq!(send("/insert", classic).await.must(200)["rows"], 30_000);
    let steps = json!([{"do":"insert","table":"many","data":objects(60_000),"expect":{"affected":30_000}}]);
    let body = json!({"database":"store","steps":steps});
    assert_eq!(
        send("/v1/transactions", body).await.must(200)["steps"][0]["rows"],
        30_000
    );
    assert_eq!(count(master, "many").await, 90_000);
    for node in [master, slave] {
        node.forget_agent_peak();
    }
    let before = [master.agent_rss(), slave.agent_rss()];
    let filler = "y".repeat(900);
    let parts = (0..200).map(|part: u32| {
        (0..100).fold(String::new(), |text, row| {
            let a = 1_000_000 + part * 100 + row;
            text + &format!("{{\"a\":{a},\"b\":7,\"c\":\"{filler}\"}}\n")
        })
    });
    let bearer = format!("Bearer {WRITER}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", NDJSON)];
    let begun = now();
    let answer = slave.upload(path, &headers, parts.clone()).await.unwrap();
    assert_eq!(answer.must(201)["rows"], 20_000);
    let grown = [master.agent_peak() - before[0], slave.agent_peak() - before[1]];
    println!(
        "20 MB of rows in one transaction through a slave: {} ms; the agents grew by {grown:?} KiB",
        begun.elapsed().as_millis()
    );
    assert!(grown.iter().all(|grown| *grown < 24 << 10), "{grown:?}");
    // The last row of all is there already: nothing of what came before it stays.
    let twice = slave.upload(
        path,
        &headers,
        parts
            .map(|part| part.replace("\"a\":1", "\"a\":-1"))
            .chain(["{\"a\":5}\n".to_owned()]),
    );
    assert_eq!(twice.await.unwrap().must(409)["outcome"], "not-applied");
    assert_eq!(count(master, "many").await, 110_000);
}

fn headers<'h>(bearer: &'h str, kind: &'h str) -> Vec<(&'h str, &'h str)> {
    vec![("Authorization", bearer), ("Content-Type", kind)]
}

/// What is refused is listed with its line and stops nothing, up to a limit; what broke off is gone on with.
pub async fn imports(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        "CREATE TABLE store.goods (id INT PRIMARY KEY, name VARCHAR(10) NOT NULL, price DECIMAL(6,2), \
         CHECK (price >= 0))",
    )
    .await;
    let path = "/v1/import/store/goods";
    let body = "id,name,price\n1,one,1.50\n2,much too long a name,1\n3,\"th\nree\",x\n4,four,-1\n5,five\n6,six,6\n\
                1,again,1\n7,\\N,1\n8,\"ei\ng\",8\n\\end rows=9,,\n";
    let answer = post(slave, path, CSV, body, &[("X-Request-Id", "import-of-goods")]).await;
    let import = answer.must(200);
    assert_eq!(
        (&import["state"], &import["rows"]),
        (&json!("complete"), &json!(3)),
        "{import}"
    );
    let lines: Vec<u64> = import["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [3, 4, 6, 7, 9, 10], "{import}");
    assert_eq!(
        (&import["refused"], &import["read"], &import["line"]),
        (&json!(6), &json!(9), &json!(11))
    );
    assert!(answer.header("write-token").is_some());
    assert_eq!(count(master, "goods").await, 3);
    let list = ask_writer(slave, "/v1/import").await.must(200);
    assert_eq!(list["imports"][0], import, "{list}");
    let id = import["id"].as_str().unwrap();
    assert_eq!(
        ask_writer(slave, &format!("/v1/import/{id}")).await.must(200),
        import
    );
    get(slave, &format!("/v1/import/{id}"), &[]).await.must(403);
    slave.fetch(ADMIN, &format!("/v1/import/{id}")).await.must(404);
    ask_writer(slave, "/v1/import/none").await.must(404);
    // The id stands for the request: it is not carried out twice, and for no other.
    let keyed = [("Idempotency-Key", "goods-2")];
    let more = "{\"id\":20,\"name\":\"x\"}\n{\"id\":21,\"name\":\"y\"}\n";
    let first = post(slave, path, NDJSON, more, &keyed).await;
    let again = post(master, path, NDJSON, more, &keyed).await;
    assert_eq!(first.must(200), again.must(200));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    post(slave, "/v1/import/store/many", NDJSON, more, &keyed)
        .await
        .must(422);
    let merged = post(
        slave,
        &format!("{path}?onConflict=merge"),
        NDJSON,
        "{\"id\":20,\"name\":\"z\"}\n",
        &[],
    )
    .await;
    assert_eq!(merged.must(200)["rows"], 1);
    // Too many refused rows, a wrong end, another type, another role.
    let bad = (0..3000).fold(String::new(), |text, n| {
        text + &format!("{{\"id\":{n},\"name\":null}}\n")
    });
    let stopped = post(
        slave,
        &format!("{path}?maxRefused=10"),
        NDJSON,
        &bad,
        &[("Idempotency-Key", "bad")],
    )
    .await;
    let problem = stopped.must(422);
    assert!(
        problem["detail"].as_str().unwrap().contains("more than 10 rows"),
        "{problem}"
    );
    let import = ask_writer(master, "/v1/import/bad").await.must(200);
    assert_eq!(
        (&import["state"], &import["rows"]),
        (&json!("stopped"), &json!(0)),
        "{import}"
    );
    assert_eq!(import["list"].as_array().unwrap().len(), 500);
    post(slave, path, NDJSON, "{\"end\":true,\"rows\":5}\n", &[])
        .await
        .must(422);
    post(slave, path, "application/json", "[]", &[]).await.must(400);
    // A client that sends all before it reads sees the answer that was given long before.
    let long = "{\"name\":null}\n".repeat(1 << 20);
    for node in [master, slave] {
        post(node, path, NDJSON, &long, &[]).await.must(422);
        let rows = "/v1/databases/store/tables/goods/rows";
        post(node, rows, NDJSON, &long, &[]).await.must(422);
    }
    let bearer = format!("Bearer {READER}");
    let answer = slave
        .request("POST", path, &headers(&bearer, CSV), "id\n1\n")
        .await
        .unwrap();
    answer.must(403);
    broken_off(cluster).await;
    let audit = std::fs::read_to_string(master.directory.join("audit/audit.jsonl")).unwrap();
    let record = audit
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|record| record["request"] == "import-of-goods")
        .unwrap();
    assert_eq!(record["operation"], "POST /v1/import/store/goods");
    assert_eq!(
        (&record["rows"], &record["outcome"]),
        (&json!(3), &json!("applied"))
    );
    let metrics = master.get("/metrics").await;
    let series = r#"route="/v1/import/{db}/{table}",role="writer",status="200""#;
    assert!(metrics.contains(series), "{metrics}");
}

async fn ask_writer(node: &Node, path: &str) -> Answer {
    let bearer = format!("Bearer {WRITER}");
    let all = [("Authorization", bearer.as_str()), ("Consistency", "leader")];
    node.request("GET", path, &all, "").await.unwrap()
}

/// A client that goes away in the middle: what was settled stays, is known, and is not taken twice.
async fn broken_off(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    let line = |n: u32| format!("{{\"id\":{},\"name\":\"n{n}\"}}\n", 1000 + n);
    let all = (0..5000).fold(String::new(), |text, n| text + &line(n));
    let half = &all[..all.len() / 2];
    let bearer = format!("Bearer {WRITER}");
    let mut with_key = headers(&bearer, NDJSON);
    with_key.push(("Idempotency-Key", "half"));
    let length = all.len().to_string();
    slave
        .break_off("/v1/import/store/goods", &with_key, &length, half)
        .await
        .unwrap();
    let begun = now();
    let import = loop {
        let import = ask_writer(master, "/v1/import/half").await.must(200);
        if import["state"] == "stopped" {
            break import;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{import}");
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(import["reason"], "the body broke off");
    let settled = import["rows"].as_u64().unwrap();
    assert_eq!(
        (settled % 1000, &import["line"]),
        (0, &json!(settled)),
        "{import}"
    );
    assert!((1000..2500).contains(&settled), "{import}");
    let of = "goods";
    assert_eq!(count(master, of).await, 5 + settled);
    let key = [("Idempotency-Key", "half")];
    let other = post(
        slave,
        "/v1/import/store/goods",
        NDJSON,
        &all.replace("n7\"", "m7\""),
        &key,
    )
    .await;
    assert_eq!(other.must(422)["type"], "urn:ddb:problem:key-reused");
    let import = post(slave, "/v1/import/store/goods", NDJSON, &all, &key)
        .await
        .must(200);
    assert_eq!(
        (&import["rows"], &import["refused"]),
        (&json!(5000), &json!(0)),
        "{import}"
    );
    assert_eq!(count(master, of).await, 5005);
    println!("an import that broke off after {settled} rows went on to 5000");
}

/// Lines of a table `(id, filler)`, about a hundred kilobytes a part.
fn large(parts: u32) -> impl Iterator<Item = String> + Clone {
    let filler = "lorem ipsum ".repeat(80);
    (0..parts).map(move |part| {
        (0..100).fold(String::new(), |text, row| {
            text + &format!("{{\"id\":{},\"filler\":\"{filler}\"}}\n", part * 100 + row)
        })
    })
}

/// Eighty megabytes through a slave, or as many as the environment says.
pub async fn large_import(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    let megabytes = megabytes();
    run(
        master,
        "CREATE TABLE store.large (id INT PRIMARY KEY, filler TEXT)",
    )
    .await;
    for node in [master, slave] {
        node.forget_agent_peak();
    }
    let before = [master.agent_rss(), slave.agent_rss()];
    let bearer = format!("Bearer {WRITER}");
    let mut with_key = headers(&bearer, NDJSON);
    with_key.push(("Idempotency-Key", "large"));
    let begun = now();
    let watching = async {
        let (mut seen, mut last) = (0, 0);
        loop {
            sleep(Duration::from_millis(200)).await;
            let answer = ask_writer(slave, "/v1/import/large").await;
            if answer.status == 404 {
                continue;
            }
            let import = answer.must(200);
            let rows = import["rows"].as_u64().unwrap();
            assert!(rows >= last, "{import}");
            seen += u64::from(rows > last);
            last = rows;
            if import["state"] != "running" {
                return seen;
            }
        }
    };
    let uploading = slave.upload("/v1/import/store/large", &with_key, large(megabytes * 10));
    let (answer, seen) = tokio::join!(uploading, watching);
    let import = answer.unwrap().must(200);
    assert_eq!(import["rows"], megabytes * 1000);
    assert!(seen > 2, "the progress was seen {seen} times");
    let grown = [master.agent_peak() - before[0], slave.agent_peak() - before[1]];
    println!(
        "{megabytes} MB imported through a slave in {} ms, its progress seen {seen} times; the agents grew by {grown:?} KiB",
        begun.elapsed().as_millis()
    );
    assert!(grown.iter().all(|grown| *grown < 64 << 10), "{grown:?}");
    // A gigabyte is counted for longer than a statement of the API may take.
    let counted = raw_sql("SELECT COUNT(*) FROM store.large")
        .fetch_one(&mut master.root().await)
        .await
        .unwrap();
    let counted: i64 = sqlx::Row::get(&counted, 0);
    assert_eq!(counted, i64::from(megabytes) * 1000);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a gigabyte takes longer than a test should"
)]
fn megabytes() -> u32 {
    std::env::var("DDB_TEST_IMPORT_MEGABYTES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(80)
}

/// The master dies in the middle of an import: the new one says what is in the table, and the same body goes on.
pub async fn import_and_change_of_master(cluster: &mut Cluster) {
    run(&cluster.nodes[0], "TRUNCATE store.large").await;
    let bearer = format!("Bearer {WRITER}");
    let mut with_key = headers(&bearer, NDJSON);
    with_key.push(("Idempotency-Key", "cut"));
    let nodes = &cluster.nodes;
    let (path, parts) = ("/v1/import/store/large", 400);
    let operators = &mut cluster.operators;
    let failing = async {
        let begun = now();
        loop {
            let answer = ask_writer(&nodes[0], "/v1/import/cut").await;
            if answer.status == 200 && answer.json()["rows"].as_u64().unwrap() > 5000 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{answer:?}");
            sleep(Duration::from_millis(20)).await;
        }
        takeover::fail_over(operators, nodes).await
    };
    let (answer, best) = tokio::join!(nodes[0].upload(path, &with_key, large(parts)), failing);
    let problem = answer.unwrap().must(503);
    assert_eq!(problem["outcome"], "unknown", "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("Idempotency-Key: cut"),
        "{problem}"
    );
    let import = ask_writer(&nodes[best], "/v1/import/cut").await.must(200);
    assert_eq!(import["state"], "interrupted", "{import}");
    let settled = import["rows"].as_u64().unwrap();
    assert_eq!(
        (count(&nodes[best], "large").await, &import["line"]),
        (settled, &json!(settled))
    );
    let answer = nodes[3 - best]
        .upload(path, &with_key, large(parts))
        .await
        .unwrap();
    let import = answer.must(200);
    assert_eq!(
        (&import["rows"], &import["state"]),
        (&json!(40_000), &json!("complete"))
    );
    assert_eq!(count(&nodes[best], "large").await, 40_000);
    println!("the master died after {settled} rows of an import; the same body went on to 40000, each once");
}

/// A value in every column of texts and numbers, with the columns that hold it, and a mark where there may be more.
pub async fn search(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        "CREATE DATABASE depot; CREATE TABLE depot.parts (id INT PRIMARY KEY, name VARCHAR(20), note TEXT, weight \
         DECIMAL(8,2), made DATE, raw VARBINARY(20), kind ENUM('nut', '4711'), old VARCHAR(20) CHARACTER SET latin1);
        INSERT INTO depot.parts VALUES (1, 'needle 4711', 'in a haystack', 4711, '2024-01-01', 'needle', 'nut', ''),
            (2, 'hay', '100% NEEDLE_x', 1, NULL, NULL, '4711', 'x'), (4711, 'hay', 'stack', 0, NULL, NULL, NULL, NULL);
        CREATE TABLE depot.`te,xt` (a VARCHAR(20)); INSERT INTO depot.`te,xt` VALUES ('needle');
        CREATE DATABASE shop; CREATE TABLE shop.many (id INT PRIMARY KEY, name VARCHAR(20));
        INSERT INTO shop.many WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 50) \
         SELECT n, 'needle' FROM s",
    )
    .await;
    let find = async |query: &str| {
        let answer = get(slave, &format!("/v1/search?{query}"), &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        let mut lines = lines_of(&answer.text);
        let end = lines.pop().unwrap();
        assert_eq!(
            (&end["end"], &end["rows"]),
            (&json!(true), &json!(lines.len())),
            "{answer:?}"
        );
        (lines, end)
    };
    let (lines, end) = find("q=needle&databases=depot,shop").await;
    let of = |table: &str| lines.iter().filter(|line| line["table"] == table).count();
    assert_eq!((of("parts"), of("te,xt"), of("many")), (2, 1, 20));
    let row = &lines[0];
    assert_eq!(
        (&row["database"], &row["columns"]),
        (&json!("depot"), &json!(["name"])),
        "{row}"
    );
    assert_eq!(row["row"]["weight"], "4711.00");
    assert_eq!(
        row["row"].as_object().unwrap().len(),
        8,
        "only the table's own columns: {row}"
    );
    assert_eq!(lines[1]["columns"], json!(["note"]), "letters of any case");
    let cut = json!([{"database":"shop","table":"many","why":"rows"}]);
    assert_eq!(
        (&end["complete"], &end["cut"], &end["tables"]),
        (&json!(false), &cut, &json!(3))
    );
    let (lines, end) = find("q=4711&databases=depot&tables=parts").await;
    let columns: Vec<&Value> = lines.iter().map(|line| &line["columns"]).collect();
    assert_eq!(
        columns,
        [&json!(["name", "weight"]), &json!(["kind"]), &json!(["id"])]
    );
    assert_eq!((&end["complete"], &end["cut"]), (&json!(true), &json!([])));
    assert_eq!(find("q=needle&columns=note").await.0.len(), 1);
    assert_eq!(
        find("q=100%25&databases=depot").await.0.len(),
        1,
        "signs of a pattern are letters"
    );
    assert_eq!(
        find("q=%F0%9F%90%98&databases=depot").await.1["complete"],
        true,
        "another character set"
    );
    let (lines, end) = find("q=needle&databases=depot,shop&limit=2").await;
    assert_eq!(
        (lines.len(), &end["complete"], &end["unreached"]),
        (2, &json!(false), &json!(2)),
        "{end}"
    );
    let limited = format!("Bearer {LIMITED}");
    let everywhere = [("Authorization", limited.as_str()), ("Consistency", "leader")];
    let answer = slave
        .request("GET", "/v1/search?q=needle", &everywhere, "")
        .await
        .unwrap();
    let lines = lines_of(&answer.text);
    assert!(
        lines[..20].iter().all(|line| line["database"] == "shop"),
        "{answer:?}"
    );
    assert_eq!(lines.len(), 21);
    let other = slave
        .request("GET", "/v1/search?q=needle&databases=depot", &everywhere, "")
        .await
        .unwrap();
    other.must(403);
    get(slave, "/v1/search?q=x&databases=mysql", &[]).await.must(403);
    for query in [
        "",
        "q=",
        "q=x&seconds=0",
        "q=x&limit=100000",
        "q=x&colour=red",
        "q=x&tables=a,,b",
    ] {
        get(slave, &format!("/v1/search?{query}"), &[]).await.must(400);
    }
    // A table that cannot be read in time is named, and the others are searched.
    let mut holder = master.root().await;
    raw_sql("LOCK TABLES depot.parts WRITE")
        .execute(&mut holder)
        .await
        .unwrap();
    let begun = now();
    let answer = get(master, "/v1/search?q=needle&databases=depot&seconds=2", &[]).await;
    let lines = lines_of(&answer.text);
    assert_eq!(
        (lines.len(), &lines[0]["table"]),
        (2, &json!("te,xt")),
        "{answer:?}"
    );
    assert_eq!(
        lines[1]["cut"],
        json!([{"database":"depot","table":"parts","why":"time"}])
    );
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    raw_sql("UNLOCK TABLES").execute(&mut holder).await.unwrap();
}

/// An import that cannot go on for a moment goes on afterwards, and other requests through the same node do not wait.
pub async fn held_up(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    run(
        master,
        "CREATE TABLE store.held (id INT PRIMARY KEY, filler TEXT); CREATE TABLE store.free LIKE store.held",
    )
    .await;
    let mut holder = master.root().await;
    raw_sql("LOCK TABLES store.held WRITE")
        .execute(&mut holder)
        .await
        .unwrap();
    let bearer = format!("Bearer {WRITER}");
    let all = headers(&bearer, NDJSON);
    let uploading = slave.upload("/v1/import/store/held", &all, large(100));
    let others = async {
        sleep(Duration::from_secs(1)).await;
        let begun = now();
        let line = format!("{{\"id\":1,\"filler\":\"{}\"}}\n", "x".repeat(60_000));
        let path = "/v1/databases/store/tables/free/rows?onConflict=ignore";
        for _ in 0..20 {
            post(slave, path, NDJSON, &line, &[]).await.must(201);
        }
        let took = begun.elapsed();
        // Longer than a statement may wait for the table.
        sleep(Duration::from_secs(6)).await;
        raw_sql("UNLOCK TABLES").execute(&mut holder).await.unwrap();
        took
    };
    let (answer, took) = tokio::join!(uploading, others);
    let import = answer.unwrap().must(200);
    assert_eq!(
        (&import["rows"], &import["refused"]),
        (&json!(10_000), &json!(0)),
        "{import}"
    );
    println!(
        "20 other requests beside an import that was held up: {} ms",
        took.as_millis()
    );
    assert!(took < Duration::from_secs(4), "{took:?}");
}
