//! A value across tables and databases.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::raw_sql;

use super::{get, lines_of, run};
use crate::support::{Node, cluster::Cluster, https::LIMITED, now};

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
    reach(slave).await;
    in_time(master).await;
}

/// What the token does not reach is not searched; what is not understood is refused.
async fn reach(slave: &Node) {
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
}

/// A table that cannot be read in time is named, and the others are searched.
async fn in_time(master: &Node) {
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
