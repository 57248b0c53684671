//! What is told, and how.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{follow, run, try_follow};
use crate::support::{
    Node,
    https::{ADMIN, LIMITED, READER, WRITER},
    now,
};

pub async fn in_order(master: &Node) {
    run(
        master,
        "CREATE DATABASE feed; CREATE TABLE feed.a (id INT PRIMARY KEY, name VARCHAR(20)); \
         CREATE TABLE feed.b (id INT PRIMARY KEY)",
    )
    .await;
    let mut feed = follow(master, READER, "?tables=feed.a", None).await;
    run(master, "INSERT INTO feed.a VALUES (1, 'Ann')").await;
    run(master, "INSERT INTO feed.b VALUES (1)").await;
    run(
        master,
        "START TRANSACTION; UPDATE feed.a SET name = 'Änne' WHERE id = 1; INSERT INTO feed.b VALUES (2); \
         INSERT INTO feed.a VALUES (2, NULL), (3, 'x'); COMMIT",
    )
    .await;
    run(master, "DELETE FROM feed.a WHERE id < 3 ORDER BY id").await;
    let row = |change: &str, row: Value, before: Value| {
        let mut told = json!({"database": "feed", "table": "a", "change": change});
        for (name, value) in [("row", row), ("before", before)] {
            if !value.is_null() {
                told[name] = value;
            }
        }
        told
    };
    let (rows, commit) = feed.transaction().await;
    assert_eq!(
        rows,
        [row("insert", json!({"id": 1, "name": "Ann"}), Value::Null)]
    );
    let gtid = commit.data["gtid"].as_str().unwrap();
    assert!(gtid.contains(':'), "{commit:?}");
    assert!(commit.data["at"].as_str().unwrap().ends_with('Z'), "{commit:?}");
    let (rows, _) = feed.transaction().await;
    assert_eq!(
        rows,
        [
            row(
                "update",
                json!({"id": 1, "name": "Änne"}),
                json!({"id": 1, "name": "Ann"})
            ),
            row("insert", json!({"id": 2, "name": null}), Value::Null),
            row("insert", json!({"id": 3, "name": "x"}), Value::Null),
        ]
    );
    let (rows, _) = feed.transaction().await;
    assert_eq!(
        rows,
        [
            row("delete", Value::Null, json!({"id": 1, "name": "Änne"})),
            row("delete", Value::Null, json!({"id": 2, "name": null})),
        ]
    );
    println!("rows are told in order, with what they were");
}

/// The table is not what it was when the log is read.
pub async fn as_they_were(master: &Node) {
    run(master, "CREATE TABLE feed.alt (id INT PRIMARY KEY, one INT)").await;
    let from = follow(master, READER, "?tables=feed.alt", None).await.id;
    run(master, "INSERT INTO feed.alt VALUES (1, 1)").await;
    run(
        master,
        "ALTER TABLE feed.alt RENAME COLUMN one TO two, ADD COLUMN e ENUM('x', 'y') FIRST",
    )
    .await;
    run(master, "INSERT INTO feed.alt VALUES ('y', 2, 2)").await;
    run(
        master,
        "ALTER TABLE feed.alt DROP COLUMN two; TRUNCATE feed.alt; CREATE TABLE feed.made SELECT 7 AS seven",
    )
    .await;
    let mut feed = follow(master, READER, "?tables=feed", Some(&from)).await;
    let mut told = Vec::new();
    while told
        .last()
        .is_none_or(|last: &Value| last["row"]["seven"].is_null())
    {
        let next = feed.next().await;
        match next.name.as_str() {
            "row" => told.push(next.data),
            "schema" => told.push(json!(next.data["database"])),
            _ => {}
        }
    }
    let row = |row: Value| json!({"database": "feed", "table": "alt", "change": "insert", "row": row});
    let made = json!({"database": "feed", "table": "made", "change": "insert", "row": {"seven": 7}});
    assert_eq!(
        told,
        [
            row(json!({"id": 1, "one": 1})),
            json!("feed"),
            row(json!({"e": "y", "id": 2, "two": 2})),
            json!("feed"),
            json!("feed"),
            json!("feed"),
            made
        ]
    );
    assert_eq!(feed.next().await.name, "commit");
    println!("rows have the names that their columns had");
}

const TYPES: &str = "CREATE TABLE feed.types (id INT PRIMARY KEY, u BIGINT UNSIGNED, i BIGINT, s SMALLINT, \
    su SMALLINT UNSIGNED, m MEDIUMINT, mu MEDIUMINT UNSIGNED, iu INT UNSIGNED, d DECIMAL(65,30), d2 DECIMAL(5,0), \
    d3 DECIMAL(3,3), du DECIMAL(10,2) UNSIGNED, f FLOAT, g DOUBLE, b1 BIT(1), b BIT(64), b9 BIT(9), y YEAR, \
    dt DATETIME(6), dt0 DATETIME, dt3 DATETIME(3), da DATE, ti TIME(6), ti0 TIME, ti2 TIME(2), ts TIMESTAMP(6) NULL, \
    ts0 TIMESTAMP NULL, e ENUM('a','b c','ü'), st SET('x','y','z'), j JSON, bin BINARY(16), vb VARBINARY(300), \
    tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB, c CHAR(10), c255 CHAR(255), v VARCHAR(10), v3 VARCHAR(300), \
    tt TINYTEXT, tx TEXT, mt MEDIUMTEXT, lt LONGTEXT, l1 VARCHAR(20) CHARACTER SET latin1, \
    l2 VARCHAR(20) CHARACTER SET latin2, u16 VARCHAR(20) CHARACTER SET utf16, gb CHAR(20) CHARACTER SET gbk, \
    asc1 VARCHAR(20) CHARACTER SET ascii, u3 VARCHAR(20) CHARACTER SET utf8mb3, \
    el ENUM('ä','ö') CHARACTER SET latin1, sl SET('ő','ű') CHARACTER SET latin2, \
    t1 TINYINT(1), t1u TINYINT UNSIGNED, bo BOOL, p POINT, geo GEOMETRY, poly POLYGON SRID 4326, \
    sto INT AS (id + 1) STORED, vir INT AS (id + 2) VIRTUAL, hid INT DEFAULT 5 INVISIBLE)";

/// Each row as the feed tells it is what a query answers.
pub async fn every_type(master: &Node) {
    run(master, TYPES).await;
    let mut feed = follow(master, READER, "?tables=feed.types", None).await;
    let columns = "id, u, i, s, su, m, mu, iu, d, d2, d3, du, f, g, b1, b, b9, y, dt, dt0, dt3, da, ti, ti0, ti2, ts, \
         ts0, e, st, j, bin, vb, tb, bl, mb, lb, c, c255, v, v3, tt, tx, mt, lt, l1, l2, u16, gb, asc1, u3, el, sl, t1, \
         t1u, bo, p, geo, poly";
    let full = "18446744073709551615, -9223372036854775808, -5, 65535, -8388608, 16777215, 4294967295, \
         -12345678901234567890123456789012345.123456789012345678901234567890, -7, 0.5, 0.05, 1.1, -1e300, 1, \
         9223372036854775809, 257, 2024, '2024-02-29 23:59:59.123456', '1000-01-01', '9999-12-31 01:02:03.999', \
         '2024-02-29', '-838:59:58.000001', '-00:00:01', '-10:11:12.5', '2024-02-29 12:00:00.5', \
         '1970-01-01 00:00:01', 'ü', 'x,z', \
         '{\"b\": [1, -2, 2.50, 1e20, null, true, \"ü\\\\n\\\\\\\"\"], \"a\": {}, \"n\": 18446744073709551615, \"m\": -300}', \
         x'0100', x'00ff00', x'', x'ff', x'01', x'02', 'c  ', REPEAT('ß', 255), 'v ', REPEAT('w', 300), 'tt', 'ünï\\n\"', \
         'mt', REPEAT('l', 70000), 'Grüße €', 'żółć', '😀a', '中文', 'asc', 'ü€', 'ö', 'ő,ű', -5, 200, TRUE, \
         POINT(1, 2), ST_GeomFromText('LINESTRING(0 0, 1 1)'), \
         ST_GeomFromText('POLYGON((0 0, 0 1, 1 1, 0 0))', 4326)";
    run(
        master,
        &format!("SET time_zone = '+00:00'; INSERT INTO feed.types ({columns}) VALUES (1, {full})"),
    )
    .await;
    run(master, "INSERT INTO feed.types (id) VALUES (2)").await;
    run(
        master,
        "SET sql_mode = ''; INSERT INTO feed.types (id, da, dt0, ti, ts, ts0, y, e, st, d, d2, d3, f, g, bin, v, b1, j, ti2) \
         VALUES (3, '0000-00-00', '0000-00-00', '0', 0, 0, 0, 'none', '', 0, 0, 0, 0, -0.0, x'', '', 0, 'null', '-00:00:00.25')",
    )
    .await;
    run(
        master,
        "INSERT INTO feed.types (id, j, d3, f, g) VALUES (4, JSON_OBJECT('d', CAST(1.10 AS DECIMAL(5,2)), 'n', \
         CAST(-12345678901.5 AS DECIMAL(20,5)), 't', CAST('-10:11:12.5' AS TIME(6)), 'dt', \
         CAST('2024-02-29 01:02:03.5' AS DATETIME(6)), 'da', CAST('2024-02-29' AS DATE), 'x', x'0102', 'long', \
         REPEAT('y', 70000), 'e', JSON_ARRAY(), 'f', 0.1e0, 'g', 1e0, 'i', 40000, 'k', -2147483649), -0.125, 3.4e38, \
         4.9e-324)",
    )
    .await;
    for id in 1..=4 {
        let (rows, _) = feed.transaction().await;
        let path = format!("/v1/databases/feed/tables/types/rows/{id}");
        let read = master.fetch(READER, &path).await.must(200);
        let listed = format!("/v1/databases/feed/tables/types/rows?where=id={id}&columns=hid");
        let hidden = master.fetch(READER, &listed).await;
        let (mut told, mut wanted) = (rows[0]["row"].clone(), read.clone());
        if wanted.get("row").is_some() {
            wanted = wanted["row"].clone();
        }
        // A query of all columns leaves out those that are invisible.
        assert_eq!(told["hid"], 5, "{hidden:?}");
        told.as_object_mut().unwrap().remove("hid");
        let other: Vec<_> = wanted
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, value)| told.get(name.as_str()) != Some(*value))
            .map(|(name, value)| format!("{name} of row {id}: {} for {value}", told[name.as_str()]))
            .collect();
        assert!(other.is_empty(), "{}", other.join("\n"));
        assert_eq!(told.as_object().unwrap().len(), wanted.as_object().unwrap().len());
    }
    println!("every type is told as a query answers it");
}

pub async fn only_what_is_wanted(master: &Node) {
    let refused = async |token: &str, query: &str, status: u16| {
        let Err((found, problem)) = try_follow(master, token, query, None).await else {
            panic!("{query} was let in");
        };
        assert_eq!(found, status, "{query}: {problem}");
    };
    refused(LIMITED, "?tables=feed.a", 403).await;
    refused(ADMIN, "?tables=mysql.user", 403).await;
    refused(ADMIN, "?tables=feed,DDB", 403).await;
    refused(READER, "?tables=a.b.c", 400).await;
    refused(READER, "?table=feed", 400).await;
    refused("ddb_nobody_0123456789abcdef", "", 401).await;
    master.fetch(WRITER, "/createdb?name=shop").await;
    run(master, "CREATE TABLE shop.s (n INT PRIMARY KEY)").await;
    let mut limited = follow(master, LIMITED, "", None).await;
    let mut all = follow(master, READER, "", None).await;
    run(master, "INSERT INTO feed.b VALUES (10)").await;
    run(
        master,
        "START TRANSACTION; INSERT INTO feed.b VALUES (11); INSERT INTO shop.s VALUES (1); COMMIT",
    )
    .await;
    let (rows, _) = limited.transaction().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (&rows[0]["database"], &rows[0]["row"]),
        (&json!("shop"), &json!({"n": 1}))
    );
    let (first, _) = all.transaction().await;
    let (second, _) = all.transaction().await;
    assert_eq!((first.len(), second.len()), (1, 2));
    println!("a token is told of its own databases only");
}

/// Transactions of two phases are no part of the feed, and it says so.
pub async fn by_transactions(master: &Node) {
    let mut feed = follow(master, READER, "?tables=feed.b", None).await;
    run(
        master,
        "XA START 'x'; INSERT INTO feed.b VALUES (20); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'",
    )
    .await;
    run(
        master,
        "XA START 'y'; INSERT INTO feed.b VALUES (19); XA END 'y'; XA COMMIT 'y' ONE PHASE",
    )
    .await;
    run(
        master,
        "START TRANSACTION; INSERT INTO feed.b VALUES (21); SAVEPOINT s; INSERT INTO feed.b VALUES (22); \
         ROLLBACK TO s; INSERT INTO feed.b VALUES (23); COMMIT",
    )
    .await;
    let skipped = feed.next().await;
    assert_eq!(skipped.name, "skipped", "{skipped:?}");
    assert_eq!(feed.next().await.name, "commit");
    let skipped = feed.next().await;
    assert!(
        skipped.name == "skipped" && skipped.data.to_string().contains("one phase"),
        "{skipped:?}"
    );
    assert_eq!(feed.next().await.name, "commit");
    let (rows, _) = feed.transaction().await;
    let numbers: Vec<&Value> = rows.iter().map(|row| &row["row"]["id"]).collect();
    assert_eq!(numbers, [21, 23]);
    println!("what was undone is not told, and what cannot be told is said");
}

/// A token that is taken away ends the feeds that it began, also while they have much to tell.
pub async fn no_longer_than_the_token_is_good(master: &Node) {
    const TOKEN: &str = "ddb_passing_0123456789abcdef";
    let hash = data::access::hash(TOKEN);
    let hash = hash
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let file = master.directory.join("tokens/passing");
    fs::write(&file, format!(r#"{{"hash":"{hash}","role":"reader"}}"#)).unwrap();
    let begun = now();
    while master.fetch(TOKEN, "/databases").await.status != 200 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the token is not known"
        );
        sleep(Duration::from_millis(100)).await;
    }
    let mut feed = follow(master, TOKEN, "?tables=feed.b", None).await;
    run(master, "INSERT INTO feed.b VALUES (1000)").await;
    assert_eq!(feed.transaction().await.0.len(), 1);
    fs::remove_file(&file).unwrap();
    let begun = now();
    for number in 1001.. {
        if feed.ended {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "the feed goes on without a token"
        );
        run(master, &format!("INSERT INTO feed.b VALUES ({number})")).await;
        while feed.within(Duration::from_millis(100)).await.is_some() {}
    }
    println!("a token that is taken away ends its feeds");
}
