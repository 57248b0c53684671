//! Reaching into a node's pod from its machine: its network, its files, and its MySQL server as the administrator.
//!
//! Needs the pod's processes on this machine, as in the local cluster. Both are found through the processes of the
//! pod's control group, so no other server of the machine can be meant.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    thread,
};

use anyhow::{Context, Result, anyhow};
use api::names;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::{
    sched::{CloneFlags, setns},
    unistd::Pid,
};
use sqlx::mysql::MySqlConnection;

use crate::{faults, sql};

/// The process that lives as long as the pod's MySQL container does, through every end of mysqld.
const SUPERVISOR: &str = "ddb-supervisor";

/// The size of InnoDB's pages.
const PAGE: u64 = 16 * 1024;
/// So many bytes behind the first page are overwritten: most of the dictionary's roots.
const SPOILT: usize = 60 * 16 * 1024;

/// The network of the pod with this UID; none while it has no running container.
pub fn network(uid: &str) -> Option<File> {
    let pid = faults::process_of_uid(uid, SUPERVISOR)?;
    File::open(format!("/proc/{pid}/ns/net")).ok()
}

/// Moves this thread into a network, for good. Only for threads that end with their work.
pub fn enter(network: &File) -> Result<()> {
    setns(network, CloneFlags::CLONE_NEWNET).context("entering a pod's network")
}

/// Runs a client within the network of a pod, on a thread of its own, and gives what comes of it.
pub async fn client<T: Send + 'static>(
    pod: &Pod,
    work: impl AsyncFnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let name = pod.name_any();
    let uid = pod.uid().context("a pod without UID")?;
    let network = network(&uid).with_context(|| format!("{name} has no network here"))?;
    let thread = thread::Builder::new().name(format!("in {name}"));
    let running = thread.spawn(move || {
        enter(&network)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(work())
    })?;
    let joined = tokio::task::spawn_blocking(move || running.join()).await?;
    joined.map_err(|_| anyhow!("the client in {name} ended badly"))?
}

/// A connection as MySQL's administrator, over the socket in the pod.
pub async fn administrator(pod: &Pod) -> Result<MySqlConnection> {
    let pid = faults::process_of(pod, SUPERVISOR)?;
    sql::connect_socket(&in_root(pid, names::MYSQL_SOCKET), "root").await
}

/// Overwrites pages of MySQL's own dictionary, on which no mysqld starts. One that runs may not notice.
pub fn spoil_data(pod: &Pod) -> Result<()> {
    let pid = faults::process_of(pod, SUPERVISOR)?;
    let path = in_root(pid, names::MYSQL_DATA_DIR).join("mysql.ibd");
    let file = File::options()
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    file.write_all_at(&vec![0xa5; SPOILT], PAGE)?;
    Ok(())
}

/// What a file of the pod's MySQL container holds.
pub fn file(pod: &Pod, path: &str) -> Result<Vec<u8>> {
    let pid = faults::process_of(pod, SUPERVISOR)?;
    let path = in_root(pid, path);
    fs::read(&path).with_context(|| format!("reading {}", path.display()))
}

/// A path of the pod's MySQL container, as it is reached from here.
pub fn in_root(pid: Pid, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}
