//! The role that the document names for an operation is the one that it needs.

use serde_json::{Value, json};

use crate::support::{
    Node,
    cluster::Cluster,
    https::{READER, WRITER},
};

/// Every operation is asked for with the role below the one that it needs, and with the lowest where none is needed.
pub async fn roles(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    let document = node.fetch(READER, "/v1/openapi.json").await.must(200);
    let mut asked = [0; 3];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(role) = operation["x-role"].as_str() else {
                let open = operation["security"].as_array().is_some_and(Vec::is_empty)
                    || operation["security"] == json!([{}]);
                assert!(
                    open,
                    "{method} {path} says neither its role nor that it needs no token"
                );
                continue;
            };
            // They do not end.
            if ["/v1/cluster/events", "/v1/changes"].contains(&path.as_str()) {
                continue;
            }
            let (at, token) = match role {
                "reader" => (0, READER),
                "writer" => (1, READER),
                "admin" => (2, WRITER),
                other => panic!("{method} {path}: {other}"),
            };
            let answer = ask(node, method, path, operation, token).await;
            assert_eq!(
                answer == 403,
                role != "reader",
                "{method} {path}: {answer}, role {role}"
            );
            asked[at] += 1;
        }
    }
    assert!(asked.iter().all(|count| *count >= 7), "{asked:?}");
    println!("operations for readers, writers and admins: {asked:?}");
}

async fn ask(node: &Node, method: &str, path: &str, operation: &Value, token: &str) -> u16 {
    let mut whole = path.to_owned();
    for (name, value) in [
        ("db", "t"),
        ("table", "r"),
        ("key", "1"),
        ("node", "a"),
        ("id", "1"),
    ] {
        whole = whole.replace(&format!("{{{name}}}"), value);
    }
    let query: Vec<String> = operation["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| one["in"] == "query" && (one["required"] == true || one["name"] == "confirm"))
        .map(|one| {
            let name = one["name"].as_str().unwrap();
            let value = match name {
                "table" => "r",
                "schema" => "a INT",
                _ => "t",
            };
            format!("{name}={value}")
        })
        .collect();
    let whole = format!("{whole}?{}", query.join("&"));
    let row = json!({"n": 1});
    let body = match (method, path) {
        ("get" | "delete", _) => Value::Null,
        (_, "/rpc") => json!({"operation": "SEARCH", "database": "t", "table": "r", "condition": row}),
        (_, "/createtable") => json!({"dbname": "t", "table": "x", "columns": {"a": "int"}}),
        (_, "/insert" | "/replicate/insert") => json!({"dbname": "t", "table": "r", "data": row}),
        (_, "/update" | "/replicate/update") => {
            json!({"dbname": "t", "table": "r", "data": row, "condition": row})
        }
        (_, "/delete" | "/replicate/delete") => json!({"dbname": "t", "table": "r", "condition": row}),
        (_, "/v1/databases") => json!({"name": "x"}),
        (_, "/v1/databases/{db}/tables") => json!({"name": "x", "columns": {"a": "int"}}),
        (_, "/v1/sql") => json!({"database": "t", "statement": "SELECT n FROM r"}),
        (_, "/v1/transactions") => {
            json!({"database": "t", "steps": [{"do": "insert", "table": "r", "data": row}]})
        }
        (_, "/v1/cluster/switchover" | "/v1/cluster/nodes/{node}/resync") => json!({}),
        _ => row,
    };
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let bearer = format!("Bearer {token}");
    let kind = if path.starts_with("/v1/import") {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
    let method = method.to_uppercase();
    node.request(&method, &whole, &headers, &text)
        .await
        .unwrap()
        .status
}
