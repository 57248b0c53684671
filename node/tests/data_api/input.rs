//! What comes in: hostile fragments and names, every type of MySQL, whole statements, and too much of anything.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::raw_sql;
use tokio::time::sleep;

use crate::support::{
    Node,
    cluster::Cluster,
    https::{ADMIN, READER, WRITER},
    now,
};

/// Each is refused, or taken as what it says; the table is as before.
pub async fn hostile(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    node.fetch(
        WRITER,
        "/createtable?dbname=t&table=h&schema=name VARCHAR(200), age INT",
    )
    .await
    .must(200);
    let body = json!({"dbname":"t","table":"h","data":{"name":"kept","age":1}});
    node.send(WRITER, "/insert", &body).await.must(200);
    for fragment in [
        "1 = 1; DROP TABLE h",
        "1 = 1 -- x",
        "1 = 1 # x",
        "1 = 1 /* x */",
        "1 = 1 /*! OR 1 */",
        "Id IN (SELECT Id FROM h)",
        "EXISTS (SELECT 1)",
        "(SELECT 1) = 1",
        "Id = SLEEP(9)",
        "Id = BENCHMARK(1000000000, MD5('a'))",
        "Id = LOAD_FILE('/etc/passwd')",
        "Id = @@version",
        "Id = @x := 1",
        "Id = mysql.f(1)",
        "name = _binary'x' COLLATE utf8mb4_bin",
        "Id = 1 UNION SELECT 1",
        "Id = 1 INTO OUTFILE '/tmp/x'",
        "Id = 1 LIMIT 1",
        "Id = 1 ORDER BY Id",
        "'unfinished",
        "\"unfinished",
        "`unfinished",
        "Id = ?",
        "mysql.user.User = 'root'",
        "JSON_TABLE('[]', '$' COLUMNS (a INT PATH '$'))",
        "CAST((SELECT 1) AS CHAR) = 1",
        "Id = 1)",
        "",
        "Id = 0x1",
        "\0",
    ] {
        let body = json!({"dbname":"t","table":"h","where":fragment});
        let answer = node.send(WRITER, "/delete", &body).await;
        if fragment != "Id = 0x1" {
            assert_eq!(answer.status, 400, "{fragment}: {answer:?}");
        }
        let body = json!({"dbname":"t","table":"h","set":format!("age = ({fragment})"),"where":"Id = 1"});
        let answer = node.send(WRITER, "/update", &body).await;
        assert!(matches!(answer.status, 200 | 400 | 422), "{fragment}: {answer:?}");
        let deep =
            json!({"dbname":"t","table":"h","where":format!("{}1{}", "(".repeat(5000), ")".repeat(5000))});
        node.send(WRITER, "/delete", &deep).await.must(400);
    }
    hostile_texts(node).await;
}

async fn hostile_texts(node: &Node) {
    for text in [
        "'; DROP TABLE h; --",
        "\\",
        "\\'",
        "\"",
        "a\\\" OR 1=1 -- ",
        "%",
        "\u{0}",
    ] {
        let body = json!({"dbname":"t","table":"h","condition":{"name":text}});
        assert_eq!(
            node.send(WRITER, "/delete", &body).await.must(200)["rows"],
            0,
            "{text}"
        );
        let quoted = format!("name = '{}'", text.replace('\\', "\\\\").replace('\'', "''"));
        let body = json!({"dbname":"t","table":"h","where":quoted});
        let answer = node.send(WRITER, "/delete", &body).await;
        assert_eq!(answer.must(200)["rows"], 0, "{text}");
    }
    for name in [
        "h`; DROP TABLE t.h; --x",
        "h' OR '1'='1",
        "../h",
        "h\\",
        "é",
        "h;",
    ] {
        let body = json!({"dbname":"t","table":name,"data":{"name":"x"}});
        node.send(WRITER, "/insert", &body).await.must(404);
    }
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{\"dbname\":\"t\"}",
        "{\"dbname\":\"t\",\"table\":\"h\",\"valeus\":\"1\"}",
    ] {
        let headers = [("Authorization", &*format!("Bearer {WRITER}"))];
        let answer = node.request("POST", "/insert", &headers, body).await.unwrap();
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    let answer = node.fetch(READER, "/select?dbname=t&table=h&colour=red").await;
    assert!(answer.must(400)["detail"].as_str().unwrap().contains("colour"));
    let rows = node.fetch(READER, "/select?dbname=t&table=h").await.must(200);
    assert_eq!(rows["count"], 1, "{rows}");
    assert_eq!(rows["rows"][0]["name"], "kept");
}

/// Every type goes in and comes out without loss.
pub async fn types(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    let schema = "u BIGINT UNSIGNED, i BIGINT, d DECIMAL(65,30), f FLOAT, g DOUBLE, b BIT(64), y YEAR, \
        dt DATETIME(6), da DATE, ti TIME(6), ts TIMESTAMP(6) NULL, e ENUM('a','b c'), s SET('x','y'), j JSON, \
        raw VARBINARY(16), bl BLOB, tx TEXT, bin VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, \
        t1 TINYINT(1), t1u TINYINT UNSIGNED, no VARCHAR(5), empty VARCHAR(5)";
    node.fetch(
        WRITER,
        &format!("/createtable?dbname=t&table=types&schema={schema}"),
    )
    .await
    .must(200);
    let decimal = "12345678901234567890123456789012345.123456789012345678901234567890";
    let row = format!(
        r#"{{"u":18446744073709551615,"i":-9223372036854775808,"d":{decimal},"f":1.5,"g":1e300,
        "b":9223372036854775809,"y":2024,"dt":"2024-02-29 23:59:59.123456","da":"2024-02-29",
        "ti":"-838:59:58.000001","ts":"2024-02-29 12:00:00.500000","e":"b c","s":"x,y",
        "j":{{"k":[1,2.50,null,"ü"]}},"raw":"AAECAw==","bl":"/w==","tx":"ünï\n\"","bin":"Groß","t1":-5,"t1u":200,
        "no":null,"empty":""}}"#
    );
    let body = format!(r#"{{"dbname":"t","table":"types","data":{row}}}"#);
    let headers = [("Authorization", &*format!("Bearer {WRITER}"))];
    node.request("POST", "/insert", &headers, &body)
        .await
        .unwrap()
        .must(200);
    let answer = node.fetch(READER, "/select?dbname=t&table=types").await;
    for part in [
        r#""u":18446744073709551615"#,
        r#""i":-9223372036854775808"#,
        &format!(r#""d":"{decimal}""#),
        r#""f":1.5"#,
        r#""b":9223372036854775809"#,
        r#""y":2024"#,
        r#""dt":"2024-02-29 23:59:59.123456""#,
        r#""da":"2024-02-29""#,
        r#""ti":"-838:59:58.000001""#,
        r#""ts":"2024-02-29 12:00:00.500000""#,
        r#""e":"b c""#,
        r#""s":"x,y""#,
        r#""raw":"AAECAw==""#,
        r#""bl":"/w==""#,
        r#""tx":"ünï\n\"""#,
        r#""bin":"Groß""#,
        r#""t1":-5"#,
        r#""t1u":200"#,
        r#""no":null"#,
        r#""empty":"""#,
    ] {
        assert!(answer.text.contains(part), "{part} is not in {}", answer.text);
    }
    assert_eq!(answer.json()["rows"][0]["g"], json!(1e300));
    assert_eq!(answer.json()["rows"][0]["j"], json!({"k":[1, 2.5, null, "ü"]}));
    raw_sql("SET SESSION sql_mode=''; CREATE TABLE t.zero (d DATE, dt DATETIME, t TIME); INSERT INTO t.zero VALUES ('0000-00-00','0000-00-00','0')")
        .execute(&mut node.root().await)
        .await
        .unwrap();
    let zero = node.fetch(READER, "/select?dbname=t&table=zero").await.must(200);
    assert_eq!(
        zero["rows"][0],
        json!({"d":"0000-00-00","dt":"0000-00-00 00:00:00","t":"00:00:00"})
    );
    for (column, value) in [
        ("t1u", json!(300)),
        ("da", json!("2024-02-30")),
        ("e", json!("c")),
        ("y", json!("x")),
    ] {
        let body = json!({"dbname":"t","table":"types","data":{column: value}});
        let problem = node.send(WRITER, "/insert", &body).await.must(422);
        assert_eq!(problem["outcome"], "not-applied");
    }
}

pub async fn statements(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    let run = async |token: &str, body: Value| node.send(token, "/v1/sql", &body).await;
    let read = run(
        READER,
        json!({"database":"t","statement":"SELECT n + ? AS m, t.n FROM r AS t WHERE n >= ? ORDER BY n LIMIT 2","values":[1, 600]}),
    )
    .await;
    assert_eq!(read.must(200)["rows"], json!([[601, 600], [602, 601]]));
    let body = json!({"database":"t","statement":"UPDATE h SET age = age + ? WHERE name = ?","values":[5,"kept"],"mode":"write"});
    assert_eq!(run(WRITER, body.clone()).await.must(200)["affected"], 1);
    run(READER, body).await.must(403);
    for statement in [
        "SELECT 1; SELECT 2",
        "SELECT * FROM mysql.user",
        "SELECT * FROM (SELECT * FROM mysql.user) x",
        "WITH x AS (SELECT * FROM mysql.user) SELECT * FROM x",
        "SELECT SLEEP(100)",
        "SELECT @@datadir",
        "SELECT * FROM h INTO OUTFILE '/tmp/x'",
        "SELECT * FROM h FOR UPDATE",
        "DROP TABLE h",
        "SET GLOBAL read_only = 0",
        "CALL x()",
        "SELECT 'a\\\\' OR 1 -- '",
        "SELECT ?",
        "UPDATE h SET age = 1",
        "GRANT ALL ON *.* TO x",
        "LOAD DATA INFILE 'x' INTO TABLE h",
        "SHOW VARIABLES",
        "KILL 1",
    ] {
        let answer = run(ADMIN, json!({"database":"t","statement":statement})).await;
        assert!(matches!(answer.status, 400 | 403), "{statement}: {answer:?}");
    }
}

pub async fn limits(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    let headers = [("Authorization", &*format!("Bearer {WRITER}"))];
    let large = format!("{{\"dbname\":\"{}\"}}", "x".repeat(9 << 20));
    node.request("POST", "/insert", &headers, &large)
        .await
        .unwrap()
        .must(413);
    node.fetch(READER, "/select?dbname=t&table=r&limit=10001")
        .await
        .must(400);
    // A statement that is too slow is really stopped on the server.
    // Without a condition MySQL multiplies the counts.
    let slow = "SELECT COUNT(*) FROM r a, r b, r c, r d, r e, r f, r g, r h \
                WHERE a.n + b.n + c.n + d.n + e.n + f.n + g.n + h.n = -1";
    let begun = now();
    let answer = node
        .send(READER, "/v1/sql", &json!({"database":"t","statement":slow}))
        .await;
    assert_eq!(answer.must(504)["type"], "urn:ddb:problem:timeout");
    assert!(begun.elapsed() < Duration::from_secs(8));
    let told = now();
    let mut root = node.root().await;
    loop {
        let running = raw_sql("SELECT 1 FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE '%FROM%r% g%' AND PROCESSLIST_USER LIKE 'ddb_api%'")
            .fetch_all(&mut root)
            .await
            .unwrap();
        if running.is_empty() {
            return;
        }
        // By itself it would run for minutes.
        assert!(told.elapsed() < Duration::from_secs(5), "it still runs");
        sleep(Duration::from_millis(50)).await;
    }
}
