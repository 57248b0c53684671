//! What nodes notice when others fall silent: slaves lose a frozen master within a second, and a master whose accounts
//! are locked by a statement that no slave acknowledges says that it does not serve.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use failover::{NodeReport, Receiver, Role, Server};
use sqlx::{Row, raw_sql};
use support::{
    PASSWORD,
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
    fences_are_quick_while_the_master_is_silent(&mut cluster).await;
    cluster.end();
}

/// Node 0 is the master of term 1 and stands still; its slaves try to connect. Their fence, a promotion and the other's
/// way to the new master wait for no attempt, no server is killed, and the thawed master gets nothing acknowledged.
async fn fences_are_quick_while_the_master_is_silent(cluster: &mut Cluster) {
    let mut app = cluster.nodes[0].app().await.unwrap();
    let pids = [1, 2].map(|at| cluster.nodes[at].mysqld_pid());
    signal(cluster.nodes[0].mysqld_pid(), "-STOP");
    let hung = tokio::spawn(async move {
        raw_sql("INSERT INTO t.r VALUES (77)")
            .execute(&mut app)
            .await
            .is_ok()
    });
    for slave in [1, 2] {
        let connecting = |report: &NodeReport| {
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
        cluster.operators[slave].until("receiver lost", connecting).await;
    }
    // Somewhere in the middle of an attempt, which takes a second.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let fence = || api::wire::Command::Fence {
        orderly: false,
        deadline_ms: 500,
    };
    let (left, right) = cluster.operators.split_at_mut(2);
    let (one, two) = tokio::join!(
        left[1].done("fence b while its master is silent", 2, fence()),
        right[0].done("fence c while its master is silent", 2, fence())
    );
    assert!(one < 600 && two < 600, "{one} {two}");
    let held = [1, 2].map(|at| cluster.operators[at].state().holds());
    let promote = api::wire::Command::Promote {
        acks: 1,
        requires: held[0].clone(),
    };
    cluster.operators[1]
        .done("drain", 2, api::wire::Command::Drain { deadline_ms: 3000 })
        .await;
    let promoted = cluster.operators[1].done("promote b", 2, promote).await;
    assert!(promoted < 600, "{promoted}");
    let follow = support::cluster::follow(&cluster.nodes[1], &failover::GtidSet::new());
    cluster.operators[2].done("c follows b", 2, follow).await;
    signal(cluster.nodes[0].mysqld_pid(), "-CONT");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        !hung.is_finished(),
        "the old master's commit was acknowledged or failed"
    );
    for at in [1, 2] {
        let holds = cluster.operators[at].state().holds();
        assert_eq!(
            holds,
            held[at - 1],
            "{} received from the old master",
            cluster.nodes[at].name
        );
        assert_eq!(
            cluster.nodes[at].mysqld_pid(),
            pids[at - 1],
            "a server was killed"
        );
    }
    cluster.operators[0]
        .done("fence of the old master", 2, fence())
        .await;
    assert!(!hung.await.unwrap(), "an unreplicated write was acknowledged");
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
            ["1", "0.200", "1", "1000000", "1"],
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
    let changed = now();
    let hung = |report: &NodeReport| matches!(report.server, Server::Hung { .. });
    let seen = cluster.operators[0].until("locked out", hung).await;
    let took = seen.duration_since(changed).as_millis();
    println!("changed password that nobody acknowledges to report Hung: {took} ms");
    for slave in [1, 2] {
        signal(cluster.nodes[slave].mysqld_pid(), "-CONT");
    }
    let free = cluster.operators[0].until("free", |report| up(report).is_some());
    let freed = timeout(Duration::from_secs(5), free).await;
    assert!(freed.is_ok(), "slaves that were only frozen still acknowledge");
    std::fs::write(&password, PASSWORD).unwrap();
    wait_for_account(&cluster.nodes[0]).await;
}
