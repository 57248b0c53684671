//! A pod that was deleted by force and is replaced at once: its mysqld still runs on the volume and acknowledges. The new
//! pod neither says that no server runs, nor fences what it does not command, nor starts another beside it; and its agent
//! waits for the earlier one.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::PathBuf, time::Duration};

use failover::Server;
use sqlx::raw_sql;
use support::{
    Node, Operator,
    cluster::{Cluster, fence, signal},
    is_caught_up, up,
};
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_an_earlier_pod_is_neither_counted_as_down_nor_joined_by_another() {
    let Some(mut cluster) = Cluster::led("claim").await else {
        return;
    };
    let earlier = cluster.nodes[2].mysqld_pid();
    // Only node 2 can acknowledge from here on.
    cluster.operators[1].done("fence b", 1, fence(true)).await;
    an_agent_waits_for_the_earlier_one(&mut cluster.nodes[2]).await;
    let pod = &mut cluster.nodes[2];
    for process in [&mut pod.agent, &mut pod.supervisor] {
        signal(process.id(), "-KILL");
        process.wait().unwrap();
    }
    // A new pod has a new directory for its sockets.
    for socket in ["supervisor.sock", "mysql.sock", "mysql.sock.lock"] {
        fs::remove_file(cluster.nodes[2].directory.join("run").join(socket)).unwrap();
    }
    cluster.nodes[2].restart_agent();
    cluster.operators[2] = Operator::connect(&cluster.nodes[2], &cluster.tls, "operator")
        .await
        .unwrap();
    let mut app = cluster.nodes[0].app().await.unwrap();
    for supervised in [false, true] {
        if supervised {
            cluster.nodes[2].restart_supervisor();
        }
        // Long enough for another server to come up.
        sleep(Duration::from_secs(3)).await;
        let report = cluster.operators[2].report();
        assert!(
            matches!(report.server, Server::Starting),
            "supervised: {supervised}, {:?}",
            report.server
        );
        let (_, refusal) = cluster.operators[2].tell(2, fence(false)).await;
        assert!(refusal.is_some(), "supervised: {supervised}");
        let write = raw_sql("INSERT INTO t.r VALUES (1), (2)").execute(&mut app);
        timeout(Duration::from_secs(10), write).await.unwrap().unwrap();
        raw_sql("DELETE FROM t.r").execute(&mut app).await.unwrap();
    }
    signal(earlier, "-KILL");
    cluster.operators[2]
        .until("a server of its own", |report| up(report).is_some())
        .await;
    assert!(!PathBuf::from(format!("/proc/{earlier}/exe")).exists());
    cluster.operators[2].done("fence c", 2, fence(false)).await;
    let follow = support::cluster::follow(&cluster.nodes[0], &cluster.operators[0].state().executed);
    cluster.operators[2].done("follow a", 2, follow).await;
    cluster.operators[2].until("caught up", is_caught_up).await;
    cluster.end();
}

/// What the earlier agent promises while the later one begins is what the later one goes by.
async fn an_agent_waits_for_the_earlier_one(node: &mut Node) {
    // Two pods have an address each.
    node.probe_port = support::free_port();
    let later = node.another_agent();
    let earlier = std::mem::replace(&mut node.agent, later);
    sleep(Duration::from_secs(2)).await;
    assert!(
        node.agent.try_wait().unwrap().is_none(),
        "it neither ends nor takes the earlier one's ports"
    );
    assert!(node.get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(node.get("/readyz").await.contains("waits for an earlier agent"));
    let mut later = std::mem::replace(&mut node.agent, earlier);
    signal(later.id(), "-TERM");
    assert!(!later.wait().unwrap().success());
}
