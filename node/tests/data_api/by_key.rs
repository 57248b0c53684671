//! Rows by their keys: a `PUT` reaches the row that the path names and no other, and every key finds its row as it is
//! shown.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    changes::run,
    support::{
        Node,
        cluster::Cluster,
        https::{Answer, WRITER},
    },
};

const USERS: &str = "/v1/databases/exact/tables/users/rows";

async fn get(node: &Node, path: &str) -> Answer {
    node.ask(WRITER, "GET", path, &Value::Null, &[]).await
}

async fn put(node: &Node, path: &str, body: Value) -> Answer {
    node.ask(WRITER, "PUT", path, &body, &[]).await
}

async fn rows(node: &Node, path: &str) -> Vec<Value> {
    let page = get(node, path).await.must(200);
    page["rows"].as_array().unwrap().clone()
}

/// Text as a part of a URL.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| {
        if byte.is_ascii_alphanumeric() {
            text + &char::from(byte).to_string()
        } else {
            format!("{text}%{byte:02X}")
        }
    })
}

pub async fn puts(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    run(
        &cluster.nodes[0],
        "CREATE DATABASE exact; CREATE TABLE exact.users (id INT AUTO_INCREMENT PRIMARY KEY, \
         email VARCHAR(50) UNIQUE, title VARCHAR(20) DEFAULT 'none', n INT, twice INT AS (n * 2) STORED, \
         hidden INT DEFAULT 3 INVISIBLE); INSERT INTO exact.users (id, email) VALUES (7, 'a@b')",
    )
    .await;
    let one = |id: u32| format!("{USERS}/{id}");
    let before = rows(node, USERS).await;
    for query in ["", "?return=representation"] {
        let path = format!("{}{query}", one(5));
        let taken = put(node, &path, json!({"email":"a@b","title":"new"}))
            .await
            .must(409);
        assert_eq!(
            (&taken["code"], &taken["outcome"]),
            (&json!(1062), &json!("not-applied"))
        );
        assert_eq!(rows(node, USERS).await, before, "that email is another row's");
    }
    let put_8 = async |body: Value| put(node, &one(8), body).await;
    assert_eq!(put_8(json!({"email":"c@d","n":1})).await.must(200)["rows"], 1);
    put_8(json!({"email":"a@b"})).await.must(409);
    // Other case is the same name, as for every change.
    let cased = json!({"EMAIL":"c@d","Title":"Cid","N":2,"ID":8});
    assert_eq!(put_8(cased).await.must(200)["rows"], 2);
    let cid = json!({"id":8,"email":"c@d","title":"Cid","n":2,"twice":4});
    let read = get(node, &one(8)).await;
    assert_eq!(read.must(200), cid);
    for (body, part) in [
        (json!({"titel":"x"}), "titel"),
        (json!({"title":"x","Title":"y"}), "twice"),
        (json!({"ID":9,"title":"x"}), "different keys"),
        (json!({"id":null,"title":"x"}), "different keys"),
    ] {
        let refused = put_8(body).await;
        refused.must(400);
        assert!(refused.text.contains(part), "{refused:?}");
        assert_eq!(get(node, &one(8)).await.must(200), cid);
    }
    // A row as it was read can be put back; what MySQL computes is passed over, and what is not shown gets its default.
    run(
        &cluster.nodes[0],
        "UPDATE exact.users SET hidden = 9 WHERE id = 8",
    )
    .await;
    let mut changed = cid.clone();
    changed["title"] = json!("Cyd");
    let tag = [("If-Match", read.header("etag").unwrap())];
    let with_tag = async |id: u32| node.ask(WRITER, "PUT", &one(id), &changed, &tag).await;
    assert_eq!(with_tag(8).await.must(200)["rows"], 2);
    assert_eq!(get(node, &one(8)).await.must(200), changed);
    let listed = rows(node, &format!("{USERS}?id=eq.8")).await;
    assert_eq!(listed[0]["hidden"], 3, "{listed:?}");
    assert_eq!(with_tag(8).await.must(412)["outcome"], "not-applied");
    changed["id"] = json!(9);
    let any = [("If-Match", "*")];
    node.ask(WRITER, "PUT", &one(9), &changed, &any).await.must(412);
    assert_eq!(rows(node, USERS).await.len(), 2);
    // An INSERT of 0 would count on and hit the row by its email, with another key.
    run(
        &cluster.nodes[0],
        "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; INSERT INTO exact.users (id, email) VALUES (0, 'z@z')",
    )
    .await;
    put(node, &one(0), json!({"email":"z@z","title":"zero"}))
        .await
        .must(200);
    assert_eq!(get(node, &one(0)).await.must(200)["title"], "zero");
}

/// What MySQL makes for a row that is there.
pub async fn defaults(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    run(
        &cluster.nodes[0],
        "CREATE TABLE exact.seats (k VARCHAR(9) PRIMARY KEY, n BIGINT AUTO_INCREMENT, made CHAR(36) NOT NULL \
         DEFAULT (UUID()), at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, title VARCHAR(9) NOT NULL, UNIQUE KEY (n))",
    )
    .await;
    let path = "/v1/databases/exact/tables/seats/rows";
    let [a, b, c] = ["a", "b", "c"].map(|key| format!("{path}/{key}"));
    for seat in [&a, &b] {
        put(node, seat, json!({"title":"x"})).await.must(200);
    }
    let first = get(node, &a).await.must(200);
    for seat in [&a, &b] {
        assert_eq!(put(node, seat, json!({"title":"y"})).await.must(200)["rows"], 2);
    }
    let second = get(node, &a).await.must(200);
    assert_eq!((&second["n"], &second["title"]), (&first["n"], &json!("y")));
    assert_ne!(second["made"], first["made"]);
    for seat in [&a, &c] {
        assert_eq!(put(node, seat, json!({})).await.must(422)["code"], 1364);
    }
    assert_eq!(get(node, &a).await.must(200), second);
}

/// Clients that put new rows beside each other do not stand in each other's way; where they put the same one, some may
/// have to try again.
pub async fn at_once(cluster: &Cluster) {
    let many = (0..30).map(|at| async move {
        let path = format!("{USERS}/{}", 100 + at);
        put(&cluster.nodes[at % 3], &path, json!({"n":at}))
            .await
            .must(200)
    });
    assert!(join_all(many).await.iter().all(|done| done["rows"] == 1));
    let same = (0..12)
        .map(|at| async move { put(&cluster.nodes[at % 3], &format!("{USERS}/200"), json!({"n":at})).await });
    let answers = join_all(same).await;
    for answer in &answers {
        let again = answer.status == 409 && answer.json()["retryable"] == true;
        assert!(answer.status == 200 || again, "{answer:?}");
    }
    let inserted = answers
        .iter()
        .filter(|answer| answer.status == 200 && answer.json()["rows"] == 1);
    assert_eq!(inserted.count(), 1, "{answers:?}");
    get(&cluster.nodes[0], &format!("{USERS}/200")).await.must(200);
}

/// Keys, filters and cursors of binary columns are base64, as rows are shown.
pub async fn binary(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    run(
        &cluster.nodes[0],
        "CREATE TABLE exact.codes (id BINARY(16) PRIMARY KEY, name VARCHAR(20), raw VARBINARY(9)); \
         CREATE TABLE exact.parts (a INT, b VARBINARY(9), n INT, PRIMARY KEY (a, b)); \
         INSERT INTO exact.codes VALUES (CONCAT(REPEAT(X'FBFFBF', 5), X'01'), 'odd', X'00FF'), \
         (REPEAT(X'00', 16), 'low', 'ab'), (REPEAT('abcdefgh', 2), 'text', X'FBFF'); \
         INSERT INTO exact.parts VALUES (1, X'FBFF', 1), (1, '+/8=', 2), (2, '', 3)",
    )
    .await;
    let path = "/v1/databases/exact/tables/codes/rows";
    let shown = "+/+/+/+/+/+/+/+/+/+/AQ==";
    let odd = rows(node, &format!("{path}?name=eq.odd")).await.remove(0);
    assert_eq!(odd, json!({"id":shown,"name":"odd","raw":"AP8="}));
    let one = format!("{path}/{}", escaped(shown));
    let answer = get(node, &one).await;
    assert_eq!(answer.must(200), odd);
    let tag = [("If-Match", answer.header("etag").unwrap())];
    let rename = async |name: &str| node.ask(WRITER, "PATCH", &one, &json!({"name":name}), &tag).await;
    assert_eq!(rename("new").await.must(200)["rows"], 1);
    rename("newer").await.must(412);
    let with_rows = format!("{one}?return=representation");
    let whole = put(node, &with_rows, json!({"id":shown,"name":"put"}))
        .await
        .must(200);
    let whole_row = json!({"id":shown,"name":"put","raw":null});
    assert_eq!(whole, json!({"rows":2,"representation":[whole_row]}));
    let other = "AAAAAAAAAAAAAAAAAAAAAQ==";
    put(node, &one, json!({"id":other,"name":"x"})).await.must(400);
    let inserted = put(node, &format!("{path}/{other}"), json!({"raw":"AAE="})).await;
    assert_eq!(inserted.must(200)["rows"], 1);
    let names = async |filter: &str| -> Vec<Value> {
        let found = rows(node, &format!("{path}?order=id&{filter}")).await;
        found.iter().map(|row| row["name"].clone()).collect()
    };
    let key = escaped(shown);
    assert_eq!(names(&format!("id=eq.{key}")).await, ["put"]);
    assert_eq!(
        names(&format!("or=(id.eq.{key},raw.eq.YWI=)")).await,
        ["low", "put"]
    );
    assert_eq!(names("raw=in.(YWI=,%2B/8=)").await, ["low", "text"]);
    assert_eq!(names("raw=between.YWE=,YWM=").await, ["low"]);
    assert_eq!(names("raw=gt.YWI=").await, ["text"]);
    assert_eq!(names("raw=like.a%25").await, ["low"], "a pattern is text");
    for wrong in [
        format!("{path}/abc"),
        format!("{path}?id=eq.abc"),
        format!("{path}?raw=in.(YWI=,x)"),
    ] {
        let refused = get(node, &wrong).await;
        refused.must(400);
        assert!(refused.text.contains("base64"), "{refused:?}");
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    for _ in 0..4 {
        let page = get(node, &format!("{path}?order=id&limit=1{after}"))
            .await
            .must(200);
        seen.push(page["rows"][0]["id"].clone());
        after = format!("&after={}", page["next"].as_str().unwrap_or_default());
    }
    let all = [
        "AAAAAAAAAAAAAAAAAAAAAA==",
        other,
        "YWJjZGVmZ2hhYmNkZWZnaA==",
        shown,
    ];
    assert_eq!(seen, all);
    let parts = "/v1/databases/exact/tables/parts/rows";
    assert_eq!(
        get(node, &format!("{parts}/1,%2B%2F8%3D")).await.must(200)["n"],
        1
    );
    assert_eq!(get(node, &format!("{parts}/1,Ky84PQ==")).await.must(200)["n"], 2);
    assert_eq!(get(node, &format!("{parts}/2,")).await.must(200)["n"], 3);
    let many = format!("{path}?id=eq.{key}&return=representation");
    let changed = node
        .ask(WRITER, "PATCH", &many, &json!({"name":"many"}), &[])
        .await;
    assert_eq!(changed.must(200)["representation"][0]["id"], shown);
    let remove = async || node.ask(WRITER, "DELETE", &one, &Value::Null, &[]).await;
    assert_eq!(remove().await.must(200)["rows"], 1);
    remove().await.must(404);
}

/// A key of any type finds its row as it is shown, and so does a filter.
pub async fn as_shown(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    for (at, (kind, value)) in [
        ("BIGINT UNSIGNED", json!(u64::MAX)),
        ("BIT(9)", json!(257)),
        ("YEAR", json!(2024)),
        ("DECIMAL(10, 2)", json!("1.50")),
        ("FLOAT", json!(0.1)),
        ("DOUBLE", json!(1e300)),
        ("DATE", json!("2024-02-29")),
        ("DATETIME(3)", json!("2024-02-29 12:00:00.500000")),
        ("TIMESTAMP(3)", json!("2024-02-29 12:00:00.500000")),
        ("TIME(1)", json!("-12:34:56.500000")),
        ("ENUM('a', 'b c')", json!("b c")),
        ("SET('x', 'y')", json!("x,y")),
        ("VARCHAR(9)", json!("a/b,+ %é")),
        ("BINARY(3)", json!("+/+/")),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("shown_{at}");
        run(
            &cluster.nodes[0],
            &format!("CREATE TABLE exact.{table} (id {kind} PRIMARY KEY, n INT)"),
        )
        .await;
        let path = format!("/v1/databases/exact/tables/{table}/rows");
        let send =
            async |method: &str, path: &str, body: Value| node.ask(WRITER, method, path, &body, &[]).await;
        send("POST", &path, json!({"id":value,"n":1})).await.must(201);
        let mut row = rows(node, &path).await.remove(0);
        assert_eq!(row["id"], value, "{kind}");
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let shown = escaped(&shown);
        let one = format!("{path}/{shown}");
        let read = get(node, &one).await;
        assert_eq!((read.status, &read.json()), (200, &row), "{kind}");
        row["n"] = json!(2);
        let whole = put(node, &one, row.clone()).await;
        assert_eq!((whole.status, &whole.json()["rows"]), (200, &json!(2)), "{kind}");
        assert_eq!(
            rows(node, &format!("{path}?id=eq.{shown}")).await,
            [row],
            "{kind}"
        );
        let changed = send("PATCH", &one, json!({"n":3})).await;
        assert_eq!(changed.status, 200, "{kind}: {changed:?}");
        let removed = send("DELETE", &one, Value::Null).await;
        assert_eq!(removed.status, 200, "{kind}: {removed:?}");
    }
    println!("rows are found by what they are shown with, and a PUT reaches no other");
}
