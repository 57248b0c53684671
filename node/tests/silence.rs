//! What nodes notice when others fall silent: slaves lose a frozen master within a second, and a master whose accounts
//! are locked by a statement that no slave acknowledges says that it does not serve.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use failover::{NodeReport, Receiver, Role, Server};
use sqlx::{Row, raw_sql};
use support::{
    Operator, PASSWORD,
    cluster::{Cluster, signal, wait_for_account},
    now, up,
};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_noticed_on_either_side() {
    let Some(mut cluster) = Cluster::led("silence").await else {
        return;
    };
    slaves_notice_a_frozen_master(&mut cluster).await;
    locked_accounts_are_reported(&mut cluster).await;
    cluster.end();
}

/// Node 0 is the master. Its slaves lose it within about a second of silence, and say so.
async fn slaves_notice_a_frozen_master(cluster: &mut Cluster) {
    for slave in [1, 2] {
        let sql = "SELECT @@global.replica_net_timeout, HEARTBEAT_INTERVAL, CONNECTION_RETRY_INTERVAL, \
                   CONNECTION_RETRY_COUNT, AUTO_POSITION \
                   FROM performance_schema.replication_connection_configuration";
        let row = raw_sql(sql)
            .fetch_one(&mut cluster.nodes[slave].root().await)
            .await
            .unwrap();
        let text = |at| row.try_get_unchecked::<String, _>(at).unwrap();
        let settings = [0, 1, 2, 3, 4].map(text);
        assert_eq!(
            settings,
            ["1", "0.250", "1", "1000000", "1"],
            "{}",
            cluster.nodes[slave].name
        );
    }
    let frozen = now();
    signal(cluster.nodes[0].mysqld_pid(), "-STOP");
    for slave in [1, 2] {
        let lost = |report: &failover::NodeReport| {
            up(report).is_some_and(|state| {
                matches!(
                    &state.role,
                    Role::Slave {
                        receiver: Receiver::Connecting { .. },
                        ..
                    }
                )
            })
        };
        let seen = cluster.operators[slave].until("receiver lost", lost).await;
        let took = seen.duration_since(frozen);
        println!(
            "SIGSTOP of the master to a slave's receiver Connecting: {} ms",
            took.as_millis()
        );
        assert!(took < Duration::from_millis(1700), "{took:?}");
    }
    signal(cluster.nodes[0].mysqld_pid(), "-CONT");
    for slave in [1, 2] {
        cluster.operators[slave]
            .until("connected again", |report| {
                up(report).is_some_and(|state| {
                    matches!(
                        &state.role,
                        Role::Slave {
                            receiver: Receiver::Receiving { .. },
                            ..
                        }
                    )
                })
            })
            .await;
    }
}

/// Node 0 is the master. Its slaves freeze in the moment in which it changes the account: nobody can log in any more,
/// so the node must not look as if it served.
async fn locked_accounts_are_reported(cluster: &mut Cluster) {
    for slave in [1, 2] {
        signal(cluster.nodes[slave].mysqld_pid(), "-STOP");
    }
    let password = cluster.nodes[0].directory.join("account/password");
    std::fs::write(&password, "another").unwrap();
    let restarted = now();
    restart_masters_agent(cluster).await;
    let hung = |report: &NodeReport| matches!(report.server, Server::Hung { .. });
    let seen = cluster.operators[0].until("locked out", hung).await;
    let took = seen.duration_since(restarted).as_millis();
    println!("account statement that nobody acknowledges to report Hung: {took} ms");
    for slave in [1, 2] {
        signal(cluster.nodes[slave].mysqld_pid(), "-CONT");
    }
    let free = cluster.operators[0].until("free", |report| up(report).is_some());
    let freed = timeout(Duration::from_secs(5), free).await;
    assert!(freed.is_ok(), "slaves that were only frozen still acknowledge");
    std::fs::write(&password, PASSWORD).unwrap();
    restart_masters_agent(cluster).await;
    wait_for_account(&cluster.nodes[0]).await;
}

async fn restart_masters_agent(cluster: &mut Cluster) {
    signal(cluster.nodes[0].agent.id(), "-KILL");
    cluster.nodes[0].agent.wait().unwrap();
    cluster.nodes[0].restart_agent();
    cluster.operators[0] = Operator::connect(&cluster.nodes[0], &cluster.tls, "operator")
        .await
        .unwrap();
}
