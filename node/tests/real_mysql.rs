//! The node agent against real MySQL servers: three nodes on 127.0.0.1, taken through a mastership, a failover, a
//! rejoin and an orderly handover. Skipped, with a message, where there is no mysqld.
//!
//! `cargo build -p supervisor && DDB_TEST_MYSQLD=/path/to/mysqld cargo test -p node --test real_mysql -- --nocapture`

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use api::wire::{Command, Refusal};
use failover::{GtidSet, Receiver, Role, Server, Tail, Term};
use sqlx::raw_sql;
use support::{
    Operator,
    cluster::{Cluster, assert_holds, fence, follow, is_down, load, signal, wait_for_account},
    is_caught_up, now, up,
};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_lives_through_failover_rejoin_and_handover() {
    let Some(mut cluster) = Cluster::start("real").await else {
        return;
    };
    cluster.make_first_master().await;
    refuses_what_it_must(&mut cluster).await;
    wait_for_account(&cluster.nodes[0]).await;
    let mut app = cluster.nodes[0].app().await.unwrap();
    raw_sql("CREATE DATABASE t; CREATE TABLE t.r (n BIGINT PRIMARY KEY)")
        .execute(&mut app)
        .await
        .unwrap();
    assert!(
        raw_sql("SELECT * FROM mysql.user")
            .execute(&mut app)
            .await
            .is_err(),
        "system schema is readable"
    );
    agent_restart_changes_nothing(&mut cluster).await;
    let written = failover_after_kill(&mut cluster).await;
    rejoin_old_master(&mut cluster, &written).await;
    clone_from_slave(&mut cluster, &written).await;
    let written = orderly_handover(&mut cluster, written).await;
    hung_commit_is_never_acknowledged(&mut cluster).await;
    frozen_slave_is_fenced_by_a_kill(&mut cluster).await;
    supervisor_signals(&mut cluster).await;
    for node in &cluster.nodes {
        println!("agent {} resident: {} KiB", node.name, node.agent_rss());
    }
    drop(written);
    cluster.end();
}

async fn refuses_what_it_must(cluster: &mut Cluster) {
    let (_, refusal) = cluster.operators[1].tell(0, fence(false)).await;
    assert_eq!(refusal, Some(Refusal::StaleTerm { current: Term(1) }));
    let promote = Command::Promote {
        acks: 1,
        requires: GtidSet::new(),
    };
    let (_, refusal) = cluster.operators[1].tell(1, promote).await;
    assert!(
        matches!(refusal, Some(Refusal::Precondition { .. })),
        "{refusal:?}"
    );
    let clone = Command::Clone {
        donor: "b".into(),
        address: cluster.nodes[1].address(),
        extra: GtidSet::new(),
    };
    let (_, refusal) = cluster.operators[0].tell(1, clone).await;
    assert!(
        matches!(refusal, Some(Refusal::Precondition { .. })),
        "{refusal:?}"
    );
    assert!(
        Operator::try_connect(&cluster.nodes[1], &cluster.tls, "stranger")
            .await
            .is_err()
    );
    assert!(cluster.nodes[0].ready().await && cluster.nodes[1].ready().await);
    assert!(
        cluster.nodes[0]
            .get("/is-master")
            .await
            .ends_with(r#"{"isMaster":true}"#)
    );
    assert!(
        cluster.nodes[1]
            .get("/is-master")
            .await
            .ends_with(r#"{"isMaster":false}"#)
    );
    assert!(
        cluster.nodes[0]
            .get("/metrics")
            .await
            .contains("ddb_node_master 1")
    );
}

async fn agent_restart_changes_nothing(cluster: &mut Cluster) {
    for at in [0, 1] {
        let before = cluster.operators[at].state().role;
        if at == 0 {
            // A master waits to be relieved, until the operator says that only its agent is restarted.
            signal(cluster.nodes[at].agent.id(), "-TERM");
            cluster.operators[at]
                .until("stopping", |report| report.stopping)
                .await;
            cluster.operators[at].done("leave", 1, Command::Leave).await;
        } else {
            signal(cluster.nodes[at].agent.id(), "-KILL");
        }
        cluster.nodes[at].agent.wait().unwrap();
        cluster.nodes[at].restart_agent();
        cluster.operators[at] = Operator::connect(&cluster.nodes[at], &cluster.tls, "operator")
            .await
            .unwrap();
        cluster.operators[at]
            .until("up again", |report| up(report).is_some())
            .await;
        let after = cluster.operators[at].state().role;
        assert_eq!(
            std::mem::discriminant(&before),
            std::mem::discriminant(&after),
            "{after:?}"
        );
    }
}

async fn failover_after_kill(cluster: &mut Cluster) -> Vec<u64> {
    let stop = Arc::new(AtomicBool::new(false));
    let writer = load(&cluster.nodes[0], 1, Arc::clone(&stop)).await;
    sleep(Duration::from_secs(1)).await;
    let killed = now();
    signal(cluster.nodes[0].mysqld_pid(), "-KILL");
    let seen = cluster.operators[0].until("down", is_down).await;
    println!(
        "kill -9 of mysqld to report Down: {} ms",
        seen.duration_since(killed).as_millis()
    );
    let seen = cluster.operators[1]
        .until("receiver lost", |report| {
            up(report).is_some_and(|state| {
                matches!(
                    &state.role,
                    Role::Slave {
                        receiver: Receiver::Connecting { .. },
                        ..
                    }
                )
            })
        })
        .await;
    println!(
        "kill -9 of mysqld to slave's receiver Connecting: {} ms",
        seen.duration_since(killed).as_millis()
    );
    let written = writer.await.unwrap();
    println!("{} writes acknowledged in 1 s", written.len());
    for slave in [1, 2] {
        cluster.operators[slave]
            .done("fence slave", 2, fence(false))
            .await;
        assert!(cluster.nodes[slave].ready().await, "a fenced slave serves reads");
    }
    let held = cluster.operators[1]
        .state()
        .holds()
        .union(&cluster.operators[2].state().holds());
    let ahead = if cluster.operators[1].state().holds() == held {
        1
    } else {
        2
    };
    let other = 3 - ahead;
    cluster.operators[ahead]
        .done("drain", 2, Command::Drain { deadline_ms: 3000 })
        .await;
    let promote = Command::Promote {
        acks: 1,
        requires: held.clone(),
    };
    cluster.operators[ahead].done("promote", 2, promote).await;
    let command = follow(&cluster.nodes[ahead], &held);
    cluster.operators[other]
        .done("follow the new master", 2, command)
        .await;
    let mut app = cluster.nodes[ahead].app().await.unwrap();
    raw_sql("INSERT INTO t.r VALUES (1000000)")
        .execute(&mut app)
        .await
        .unwrap();
    println!(
        "kill -9 to first write on the new master: {} ms",
        killed.elapsed().as_millis()
    );
    assert_holds(&cluster.nodes[ahead], &written).await;
    cluster.nodes.swap(1, ahead);
    cluster.operators.swap(1, ahead);
    written
}

/// From here on node 1 is the master.
async fn rejoin_old_master(cluster: &mut Cluster, written: &[u64]) {
    cluster.operators[0]
        .until("reboot", |report| up(report).is_some())
        .await;
    let state = cluster.operators[0].state();
    assert_eq!(
        (state.role.clone(), state.open),
        (Role::Idle, false),
        "it boots fenced"
    );
    assert!(!cluster.nodes[0].ready().await);
    let master = cluster.operators[1].state();
    cluster.operators[0]
        .done("fence the rebooted master", 2, fence(false))
        .await;
    let extra = cluster.operators[0].state().holds().subtract(&master.executed);
    println!("unacknowledged tail of the killed master: {extra}");
    if extra.is_empty() {
        let command = follow(&cluster.nodes[1], &master.executed);
        cluster.operators[0].done("old master follows", 2, command).await;
        cluster.operators[0].until("caught up", is_caught_up).await;
        assert_holds(&cluster.nodes[0], written).await;
    }
}

async fn clone_from_slave(cluster: &mut Cluster, written: &[u64]) {
    let before = cluster.operators[0].report().volume;
    let uuid = cluster.operators[0].state().uuid;
    let clone = Command::Clone {
        donor: "slave".into(),
        address: cluster.nodes[2].address(),
        extra: cluster.extra(0, 2),
    };
    let outcome = cluster.operators[0].send(2, clone);
    let begun = now();
    let (_, refusal) = outcome.await.unwrap();
    println!("clone: {} ms", begun.elapsed().as_millis());
    assert_eq!(refusal, None);
    let report = cluster.operators[0].report();
    assert!(report.volume != before && report.cloning.is_none(), "{report:?}");
    assert_eq!(cluster.operators[0].state().role, Role::Idle);
    assert_ne!(
        cluster.operators[0].state().uuid,
        uuid,
        "no number is given twice"
    );
    let until = cluster.operators[1].state().executed;
    follow_with_new_data(cluster, &until).await;
    cluster.operators[0].until("caught up", is_caught_up).await;
    assert_holds(&cluster.nodes[0], written).await;
    // The same command again, and in a newer term, restarts nothing.
    let command = follow(&cluster.nodes[1], &until);
    cluster.operators[0].done("follow again", 2, command).await;
    assert!(cluster.nodes[0].ready().await);
}

/// An operator that has heard nothing of the master for long: the node asks the master itself, or does not follow.
async fn follow_with_new_data(cluster: &mut Cluster, executed: &GtidSet) {
    let told = |address: String| Command::Follow {
        source: "slave".into(),
        address,
        until: GtidSet::new(),
        whole: false,
    };
    let (_, refusal) = cluster.operators[0].tell(2, told("127.0.0.9:1".into())).await;
    let why = format!("{refusal:?}");
    assert!(why.contains("cannot be asked what it has"), "{why}");
    assert_eq!(cluster.operators[0].report().followed, None);
    let command = told(cluster.nodes[1].address());
    cluster.operators[0].done("follow after clone", 2, command).await;
    let until = cluster.nodes[0].remembered_until();
    assert!(until.contains(executed), "{until} lacks some of {executed}");
}

async fn orderly_handover(cluster: &mut Cluster, mut written: Vec<u64>) -> Vec<u64> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for lane in 0..4 {
        writers.push(load(&cluster.nodes[1], 2_000_000 + lane * 1_000_000, Arc::clone(&stop)).await);
    }
    sleep(Duration::from_millis(700)).await;
    let begun = now();
    cluster.operators[1]
        .done("orderly fence of a loaded master", 3, fence(true))
        .await;
    let fenced = cluster.operators[1].report();
    assert!(
        up(&fenced).is_some_and(|state| state.role == Role::Idle),
        "{fenced:?}"
    );
    for slave in [0, 2] {
        cluster.operators[slave]
            .done("fence slave", 3, fence(false))
            .await;
    }
    cluster.operators[0]
        .done("drain", 3, Command::Drain { deadline_ms: 3000 })
        .await;
    let held = up(&fenced).unwrap().executed.clone();
    let missing = held.subtract(&cluster.operators[0].state().executed);
    println!(
        "the target lacked {} transactions after its drain",
        missing.count()
    );
    let held = cluster.operators[0]
        .state()
        .holds()
        .union(&cluster.operators[2].state().holds());
    let target = if cluster.operators[0].state().holds() == held {
        0
    } else {
        2
    };
    cluster.operators[target]
        .done("drain", 3, Command::Drain { deadline_ms: 3000 })
        .await;
    let promote = Command::Promote {
        acks: 1,
        requires: held.clone(),
    };
    cluster.operators[target].done("promote", 3, promote).await;
    for slave in [1, 2 - target] {
        let command = follow(&cluster.nodes[target], &held);
        cluster.operators[slave].done("follow", 3, command).await;
    }
    let mut app = cluster.nodes[target].app().await.unwrap();
    raw_sql("INSERT INTO t.r VALUES (9000000)")
        .execute(&mut app)
        .await
        .unwrap();
    println!(
        "orderly handover to first write: {} ms",
        begun.elapsed().as_millis()
    );
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    println!("{} writes acknowledged in all", written.len());
    for at in 0..3 {
        cluster.operators[at]
            .until("serving", |report| {
                is_caught_up(report)
                    || up(report).is_some_and(|state| matches!(state.role, Role::Master { .. }))
            })
            .await;
    }
    assert_holds(&cluster.nodes[target], &written).await;
    cluster.nodes.swap(0, target);
    cluster.operators.swap(0, target);
    written
}

/// Node 0 is the master. Both slaves are fenced, a write hangs, and the master is fenced without order.
async fn hung_commit_is_never_acknowledged(cluster: &mut Cluster) {
    for slave in [1, 2] {
        cluster.operators[slave]
            .done("fence slave", 4, fence(false))
            .await;
    }
    let mut app = cluster.nodes[0].app().await.unwrap();
    let hung = tokio::spawn(async move {
        raw_sql("INSERT INTO t.r VALUES (9900000)")
            .execute(&mut app)
            .await
            .is_ok()
    });
    sleep(Duration::from_millis(300)).await;
    let waiting = match cluster.operators[0].state().role {
        Role::Master { waiting, .. } => waiting,
        other => panic!("{other:?}"),
    };
    assert!(waiting > 0, "the write waits");
    cluster.operators[0]
        .done(
            "fence of a master with a waiting commit (killed, held)",
            4,
            fence(false),
        )
        .await;
    assert!(!hung.await.unwrap(), "an unreplicated write was acknowledged");
    let fenced = cluster.operators[0].report();
    assert_eq!((fenced.tail, fenced.fenced), (Some(Tail::Held), Some(Term(4))));
    cluster.operators[0]
        .until("up", |report| up(report).is_some())
        .await;
    let state = cluster.operators[0].state();
    assert_eq!((state.role.clone(), state.open), (Role::Idle, false));
    assert_eq!(cluster.operators[0].report().fenced, Some(Term(4)));
}

/// A stopped process answers nothing: it is reported as hung, and its fence is a kill. The lock of its socket names a
/// process that lives, as it may after the whole container was killed; the next life takes no notice.
async fn frozen_slave_is_fenced_by_a_kill(cluster: &mut Cluster) {
    let begun = now();
    let lock = cluster.nodes[2].directory.join("run/mysql.sock.lock");
    std::fs::write(lock, format!("{}\n", cluster.nodes[2].agent.id())).unwrap();
    signal(cluster.nodes[2].mysqld_pid(), "-STOP");
    let seen = cluster.operators[2]
        .until("hung", |report| matches!(report.server, Server::Hung { .. }))
        .await;
    println!(
        "SIGSTOP of mysqld to report Hung: {} ms",
        seen.duration_since(begun).as_millis()
    );
    cluster.operators[2]
        .done("fence of a frozen slave (killed, booted)", 4, fence(false))
        .await;
    assert_eq!(cluster.operators[2].report().fenced, Some(Term(4)));
}

/// Ends supervisors of nodes 1 and 2: both are fenced slaves, so both may be shut down cleanly.
async fn supervisor_signals(cluster: &mut Cluster) {
    // Node 1 leads again, so that its mysqld must not be shut down cleanly.
    let executed = cluster.operators[1].state().executed;
    cluster.operators[1]
        .done("drain", 4, Command::Drain { deadline_ms: 3000 })
        .await;
    let promote = Command::Promote {
        acks: 1,
        requires: executed,
    };
    cluster.operators[1].done("promote", 4, promote).await;
    for (at, clean) in [(1, false), (2, true)] {
        let begun = now();
        signal(cluster.nodes[at].supervisor.id(), "-TERM");
        cluster.nodes[at].supervisor.wait().unwrap();
        println!(
            "SIGTERM to the supervisor, clean {clean}: {} ms",
            begun.elapsed().as_millis()
        );
        let log = std::fs::read_to_string(cluster.nodes[at].directory.join("mysql.log")).unwrap();
        let last = log.lines().rfind(|line| line.contains("told to end")).unwrap();
        assert_eq!(last.contains("SIGTERM to mysqld"), clean, "{last}");
        cluster.operators[at].until("down", is_down).await;
        cluster.nodes[at].restart_supervisor();
        cluster.operators[at]
            .until("up", |report| up(report).is_some())
            .await;
        assert_eq!(cluster.operators[at].state().role, Role::Idle);
    }
}
