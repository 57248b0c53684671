//! `/v1` on real servers: databases, tables, rows by key and by filter, pages, transactions.

use serde_json::{Value, json};
use sqlx::raw_sql;

use crate::support::{
    Node,
    cluster::Cluster,
    https::{ADMIN, Answer, READER, WRITER},
};

async fn get(node: &Node, path: &str) -> Answer {
    node.ask(READER, "GET", path, &Value::Null, &[]).await
}

async fn change(node: &Node, method: &str, path: &str, body: Value) -> Answer {
    node.ask(WRITER, method, path, &body, &[]).await
}

pub async fn databases_and_tables(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    change(node, "POST", "/v1/databases", json!({"name":"shelf"}))
        .await
        .must(201);
    let databases = get(node, "/v1/databases").await.must(200)["databases"].clone();
    assert!(
        databases.as_array().unwrap().contains(&json!("shelf")),
        "{databases}"
    );
    let authors = json!({"name":"authors","columns":[{"name":"name","type":"string"}]});
    change(node, "POST", "/v1/databases/shelf/tables", authors)
        .await
        .must(201);
    let books = json!({"name":"books","schema":"id INT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(80) NOT NULL, \
        pages INT, author BIGINT UNSIGNED, UNIQUE KEY (title), FOREIGN KEY (author) REFERENCES authors (Id)"});
    change(node, "POST", "/v1/databases/shelf/tables", books)
        .await
        .must(201);
    let pairs = json!({"name":"pairs","schema":"a INT, b VARCHAR(10), v INT, PRIMARY KEY (a, b)"});
    change(node, "POST", "/v1/databases/shelf/tables", pairs)
        .await
        .must(201);
    let tables = get(node, "/v1/databases/shelf/tables").await.must(200);
    assert_eq!(tables["tables"], json!(["authors", "books", "pairs"]));
    let facts = get(node, "/v1/databases/shelf/tables/books").await.must(200);
    assert_eq!(facts["key"], json!(["id"]));
    assert_eq!(facts["columns"][1]["name"], "title");
    assert_eq!(facts["foreignKeys"][0]["table"], "authors", "{facts}");
    assert!(
        facts["indexes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|index| index["unique"] == true && index["columns"] == json!(["title"])),
        "{facts}"
    );
    get(node, "/v1/databases/shelf/tables/none").await.must(404);
    get(node, "/v1/databases/none/tables").await.must(404);
    get(node, "/v1/databases/mysql/tables").await.must(403);
    node.ask(ADMIN, "DELETE", "/v1/databases/shelf", &Value::Null, &[])
        .await
        .must(400);
    change(node, "DELETE", "/v1/databases/shelf?confirm=shelf", Value::Null)
        .await
        .must(403);
}

pub async fn rows(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    let path = "/v1/databases/shelf/tables/books/rows";
    let dune = json!({"title":"Dune","pages":412});
    assert_eq!(
        change(node, "POST", path, dune.clone()).await.must(201),
        json!({"rows":1,"id":1})
    );
    let twice = change(node, "POST", path, dune.clone()).await.must(409);
    assert_eq!(
        (&twice["code"], &twice["outcome"]),
        (&json!(1062), &json!("not-applied"))
    );
    change(node, "POST", &format!("{path}?onConflict=ignore"), dune)
        .await
        .must(201);
    change(
        node,
        "POST",
        &format!("{path}?onConflict=merge"),
        json!({"title":"Dune","pages":500}),
    )
    .await
    .must(201);
    let row = get(node, &format!("{path}/1")).await;
    assert_eq!(
        row.must(200),
        json!({"id":1,"title":"Dune","pages":500,"author":null})
    );
    let tag = row.header("etag").unwrap().to_owned();
    let one = format!("{path}/1");
    let with = async |tag: &str, pages: u32| {
        let headers = [("If-Match", tag)];
        node.ask(WRITER, "PATCH", &one, &json!({"pages": pages}), &headers)
            .await
    };
    assert_eq!(with(&tag, 501).await.must(200)["rows"], 1);
    assert_eq!(with(&tag, 502).await.must(412)["outcome"], "not-applied");
    assert_eq!(get(node, &one).await.must(200)["pages"], 501);
    change(node, "PATCH", &format!("{path}/99"), json!({"pages":1}))
        .await
        .must(404);
    // A PUT says the whole row: what it does not name gets its default.
    change(node, "PUT", &one, json!({"title":"Dune II"}))
        .await
        .must(200);
    assert_eq!(
        get(node, &one).await.must(200),
        json!({"id":1,"title":"Dune II","pages":null,"author":null})
    );
    change(node, "PUT", &one, json!({"id":2,"title":"x"}))
        .await
        .must(400);
    change(
        node,
        "PUT",
        &format!("{path}/7"),
        json!({"title":"New","pages":7}),
    )
    .await
    .must(200);
    change(node, "DELETE", &format!("{path}/7"), Value::Null)
        .await
        .must(200);
    change(node, "DELETE", &format!("{path}/7"), Value::Null)
        .await
        .must(404);
    let pairs = "/v1/databases/shelf/tables/pairs/rows";
    change(
        node,
        "POST",
        pairs,
        json!([{"a":1,"b":"x","v":1},{"a":1,"b":"y","v":2}]),
    )
    .await
    .must(201);
    change(node, "PATCH", &format!("{pairs}/1,y"), json!({"v":3}))
        .await
        .must(200);
    assert_eq!(get(node, &format!("{pairs}/1,y")).await.must(200)["v"], 3);
    get(node, &format!("{pairs}/1")).await.must(400);
    // More than a framework's usual two megabytes, through a slave.
    let long = json!({"dbname":"shelf","table":"blobs","data":{"body":"x".repeat(5 << 20)}});
    let schema = json!({"name":"blobs","schema":"body LONGTEXT"});
    change(node, "POST", "/v1/databases/shelf/tables", schema)
        .await
        .must(201);
    change(node, "POST", "/insert", long).await.must(200);
}

pub async fn pages(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    let path = "/v1/databases/shelf/tables/pairs/rows";
    let many: Vec<Value> = (0..250)
        .map(|n| json!({"a": 100 + n / 10, "b": format!("k{}", n % 10), "v": n}))
        .collect();
    change(node, "POST", path, json!(many)).await.must(201);
    let by_value = |row: &Value| row["v"].as_i64().unwrap();
    for order in ["", "&order=b.desc", "&order=v.desc,a"] {
        let mut seen = all_pages(node, &format!("{path}?a=gte.100&limit=40{order}"), by_value).await;
        if order.contains('v') {
            assert!(seen.is_sorted_by(|one, other| one >= other), "{seen:?}");
        }
        seen.sort_unstable();
        assert_eq!(
            seen,
            (0..250).collect::<Vec<i64>>(),
            "order {order}: each row once"
        );
    }
    pages_of_odd_tables(node).await;
    let count = async |filter: &str| {
        let page = get(node, &format!("{path}?count=exact&limit=1&{filter}")).await;
        page.must(200)["count"].as_u64().unwrap()
    };
    assert_eq!(count("v=lt.10&a=gte.100").await, 10);
    assert_eq!(count("a=in.(100,101)").await, 20);
    assert_eq!(count("b=like.k%25&v=between.5,14").await, 10);
    assert_eq!(count("or=(v.eq.5,v.eq.6,b.eq.x)").await, 3);
    assert_eq!(count("v=null.true").await, 0);
    get(node, &format!("{path}?colour=eq.red")).await.must(400);
    get(node, &format!("{path}?v=eq.1%27%20OR%201=1")).await.must(200);
    change(node, "DELETE", path, Value::Null).await.must(400);
    let too_many = change(
        node,
        "DELETE",
        &format!("{path}?a=gte.100&maxAffected=100"),
        Value::Null,
    )
    .await;
    assert_eq!(too_many.must(409)["outcome"], "not-applied");
    assert_eq!(count("a=gte.100").await, 250);
    let changed = change(node, "PATCH", &format!("{path}?a=eq.100"), json!({"v":-1})).await;
    assert_eq!(changed.must(200)["rows"], 10);
    assert_eq!(
        change(node, "DELETE", &format!("{path}?a=gte.100"), Value::Null)
            .await
            .must(200)["rows"],
        250
    );
}

/// A table as `SHOW CREATE TABLE` tells of it can be made again elsewhere.
pub async fn definitions(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    let path = "/v1/databases/shelf/tables";
    let statement = "CREATE TABLE defined (\n  a INT NOT NULL,\n  b VARCHAR(9) COLLATE utf8mb4_bin DEFAULT 'x''?',\n  \
        PRIMARY KEY (a),\n  UNIQUE KEY by_b (b, a DESC)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='it''s'";
    let made = change(node, "POST", path, json!({"statement":statement})).await;
    assert_eq!(made.must(201)["table"], "defined");
    let mut root = cluster.nodes[0].root().await;
    let mut shown = async |database: &str| -> String {
        let sql = format!("SHOW CREATE TABLE {database}.defined");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut root)
            .await
            .unwrap();
        sqlx::Row::get(&row, 1)
    };
    let first = shown("shelf").await;
    assert!(first.contains("`by_b` (`b`,`a` DESC)"), "{first}");
    change(node, "POST", "/v1/databases", json!({"name":"again"}))
        .await
        .must(201);
    let again = "/v1/databases/again/tables";
    change(node, "POST", again, json!({"statement":first}))
        .await
        .must(201);
    assert_eq!(shown("again").await, first);
    let elsewhere = json!({"statement":"CREATE TABLE shelf.other (a INT)"});
    change(node, "POST", again, elsewhere).await.must(400);
    let both = json!({"name":"other","statement":"CREATE TABLE defined (a INT)"});
    change(node, "POST", again, both).await.must(400);
    change(node, "POST", again, json!({"schema":"a INT"}))
        .await
        .must(400);
}

/// A page as lines and as CSV, with its end and the way to the next one.
async fn pages_as_lines(node: &Node) {
    let path = "/v1/databases/shelf/tables/odd/rows?select=id,size&count=exact";
    let page = async |accept: &str, query: &str| {
        let headers = [("Accept", accept)];
        node.ask(READER, "GET", &format!("{path}{query}"), &Value::Null, &headers)
            .await
    };
    let first = page("application/x-ndjson", "&limit=2&order=id").await;
    assert_eq!(first.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(first.header("row-count"), Some("30"));
    assert_eq!(
        lines_of(&first.text),
        [
            json!({"id":0,"size":"small"}),
            json!({"id":1,"size":"large"}),
            json!({"end":true,"rows":2})
        ]
    );
    let link = first.header("link").unwrap();
    let next = link
        .strip_prefix("<?")
        .unwrap()
        .strip_suffix(">; rel=\"next\"")
        .unwrap();
    let second = node
        .ask(
            READER,
            "GET",
            &format!("/v1/databases/shelf/tables/odd/rows?{next}"),
            &Value::Null,
            &[("Accept", "text/csv")],
        )
        .await;
    assert_eq!(second.text, "id,size\n2,huge\n3,small\n\\end rows=2,\n");
    let last = page("text/csv", "&id=gte.29").await;
    assert_eq!(last.text, "id,size\n29,huge\n\\end rows=1,\n");
    assert_eq!(last.header("link"), None);
}

/// What is seen in all rows of a list, page by page.
async fn all_pages<T>(node: &Node, path: &str, see: impl Fn(&Value) -> T) -> Vec<T> {
    let (mut seen, mut after) = (Vec::new(), String::new());
    for _ in 0..100 {
        let page = get(node, &format!("{path}{after}")).await.must(200);
        seen.extend(page["rows"].as_array().unwrap().iter().map(&see));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return seen,
        }
    }
    panic!("{path}: it never ends");
}

/// Rows without a key, equal rows, NULL in the order, and types whose order is another one than that of their values.
async fn pages_of_odd_tables(node: &Node) {
    let keyless = json!({"name":"keyless","schema":"v INT, w VARCHAR(9)"});
    let odd = json!({"name":"odd","schema":"id INT PRIMARY KEY, v INT, size ENUM('small', 'large', 'huge'), f FLOAT"});
    for table in [keyless, odd] {
        let made = change(node, "POST", "/v1/databases/shelf/tables", table).await;
        made.must(201);
    }
    let path = "/v1/databases/shelf/tables/keyless/rows";
    let rows: Vec<Value> = (0..30)
        .map(|n| json!({"v": if n % 3 == 0 { Value::Null } else { json!(n % 5) }, "w": "same"}))
        .collect();
    change(node, "POST", path, json!(rows)).await.must(201);
    for order in ["", "&order=v.desc", "&order=v,w.desc"] {
        let seen = all_pages(node, &format!("{path}?limit=7{order}"), |row| row["v"].as_i64()).await;
        assert_eq!(seen.len(), 30, "order {order}");
        assert_eq!(seen.iter().flatten().sum::<i64>(), 40, "order {order}: {seen:?}");
    }
    let path = "/v1/databases/shelf/tables/odd/rows";
    let sizes = ["small", "large", "huge"];
    let rows: Vec<Value> = (0..30)
        .map(|n| {
            let v = if n % 4 == 0 { Value::Null } else { json!(n % 3) };
            json!({"id": n, "v": v, "size": sizes[n % 3], "f": f64::from(u8::try_from(n % 7).unwrap()) / 10.0})
        })
        .collect();
    change(node, "POST", path, json!(rows)).await.must(201);
    for order in [
        "v",
        "v.desc",
        "v.desc,id.desc",
        "size",
        "size.desc,v",
        "f",
        "f.desc",
    ] {
        let mut seen = all_pages(node, &format!("{path}?limit=4&order={order}"), |row| {
            row["id"].as_i64().unwrap()
        })
        .await;
        seen.sort_unstable();
        assert_eq!(
            seen,
            (0..30).collect::<Vec<i64>>(),
            "order {order}: each row once"
        );
    }
    let seen = all_pages(node, &format!("{path}?limit=4&order=v.desc"), |row| {
        row["v"].as_i64()
    })
    .await;
    assert!(
        seen.is_sorted_by(|one, other| one >= other),
        "NULL comes last: {seen:?}"
    );
    let page = get(node, &format!("{path}?limit=4&order=v")).await.must(200);
    let next = page["next"].as_str().unwrap();
    get(node, &format!("{path}?limit=4&order=size&after={next}"))
        .await
        .must(400);
    let again = get(
        node,
        &format!("{path}?limit=4&order=v,v.desc,v,id,id&after={next}"),
    )
    .await
    .must(200);
    assert_eq!(
        again["rows"].as_array().unwrap().len(),
        4,
        "a second mention orders nothing"
    );
    pages_as_lines(node).await;
    get(node, &format!("{path}?limit=4&order=v.desc,id,f&after={next}"))
        .await
        .must(400);
}

fn lines_of(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Sixty megabytes through a slave, whole and with a proof of it; the agent keeps no more than a few parts.
pub async fn exports(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    let table = json!({"name":"large","schema":"id INT PRIMARY KEY, body LONGTEXT, raw VARBINARY(9)"});
    let made = change(node, "POST", "/v1/databases/shelf/tables", table).await;
    made.must(201);
    raw_sql(
        "INSERT INTO shelf.large WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 600) \
         SELECT n, REPEAT(CHAR(97 + n % 26), 100000), X'0001' FROM s",
    )
    .execute(&mut cluster.nodes[0].root().await)
    .await
    .unwrap();
    let synced = node.fetch(READER, "/sync").await.must(200);
    assert_eq!(synced["inSync"], true);
    node.forget_agent_peak();
    let before = node.agent_rss();
    let answer = node.fetch(READER, "/v1/export/shelf/large").await;
    let grown = node.agent_peak().saturating_sub(before);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(answer.header("served-by"), Some("b"));
    let lines = lines_of(&answer.text);
    assert_eq!(lines.len(), 601);
    assert_eq!(lines[600], json!({"end":true,"rows":600}));
    for (at, line) in lines[..600].iter().enumerate() {
        assert_eq!((&line["id"], &line["raw"]), (&json!(at + 1), &json!("AAE=")));
        assert_eq!(line["body"].as_str().map(str::len), Some(100_000));
    }
    println!("60 MB exported; the agent grew by {grown} KiB");
    assert!(grown < 24 << 10, "the agent grew by {grown} KiB");
    node.fetch(READER, "/v1/export/shelf/none").await.must(404);
    node.fetch(ADMIN, "/v1/export/mysql/user").await.must(403);
    let empty = json!({"name":"empty","schema":"a INT"});
    change(node, "POST", "/v1/databases/shelf/tables", empty)
        .await
        .must(201);
    let nothing = node
        .ask(READER, "GET", "/v1/export/shelf/empty", &Value::Null, &[])
        .await;
    assert_eq!(lines_of(&nothing.text), [json!({"end":true,"rows":0})]);
}

pub async fn transactions(cluster: &Cluster) {
    let node = &cluster.nodes[2];
    let run = async |steps: Value| {
        change(
            node,
            "POST",
            "/v1/transactions",
            json!({"database":"shelf","steps":steps}),
        )
        .await
    };
    let done = run(json!([
        {"do":"insert","table":"authors","data":{"name":"Le Guin"},"as":"author"},
        {"do":"insert","table":"books","data":{"title":"The Dispossessed","author":{"$from":"author.id"}}},
        {"do":"update","table":"books","data":{"pages":341},"condition":{"title":"The Dispossessed"},"expect":{"affected":1}},
    ]))
    .await
    .must(200);
    let author = done["steps"][0]["id"].clone();
    let found = get(
        node,
        "/v1/databases/shelf/tables/books/rows?title=eq.The%20Dispossessed",
    )
    .await
    .must(200);
    assert_eq!(
        (&found["rows"][0]["author"], &found["rows"][0]["pages"]),
        (&author, &json!(341))
    );
    // The last step fails, and nothing of the others stays.
    run(json!([
        {"do":"insert","table":"authors","data":{"name":"Nobody"}},
        {"do":"delete","table":"books","condition":{"title":"none"},"expect":{"affected":1}},
    ]))
    .await
    .must(409);
    run(json!([
        {"do":"insert","table":"authors","data":{"name":"Nobody"}},
        {"do":"insert","table":"books","data":{"title":"x","author":4711}},
    ]))
    .await
    .must(409);
    let nobody = get(node, "/v1/databases/shelf/tables/authors/rows?name=eq.Nobody")
        .await
        .must(200);
    assert_eq!(nobody["rows"], json!([]));
    run(json!([])).await.must(400);
    run(json!([{"do":"delete","table":"books"}])).await.must(400);
    let cluster_facts = get(node, "/v1/cluster").await.must(200);
    assert!(cluster_facts["term"].as_u64().is_some(), "{cluster_facts}");
    get(node, "/v1/audit").await.must(403);
    let records = node
        .ask(ADMIN, "GET", "/v1/audit?limit=5", &Value::Null, &[])
        .await
        .must(200);
    assert!(records["records"].is_array() || records.is_array(), "{records}");
    node.ask(
        ADMIN,
        "DELETE",
        "/v1/databases/shelf?confirm=shelf",
        &Value::Null,
        &[],
    )
    .await
    .must(200);
}

/// `return=representation`: the rows of a change as they are after it.
pub async fn representations(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    let shown = "CREATE TABLE shelf.shown (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20) UNIQUE, \
        n INT NOT NULL DEFAULT 7, twice INT GENERATED ALWAYS AS (n * 2) STORED)";
    let mut app = cluster.nodes[0].app().await.unwrap();
    raw_sql(shown).execute(&mut app).await.unwrap();
    let path = "/v1/databases/shelf/tables/shown/rows";
    let with = format!("{path}?return=representation");
    let two = json!([{"a":"x"},{"a":"y","n":1}]);
    assert_eq!(
        change(node, "POST", &with, two.clone()).await.must(201),
        json!({"rows":2,"representation":[{"id":1,"a":"x","n":7,"twice":14},{"id":2,"a":"y","n":1,"twice":2}]})
    );
    // All or none, here too.
    change(node, "POST", &with, json!([{"a":"z"},{"a":"x"}]))
        .await
        .must(409);
    assert_eq!(
        get(node, path).await.must(200)["rows"].as_array().unwrap().len(),
        2
    );
    change(
        node,
        "POST",
        &format!("{with}&onConflict=merge"),
        json!({"a":"x","n":3}),
    )
    .await
    .must(400);
    let merged = json!({"id":1,"a":"x","n":3});
    let merged = change(node, "POST", &format!("{with}&onConflict=merge"), merged)
        .await
        .must(201);
    assert_eq!(
        merged["representation"],
        json!([{"id":1,"a":"x","n":3,"twice":6}])
    );
    let one = format!("{path}/2?return=representation");
    let changed = change(node, "PATCH", &one, json!({"n":5})).await;
    assert_eq!(
        changed.must(200),
        json!({"rows":1,"representation":[{"id":2,"a":"y","n":5,"twice":10}]})
    );
    let row = get(node, &format!("{path}/2")).await;
    assert_eq!(changed.header("etag"), row.header("etag"));
    change(node, "PATCH", &one, json!({"id":9})).await.must(400);
    change(
        node,
        "PATCH",
        &format!("{path}/99?return=representation"),
        json!({"n":5}),
    )
    .await
    .must(404);
    let put = change(node, "PUT", &one, json!({"a":"w"})).await.must(200);
    assert_eq!(put["representation"], json!([{"id":2,"a":"w","n":7,"twice":14}]));
    // The filter reaches none of them any more, and they are shown all the same.
    let many = format!("{with}&n=gte.3");
    assert_eq!(
        change(node, "PATCH", &many, json!({"n":0})).await.must(200),
        json!({"rows":2,"representation":[{"id":1,"a":"x","n":0,"twice":0},{"id":2,"a":"w","n":0,"twice":0}]})
    );
    let nothing = change(node, "PATCH", &many, json!({"n":0})).await.must(200);
    assert_eq!(nothing, json!({"rows":0,"representation":[]}));
    change(
        node,
        "PATCH",
        &format!("{path}?return=all&n=gte.3"),
        json!({"n":0}),
    )
    .await
    .must(400);
    let keyed = [("Idempotency-Key", "shown")];
    for _ in 0..2 {
        let again = node
            .ask(WRITER, "POST", &with, &json!({"a":"once"}), &keyed)
            .await
            .must(201);
        assert_eq!(again["representation"][0]["a"], "once");
    }
    println!("changes show their rows");
}
