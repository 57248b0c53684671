//! An applier that stands still. MySQL's own standstill cannot be had at will, so the coordinator's thread is stopped by
//! a tracer while the others run on, which looks the same: workers idle, nothing executed, no error. mysqld is killed and
//! comes back with all that it received. A worker that waits for a lock for as long is left alone.

#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::mpsc, thread, time::Duration};

use failover::GtidSet;
use nix::{
    sys::{ptrace, wait::waitpid},
    unistd::Pid,
};
use sqlx::{Row, raw_sql};
use support::{
    cluster::{Cluster, assert_holds, follow, is_down, skip},
    is_caught_up, up,
};
use tokio::time::sleep;

/// A thread that is stopped until this is dropped; the other threads of its process run on.
struct Stopped {
    release: Option<mpsc::Sender<()>>,
    tracer: Option<thread::JoinHandle<()>>,
}

impl Stopped {
    /// `None` where this machine lets nobody trace.
    fn stop(thread_id: i32) -> Option<Self> {
        let (release, released) = mpsc::channel();
        let (stopped, wait) = mpsc::channel();
        // A tracer is one thread: whoever attached must also let go.
        let tracer = thread::spawn(move || {
            let traced = Pid::from_raw(thread_id);
            let attached = ptrace::seize(traced, ptrace::Options::empty())
                .and_then(|()| ptrace::interrupt(traced))
                .and_then(|()| waitpid(traced, Some(nix::sys::wait::WaitPidFlag::__WALL)));
            stopped.send(attached.is_ok()).unwrap();
            let _ = released.recv();
            // A killed one is gone.
            let _ = ptrace::detach(traced, None);
        });
        wait.recv().unwrap().then_some(Self {
            release: Some(release),
            tracer: Some(tracer),
        })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applier_that_stands_still_ends_mysqld_and_a_lock_does_not() {
    let Some(mut cluster) = Cluster::led("standstill").await else {
        return;
    };
    let slave = &cluster.nodes[1];
    let pid = slave.mysqld_pid();
    let mut root = slave.root().await;
    raw_sql("LOCK TABLES t.r READ").execute(&mut root).await.unwrap();
    let mut app = cluster.nodes[0].app().await.unwrap();
    for n in 0..500 {
        sqlx::query("INSERT INTO t.r VALUES (?)")
            .bind(n)
            .execute(&mut app)
            .await
            .unwrap();
    }
    sleep(Duration::from_secs(15)).await;
    assert_eq!(
        slave.mysqld_pid(),
        pid,
        "a worker waits for a lock, and its server was killed"
    );

    let coordinator =
        raw_sql("SELECT THREAD_OS_ID FROM performance_schema.threads WHERE NAME = 'thread/sql/replica_sql'")
            .fetch_one(&mut slave.root().await)
            .await
            .unwrap();
    let thread_id: u64 = coordinator.try_get_unchecked(0).unwrap();
    let Some(stopped) = Stopped::stop(i32::try_from(thread_id).unwrap()) else {
        cluster.end();
        return skip("no thread of mysqld can be traced here, which needs root or CAP_SYS_PTRACE");
    };
    raw_sql("UNLOCK TABLES").execute(&mut root).await.unwrap();
    cluster.operators[1].until("killed", is_down).await;
    // A traced thread has not ended before its tracer has seen it.
    drop(stopped);
    cluster.operators[1]
        .until("another life", |report| up(report).is_some())
        .await;
    assert_ne!(slave.mysqld_pid(), pid);
    assert!(
        slave
            .get("/metrics")
            .await
            .contains("ddb_node_applier_standstills_total 1")
    );
    let until = cluster.operators[0].state().executed;
    assert_ne!(until, GtidSet::new());
    let command = follow(&cluster.nodes[0], &until);
    cluster.operators[1].done("follow a again", 1, command).await;
    cluster.operators[1].until("caught up", is_caught_up).await;
    let written: Vec<u64> = (0..500).collect();
    assert_holds(&cluster.nodes[1], &written).await;
    cluster.end();
}
