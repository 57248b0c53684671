//! A cluster of three nodes for tests, its usual commands, and load on it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, dead_code)]

use std::{
    path::PathBuf,
    process::Command as Process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::{kept::KeptTransactions, wire::Command};
use failover::{GtidSet, NodeReport, Server};
use sqlx::{AssertSqlSafe, Row, raw_sql};
use tokio::time::sleep;

use super::{Node, Operator, certificates, is_caught_up, now, programs, up};

/// Tells that a test is left out, and for want of what. Where a mysqld is named, tests on real servers are wanted, and one
/// that is left out all the same must not pass for one that held.
pub fn skip(missing: &str) {
    assert!(
        !mysqld_is_named(),
        "DDB_TEST_MYSQLD names a mysqld, and the test cannot be run: {missing}"
    );
    println!("SKIPPED: {missing}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether tests on real servers are wanted differs from machine to machine"
)]
fn mysqld_is_named() -> bool {
    std::env::var_os("DDB_TEST_MYSQLD").is_some()
}

pub fn signal(pid: impl std::fmt::Display, signal: &str) {
    assert!(
        Process::new("kill")
            .args([signal, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

pub fn fence(orderly: bool) -> Command {
    Command::Fence {
        orderly,
        deadline_ms: 2000,
    }
}

pub fn follow(node: &Node, until: &GtidSet) -> Command {
    Command::Follow {
        source: node.name.as_str().into(),
        address: node.address(),
        until: until.clone(),
        whole: true,
    }
}

pub fn is_down(report: &NodeReport) -> bool {
    matches!(report.server, Server::Down { .. })
}

pub struct Cluster {
    pub root: PathBuf,
    pub tls: PathBuf,
    pub nodes: Vec<Node>,
    pub operators: Vec<Operator>,
}

impl Cluster {
    pub async fn start(name: &str) -> Option<Self> {
        let (mysqld, supervisor) = match programs() {
            Ok(found) => found,
            Err(missing) => {
                skip(&missing);
                return None;
            }
        };
        let root = std::env::temp_dir().join(format!("ddb-{name}-{}", std::process::id()));
        let tls = root.join("tls");
        certificates(&tls);
        let begun = now();
        let api: Vec<(String, u16)> = ["a", "b", "c"]
            .map(|name| (name.to_owned(), super::free_port()))
            .to_vec();
        let nodes: Vec<Node> = ["a", "b", "c"]
            .iter()
            .map(|name| Node::start(&root, name, &tls, &mysqld, &supervisor, &api))
            .collect();
        let mut operators = Vec::new();
        for node in &nodes {
            operators.push(Operator::connect(node, &tls, "operator").await.unwrap());
        }
        for operator in &operators {
            operator.until("up", |report| up(report).is_some()).await;
        }
        println!(
            "three nodes initialised and up: {} ms",
            begun.elapsed().as_millis()
        );
        Some(Self {
            root,
            tls,
            nodes,
            operators,
        })
    }

    pub async fn fence_all(&mut self, term: u64) {
        for at in 0..3 {
            let what = format!("fence {} (idle)", self.nodes[at].name);
            self.operators[at].done(&what, term, fence(false)).await;
        }
    }

    pub async fn make_first_master(&mut self) {
        self.fence_all(1).await;
        let promote = Command::Promote {
            acks: 1,
            requires: GtidSet::new(),
        };
        self.operators[0].done("promote a", 1, promote).await;
        let until = self.operators[0].state().executed;
        for slave in [1, 2] {
            let command = follow(&self.nodes[0], &until);
            self.operators[slave].done("follow a", 1, command).await;
        }
        for slave in [1, 2] {
            self.operators[slave].until("caught up", is_caught_up).await;
        }
    }
}

/// Writes rows through the application's account until told to stop; returns the numbers acknowledged.
pub async fn load(node: &Node, first: u64, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<u64>> {
    let mut connection = node.app().await.unwrap();
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for number in first.. {
            let sql = format!("INSERT INTO t.r (n) VALUES ({number})");
            if stop.load(Ordering::Relaxed)
                || raw_sql(AssertSqlSafe(sql))
                    .execute(&mut connection)
                    .await
                    .is_err()
            {
                return acknowledged;
            }
            acknowledged.push(number);
        }
        acknowledged
    })
}

pub async fn rows(node: &Node) -> Vec<u64> {
    let rows = raw_sql("SELECT n FROM t.r ORDER BY n")
        .fetch_all(&mut node.root().await)
        .await
        .unwrap();
    rows.iter().map(|row| row.try_get_unchecked(0).unwrap()).collect()
}

pub async fn assert_holds(node: &Node, acknowledged: &[u64]) {
    let rows = rows(node).await;
    let missing: Vec<&u64> = acknowledged
        .iter()
        .filter(|number| !rows.contains(number))
        .collect();
    assert!(
        missing.is_empty(),
        "{} lacks acknowledged rows {missing:?}",
        node.name
    );
}

/// Proves that the file holds these rows of `t.r` as inserts, and these transactions whole, and no others.
pub fn assert_keeps(one: &KeptTransactions, transactions: &GtidSet, rows: &[u64]) {
    assert_eq!(&one.transactions, transactions);
    let file = PathBuf::from(one.file.as_ref().expect("there is a file"));
    assert_eq!(std::fs::metadata(&file).unwrap().len(), one.bytes);
    let whole = node::binlog::whole(&mut std::fs::File::open(&file).unwrap()).unwrap();
    assert_eq!(&whole, transactions);
    let Some(shown) = super::mysqlbinlog(&file) else {
        return skip("there is no mysqlbinlog beside mysqld, so the rows are not looked at");
    };
    let inserted: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("###   @1="))
        .collect();
    let wanted: Vec<String> = rows.iter().map(ToString::to_string).collect();
    assert_eq!(inserted, wanted, "{shown}");
}

/// The application's account and those of the data API's roles: whatever is missing of them, a new master writes.
pub async fn wait_for_account(node: &Node) {
    let begun = now();
    loop {
        // The grant that marks the application's account as complete is the last one; a role's is unlocked last. All of
        // them, the resource's own role, too: a statement about accounts that is under way when the slaves are lost
        // keeps them from coming back.
        let shown = raw_sql(
            "SELECT 1 FROM mysql.user WHERE User='app' AND Show_db_priv='Y' AND 4 = \
             (SELECT COUNT(*) FROM mysql.user WHERE account_locked = 'N' AND \
             (User LIKE 'ddb\\_api\\_%' OR User LIKE 'ddb\\_role\\_%'))",
        );
        if shown
            .fetch_optional(&mut node.root().await)
            .await
            .unwrap()
            .is_some()
            && node.app().await.is_ok()
        {
            println!("accounts after {} ms", begun.elapsed().as_millis());
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "no application account"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// What the node has executed by now, which its last report need not tell yet.
pub async fn executed(node: &Node) -> GtidSet {
    let row = raw_sql("SELECT @@GLOBAL.gtid_executed")
        .fetch_one(&mut node.root().await)
        .await
        .unwrap();
    row.get::<String, _>(0).parse().unwrap()
}

/// The value in the middle.
pub fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Cluster {
    /// A led cluster with an account and an empty table `t.r`; node 0 is the master of term 1.
    pub async fn led(name: &str) -> Option<Self> {
        let mut cluster = Self::start(name).await?;
        cluster.make_first_master().await;
        wait_for_account(&cluster.nodes[0]).await;
        raw_sql("CREATE DATABASE t; CREATE TABLE t.r (n BIGINT PRIMARY KEY)")
            .execute(&mut cluster.nodes[0].app().await.unwrap())
            .await
            .unwrap();
        Some(cluster)
    }

    /// What the master has executed by now, once the slave has it too.
    pub async fn caught_up(&self, slave: usize) -> GtidSet {
        let all = executed(&self.nodes[0]).await;
        let has_all = |report: &NodeReport| up(report).is_some_and(|state| state.executed.contains(&all));
        self.operators[slave].until("all of the master's", has_all).await;
        all
    }

    /// What one node holds and another has not executed.
    pub fn extra(&self, of: usize, other: usize) -> GtidSet {
        let holds = self.operators[of].state().holds();
        holds.subtract(&self.operators[other].state().executed)
    }

    /// Ends all processes and forgets the files.
    pub fn end(self) {
        let root = self.root.clone();
        drop(self);
        std::fs::remove_dir_all(root).unwrap();
    }
}
