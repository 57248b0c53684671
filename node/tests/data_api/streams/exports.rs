//! Tables and databases on their way out.

use serde_json::json;

use super::{get, lines_of, run};
use crate::support::{cluster::Cluster, https::ADMIN};

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
