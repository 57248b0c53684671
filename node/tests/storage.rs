//! A volume that hangs: mysqld answers every question and no commit ends. The node of a frozen file system says that its
//! server hangs, and serves again when the file system does. Only the agent's part of the volume is frozen here, so that
//! mysqld surely answers. Needs root for a mount of its own; without it the test fails where `DDB_TEST_MYSQLD` is set, and is
//! skipped otherwise.

#![allow(clippy::unwrap_used)]

mod support;

use std::{path::Path, process::Command as Process, time::Duration};

use api::wire::Command;
use failover::{GtidSet, Role, Server};
use support::{
    Node, Operator, certificates,
    cluster::{fence, skip},
    free_port, now, programs, up,
};
use tokio::time::sleep;

fn run(program: &str, words: &[&str]) -> bool {
    Process::new(program)
        .args(words)
        .status()
        .is_ok_and(|status| status.success())
}

/// A mounted file system of its own, unmounted at the end whatever happens.
struct Volume(String);

impl Volume {
    fn mount(image: &Path, place: &Path) -> Option<Self> {
        std::fs::create_dir_all(place).unwrap();
        let file = std::fs::File::create(image).unwrap();
        file.set_len(32 << 20).unwrap();
        let (image, place) = (image.to_str().unwrap(), place.to_str().unwrap());
        let made = run("mkfs.ext4", &["-q", image]) && run("mount", &["-o", "loop", image, place]);
        made.then(|| Self(place.to_owned()))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = run("fsfreeze", &["-u", &self.0]);
        let _ = run("umount", &["-l", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_hangs_is_reported_and_one_that_goes_on_too() {
    let (mysqld, supervisor) = match programs() {
        Ok(found) => found,
        Err(missing) => return skip(&missing),
    };
    let root = std::env::temp_dir().join(format!("ddb-storage-{}", std::process::id()));
    let tls = root.join("tls");
    certificates(&tls);
    let Some(volume) = Volume::mount(&root.join("image"), &root.join("a/agent")) else {
        return skip(
            "no file system can be made and mounted here, which needs root, loop devices and mkfs.ext4",
        );
    };
    let node = Node::start(
        &root,
        "a",
        &tls,
        &mysqld,
        &supervisor,
        &[("a".to_owned(), free_port())],
    );
    let mut operator = Operator::connect(&node, &tls, "operator").await.unwrap();
    operator.until("up", |report| up(report).is_some()).await;
    operator.done("fence", 1, fence(false)).await;
    let promote = Command::Promote {
        acks: 0,
        requires: GtidSet::new(),
    };
    operator.done("promote", 1, promote).await;
    sleep(Duration::from_secs(4)).await;
    let leads = |report: &failover::NodeReport| {
        up(report).is_some_and(|state| matches!(state.role, Role::Master { .. }))
    };
    assert!(
        leads(&operator.report()),
        "an ordinary volume does not hang: {:?}",
        operator.report()
    );
    let frozen = now();
    assert!(run("fsfreeze", &["-f", &volume.0]));
    let hung = operator
        .until("hung", |report| matches!(report.server, Server::Hung { .. }))
        .await;
    println!("frozen to Hung: {} ms", hung.duration_since(frozen).as_millis());
    assert!(node.get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(!node.ready().await, "a node whose volume hangs does not serve");
    let thawed = now();
    assert!(run("fsfreeze", &["-u", &volume.0]));
    let back = operator.until("up again", leads).await;
    println!("thawed to Up: {} ms", back.duration_since(thawed).as_millis());
    drop(node);
    drop(volume);
    std::fs::remove_dir_all(root).unwrap();
}
