//! Roles that the resource defines: MySQL itself bounds them, and they change and go with their definition.

use std::time::Duration;

use serde_json::json;
use sqlx::Row as _;
use tokio::time::sleep;

use crate::support::{
    Node, Operator,
    cluster::Cluster,
    https::{ORDERS, ROLES, WRITER},
    now,
};

/// `orders` may read and add rows of `shop`, and nothing else.
pub async fn bounded(cluster: &mut Cluster) {
    let made = "/createtable?dbname=shop&table=orders&schema=n INT";
    cluster.nodes[0].fetch(WRITER, made).await.must(200);
    for node in &cluster.nodes[..2] {
        let orders = async |path: &str, more: serde_json::Value| {
            let mut body = json!({"dbname":"shop","table":"orders"});
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            node.send(ORDERS, path, &body).await
        };
        orders("/insert", json!({"data":{"n":1}})).await.must(200);
        let refused = orders("/update", json!({"data":{"n":2},"condition":{"n":1}}))
            .await
            .must(403);
        assert_eq!(
            (&refused["code"], &refused["outcome"]),
            (&json!(1142), &json!("not-applied"))
        );
        orders("/delete", json!({"condition":{"n":1}})).await.must(403);
        node.fetch(ORDERS, "/createtable?dbname=shop&table=more&schema=n INT")
            .await
            .must(403);
        node.fetch(ORDERS, "/select?dbname=t&table=r").await.must(403);
        node.fetch(ORDERS, "/dropdb?name=shop").await.must(403);
        node.fetch(ORDERS, "/select?dbname=shop&table=orders")
            .await
            .must(200);
        let databases = node.fetch(ORDERS, "/databases").await.must(200);
        assert_eq!(databases["databases"], json!(["shop"]));
    }
    changed(&mut cluster.nodes[0]).await;
    cluster.operators[0] = Operator::connect(&cluster.nodes[0], &cluster.tls, "operator")
        .await
        .unwrap();
}

/// What the definition says when the master's agent begins is what MySQL grants.
async fn changed(master: &mut Node) {
    let insert = json!({"dbname":"shop","table":"orders","data":{"n":1}});
    again(
        master,
        r#"[{"name":"orders","like":"writer","databases":["shop"],"privileges":["SELECT"]}]"#,
    );
    until(master, "only reads", async |node| {
        node.send(ORDERS, "/insert", &insert).await.status == 403
            && node
                .fetch(ORDERS, "/select?dbname=shop&table=orders")
                .await
                .status
                == 200
    })
    .await;
    again(master, "[]");
    until(master, "is gone", async |node| {
        let mut root = node.root().await;
        let row = sqlx::query("SELECT COUNT(*) FROM mysql.user WHERE User = 'ddb_role_orders'");
        row.fetch_one(&mut root).await.unwrap().get::<i64, _>(0) == 0
    })
    .await;
    master
        .fetch(ORDERS, "/select?dbname=shop&table=orders")
        .await
        .must(401);
    again(master, ROLES);
    until(master, "is back", async |node| {
        node.send(ORDERS, "/insert", &insert).await.status == 200
    })
    .await;
    println!("roles of the resource are bounded by MySQL, change with it and go with it");
}

fn again(master: &mut Node, roles: &str) {
    master.agent_arguments = vec![format!("--api-roles={roles}")];
    master.agent.kill().unwrap();
    master.agent.wait().unwrap();
    master.restart_agent();
}

async fn until(node: &Node, what: &str, is_so: impl AsyncFn(&Node) -> bool) {
    let begun = now();
    loop {
        let serves = node.request("GET", "/ping", &[], "").await.is_ok();
        if serves && is_so(node).await {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the role is not as it should be: {what}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}
