//! Starting daemons in their place: network namespace, mount namespace and control group.

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Cluster, node,
    plan::{Place, namespace_file, text},
};
use crate::process::spawn_daemon;

/// Which mounts a daemon sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The machine's.
    Machine,
    /// A new mount namespace, which this daemon holds for its node.
    NewMounts,
    /// The one that the node's holder keeps.
    Mounts,
}

/// A program that runs as long as the cluster.
#[derive(Clone, Debug)]
pub struct Daemon {
    pub name: String,
    pub place: Place,
    pub root: Root,
    pub words: Vec<String>,
}

impl Daemon {
    pub fn new(name: &str, place: Place, program: String) -> Self {
        Self {
            name: name.to_owned(),
            place,
            root: Root::Machine,
            words: vec![program],
        }
    }

    pub fn in_root(self, root: Root) -> Self {
        Self { root, ..self }
    }

    pub fn arguments(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.words.extend(words);
        self
    }
}

impl Cluster {
    /// Starts a daemon unless it runs already, and remembers it at once: an interrupted command then still knows it.
    pub fn start(&mut self, daemon: &Daemon) -> Result<()> {
        if self.state.process(&daemon.name).is_some() {
            return Ok(());
        }
        let words = self.full_words(daemon)?;
        let log = self.folders.log(&daemon.name);
        let process = spawn_daemon(&words, &self.groups.daemons(daemon.place), &log)
            .with_context(|| format!("{} cannot be started", daemon.name))?;
        self.state.processes.insert(daemon.name.clone(), process);
        self.state.save(&self.folders)
    }

    /// Ends a daemon, without giving it time.
    pub fn stop(&mut self, name: &str) -> Result<()> {
        if let Some(process) = self.state.process(name) {
            let pid = Pid::from_raw(i32::try_from(process.pid)?);
            kill(pid, Signal::SIGKILL).with_context(|| format!("{name} cannot be ended"))?;
        }
        self.state.processes.remove(name);
        self.state.save(&self.folders)
    }

    fn full_words(&self, daemon: &Daemon) -> Result<Vec<String>> {
        // Not `ip netns exec`: it mounts /sys anew and so hides the control groups.
        let net = format!("--net={}", namespace_file(&daemon.place.namespace()));
        let mut words: Vec<String> = vec!["nsenter".into(), net];
        match (daemon.root, daemon.place) {
            (Root::Machine, _) | (_, Place::Control) => words.push("--".into()),
            (Root::NewMounts, _) => {
                words
                    .extend(["--", "unshare", "--mount", "--propagation", "private", "--"].map(String::from));
            }
            (Root::Mounts, Place::Node(of)) => {
                let holder = self.state.process(&node::holder_name(of));
                let holder =
                    holder.with_context(|| format!("the holder process of {} is gone", of.name()))?;
                words.extend([format!("--mount=/proc/{}/ns/mnt", holder.pid), "--".into()]);
            }
        }
        words.extend(["env".into(), format!("PATH={}", self.tools.search_path())]);
        words.extend(daemon.words.iter().cloned());
        Ok(words)
    }

    /// Why a daemon may have ended, for error messages.
    pub fn last_words(&self, daemon: &str) -> String {
        let log = self.folders.log(daemon);
        let all = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = all.lines().collect();
        let tail = lines[lines.len().saturating_sub(5)..].join("\n  ");
        format!("{} ended; {} says:\n  {tail}", daemon, text(&log))
    }
}
