//! Rows on their way in, in one transaction.

use serde_json::{Value, json};

use super::{CSV, NDJSON, count, get, post, run};
use crate::support::{cluster::Cluster, https::WRITER, now};

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
