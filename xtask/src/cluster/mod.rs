//! A real Kubernetes cluster on one machine: every node a network namespace with its own kubelet and containerd.
//!
//! Here are the commands and what they share. It must leave alone everything that is not its own: see `docs/local-cluster.md`.

mod cgroup;
mod control_plane;
mod dns;
mod down;
mod fault;
mod launch;
mod network;
mod node;
mod pki;
mod plan;
pub mod requirements;
mod state;
mod status;
mod storage;
mod tools;
mod up;

use std::{
    fs::{File, TryLockError},
    os::unix::process::CommandExt,
    path::Path,
    process,
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::{
    host,
    process::{feed, output},
    progress::Step,
};
use cgroup::Groups;
use plan::{CONTROL_NAMESPACE, Folders, text};
use state::State;
use tools::Tools;

pub use plan::Node;

#[derive(Subcommand)]
pub enum Command {
    /// Make the cluster, or repair it; returns at once when it is healthy.
    Up {
        /// How many nodes; without it, as many as there are, or 3.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=i64::from(plan::MOST_NODES)))]
        nodes: Option<u8>,
    },
    /// Take the cluster away, with its data; the builds stay cached.
    Down,
    /// Say what runs, and which faults are in force.
    Status,
    /// Print the path of the administrator's kubeconfig (its addresses exist only inside the namespaces: see `exec`).
    Kubeconfig,
    /// Run a command in the control plane's network, with KUBECONFIG set and kubectl, helm and ctr in PATH.
    Exec {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Break something, or mend it.
    #[command(subcommand)]
    Fault(fault::Command),
}

pub fn run(command: Command) -> Result<()> {
    host::ensure_linux_root()?;
    let folders = Folders {
        cache: host::cache_dir()?,
    };
    match command {
        Command::Up { nodes } => up::run(folders, nodes),
        Command::Down => down::run(&folders),
        Command::Status => status::run(folders),
        Command::Kubeconfig => {
            State::existing(&folders)?;
            println!("{}", text(&folders.admin()));
            Ok(())
        }
        Command::Exec { words } => Cluster::existing(folders)?.exec(&words),
        Command::Fault(command) => {
            let _lock = lock(&folders.cache)?;
            fault::run(&mut Cluster::existing(folders)?, command)
        }
    }
}

/// A cluster whose programs are built and whose shape is known; not necessarily a healthy one.
pub struct Cluster {
    folders: Folders,
    tools: Tools,
    groups: Groups,
    state: State,
}

impl Cluster {
    fn existing(folders: Folders) -> Result<Self> {
        let state = State::existing(&folders)?;
        let tools = Tools::built(&folders.cache)?;
        Ok(Self {
            groups: Groups::find()?,
            state,
            tools,
            folders,
        })
    }

    /// The cluster of this cache folder, for other commands; an error when there is none.
    pub fn open(cache: &Path) -> Result<Self> {
        Self::existing(Folders {
            cache: cache.to_owned(),
        })
    }

    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        Node::all(self.state.nodes)
    }

    /// A program inside the control plane's network, with what clients need in its environment.
    pub fn inside(&self, program: &str) -> process::Command {
        let mut command = network::inside(CONTROL_NAMESPACE);
        command
            .arg(program)
            .env("KUBECONFIG", self.folders.admin())
            .env("PATH", self.tools.search_path());
        command
    }

    /// kubectl's answer, without the line's end.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = self.inside(&self.tools.path("kubectl"));
        command.arg("--request-timeout=5s").args(words);
        output(&mut command).map(|text| text.trim_end().to_owned())
    }

    /// `kubectl apply` of a manifest, repeatable.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let mut command = self.inside(&self.tools.path("kubectl"));
        command.args(["apply", "-f", "-"]);
        feed(&mut command, manifest).map(drop)
    }

    /// containerd's own client for one node's images, as the kubelet sees them.
    pub fn ctr(&self, node: Node) -> process::Command {
        let mut command = crate::process::command([self.tools.path("ctr")]);
        command
            .arg("--address")
            .arg(self.folders.containerd_socket(node))
            .args(["--namespace", "k8s.io"]);
        command
    }

    fn exec(&self, words: &[String]) -> Result<()> {
        let (program, rest) = words
            .split_first()
            .context("a command is needed after `exec --`")?;
        let error = self
            .inside(program)
            .args(rest)
            .stdin(process::Stdio::inherit())
            .exec();
        bail!("`nsenter` cannot be started: {error}")
    }
}

/// The paths of etcd and of the API server, built where they are missing; for a control plane of one's own.
pub fn control_plane_programs(cache: &Path) -> Result<(String, String)> {
    let tools = Tools::ensure(cache)?;
    Ok((tools.path("etcd"), tools.path("kube-apiserver")))
}

/// Held while the cluster or its images are changed, so that two commands do not undo each other's work.
pub fn lock(cache: &Path) -> Result<File> {
    lock_named(cache, "lock")
}

/// A lock of another name, for work that need not wait for the cluster.
pub fn lock_named(cache: &Path, name: &str) -> Result<File> {
    let path = cache.join(name);
    let file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let _step = Step::begin("another `cargo xtask` is at work, waiting for it");
            file.lock().context("waiting for the other command")?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
        }
    }
    Ok(file)
}
