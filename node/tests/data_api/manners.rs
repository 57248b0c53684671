//! What every reply is like, and what a token may ask: rate, requests at a time, origins, compression.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    Node,
    https::{ADMIN, Answer, READER, WRITER},
    now,
};

async fn get(node: &Node, token: &str, path: &str, more: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Authorization", bearer.as_str())];
    headers.extend_from_slice(more);
    node.request("GET", path, &headers, "").await.unwrap()
}

/// A request that is answered before its body was read keeps its connection: the next one on it is not lost.
pub async fn early_answers(node: &Node) {
    let bearer = format!("Bearer {WRITER}");
    let known = ("Authorization", bearer.as_str());
    for (path, headers, status) in [
        ("/insert", vec![], 401),
        ("/insert", vec![known, ("Consistency", "never")], 400),
        ("/databases", vec![known], 405),
        ("/no-such-path", vec![known], 404),
        ("/v1/cluster/beat", vec![], 403),
    ] {
        let answered = node.early_and_next(path, &headers).await;
        assert_eq!(answered.unwrap(), [status, 200], "{path}");
    }
}

/// Replies above 1 KiB are compressed for who understands it; what flows is not.
pub async fn compression(node: &Node) {
    let body = json!({"dbname":"t","table":"wide","columns":{"id":"int","text":"string"}});
    node.send(WRITER, "/createtable", &body).await.must(200);
    let text = "the same again and again ".repeat(10);
    let rows: Vec<_> = (1..=200).map(|id| json!({"id": id, "text": text})).collect();
    let inserted = node
        .send(
            WRITER,
            "/insert",
            &json!({"dbname":"t","table":"wide","data":rows}),
        )
        .await;
    inserted.must(200);
    let path = "/v1/databases/t/tables/wide/rows?limit=100";
    let after = ("After", inserted.header("write-token").unwrap());
    let plain = get(node, READER, path, &[after]).await;
    assert_eq!(plain.header("content-encoding"), None);
    for asked in [&node, &node] {
        let small = get(asked, READER, path, &[after, ("Accept-Encoding", "gzip")]).await;
        assert_eq!(small.header("content-encoding"), Some("gzip"));
        let bytes = |answer: &Answer| answer.text.chars().count();
        assert!(
            bytes(&small) * 10 < bytes(&plain),
            "{} {}",
            bytes(&small),
            bytes(&plain)
        );
    }
    // A reply that the master made is compressed once and passed on.
    let leader = [after, ("Accept-Encoding", "gzip"), ("Consistency", "leader")];
    let passed = get(node, READER, path, &leader).await;
    assert_eq!(passed.header("served-by"), Some("a"));
    assert_eq!(
        passed.headers.matches("content-encoding").count(),
        1,
        "{}",
        passed.headers
    );
    let gzip = [("Accept-Encoding", "gzip")];
    let tiny = get(node, READER, "/v1/databases/t/tables/wide/rows?limit=1", &gzip).await;
    assert_eq!(tiny.header("content-encoding"), None);
    let stream = get(node, READER, "/v1/export/t/wide", &[after, gzip[0]]).await;
    assert_eq!(stream.header("content-encoding"), None, "a stream flows");
    assert_eq!(plain.header("access-control-allow-origin"), None);
    println!("replies above 1 KiB are compressed");
}

/// Starts the node's agent anew with narrow limits and a known origin.
pub async fn limits_and_origins(node: &mut Node) {
    node.agent_arguments = [
        "--api-token-rate=20",
        "--api-token-requests=3",
        "--api-requests=1",
        "--api-queue=3",
        "--api-audit-reads=true",
        "--api-audit-values=true",
        "--api-cors-origins=https://console.example.com, https://other.example.com:8443",
    ]
    .map(str::to_owned)
    .to_vec();
    node.agent.kill().unwrap();
    node.agent.wait().unwrap();
    node.restart_agent();
    let begun = now();
    while node
        .request("GET", "/readyz", &[], "")
        .await
        .map(|answer| answer.status)
        != Ok(200)
    {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the agent does not serve again"
        );
        sleep(Duration::from_millis(50)).await;
    }
    values(node).await;
    origins(node).await;
    rate(node).await;
    at_a_time(node).await;
    println!(
        "a token's rate and requests at a time are bounded, the queue is, and origins are let in by name"
    );
}

/// Records have the values of statements where that is asked for.
async fn values(node: &Node) {
    let path = "/v1/databases/t/tables/r/rows?n=eq.12345&limit=1";
    get(node, READER, path, &[]).await.must(200);
    let found = get(node, ADMIN, "/v1/audit?object=t.r", &[]).await.must(200);
    let statement = found["records"][0]["statement"].as_str().unwrap();
    assert!(statement.contains("`n` = 12345"), "{found}");
}

async fn origins(node: &Node) {
    let ask = async |origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization,idempotency-key"),
        ];
        node.request("OPTIONS", "/insert", &headers, "").await.unwrap()
    };
    let known = ask("https://console.example.com").await;
    assert_eq!(known.status, 200, "{known:?}");
    assert_eq!(
        known.header("access-control-allow-origin"),
        Some("https://console.example.com")
    );
    let header = |name: &str| known.header(name).unwrap_or_default().to_ascii_lowercase();
    assert!(header("access-control-allow-methods").contains("post"));
    assert!(header("access-control-allow-headers").contains("idempotency-key"));
    let other = ask("https://evil.example.com").await;
    assert_eq!(other.header("access-control-allow-origin"), None, "{other:?}");
    let headers = [("Origin", "https://other.example.com:8443")];
    let refused = node.request("GET", "/databases", &headers, "").await.unwrap();
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://other.example.com:8443"),
        "a script may read why it was refused"
    );
    let exposed = refused
        .header("access-control-expose-headers")
        .unwrap_or_default();
    assert!(exposed.contains("write-token"), "{exposed}");
}

async fn rate(node: &Node) {
    let (mut good, mut refused) = (0_u32, 0_u32);
    let begun = now();
    for _ in 0..60 {
        let answer = get(node, READER, "/is-master", &[]).await;
        if answer.status == 200 {
            good += 1;
            assert_eq!(answer.header("ratelimit-policy"), Some("\"rate\";q=20;w=1"));
            assert_eq!(answer.header("retry-after"), None);
        } else {
            refused += 1;
            let problem = answer.must(429);
            assert_eq!(problem["type"], "urn:ddb:problem:too-many-requests");
            assert_eq!(
                (&problem["retryable"], &problem["outcome"]),
                (&json!(true), &json!("not-applied"))
            );
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert!(answer.header("ratelimit").unwrap().starts_with("\"rate\";r=0;t="));
        }
    }
    let most = 20 + begun.elapsed().as_millis() / 50 + 1;
    assert!(
        refused > 0 && good >= 20 && u128::from(good) <= most,
        "{good} of {most}"
    );
    get(node, ADMIN, "/is-master", &[]).await.must(200);
}

async fn at_a_time(node: &Node) {
    let statement = "SELECT COUNT(*) FROM wide a JOIN wide b JOIN wide c JOIN wide d JOIN wide e \
                     WHERE a.id < b.id AND c.id < d.id";
    let long = json!({"database":"t","statement":statement});
    let all = async |token: &'static str, count: usize| {
        let statements = (0..count).map(async |_| node.send(token, "/v1/sql", &long).await);
        futures::future::join_all(statements).await
    };
    let (first, second) = tokio::join!(all(ADMIN, 5), async {
        sleep(Duration::from_millis(700)).await;
        all(WRITER, 3).await
    });
    let of = |answers: &[Answer], status: u16| answers.iter().filter(|one| one.status == status).count();
    assert_eq!(of(&first, 429), 2, "three at a time: {first:?}");
    assert!(of(&second, 503) >= 2, "one runs, three wait, no more: {second:?}");
    let policy = first
        .iter()
        .find_map(|one| one.header("ratelimit-policy").filter(|_| one.status == 429));
    assert_eq!(policy, Some("\"concurrency\";q=3;qu=\"concurrent-requests\""));
}
