//! What we remember of a running cluster between commands: its shape and its processes.
//!
//! The file is a hint, never the truth: whether a process lives is asked from /proc by number and start time, and what
//! must end is found by control group.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::plan::Folders;
use crate::{
    host,
    process::{ProcessId, write_atomically},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub nodes: u8,
    /// Hash over every program, argument and configuration file; another value means another cluster.
    pub fingerprint: String,
    /// Namespaces and processes end with the machine's run; an equal number afterwards means nothing.
    pub boot: String,
    pub processes: BTreeMap<String, ProcessId>,
    /// Set when the cluster was once completely up; until then a repair has nothing to build on.
    pub complete: bool,
}

impl State {
    pub fn new(nodes: u8, fingerprint: String) -> Self {
        Self {
            nodes,
            fingerprint,
            boot: host::boot_id(),
            processes: BTreeMap::new(),
            complete: false,
        }
    }

    fn file(folders: &Folders) -> PathBuf {
        folders.cluster().join("state.json")
    }

    /// The state of this run of the machine; an unreadable or older one counts as none.
    pub fn load(folders: &Folders) -> Option<Self> {
        let state: Self = serde_json::from_slice(&fs::read(Self::file(folders)).ok()?).ok()?;
        (state.boot == host::boot_id()).then_some(state)
    }

    /// The state, for commands that need a cluster.
    pub fn existing(folders: &Folders) -> Result<Self> {
        Self::load(folders).context("there is no local cluster: run `cargo xtask cluster up`")
    }

    pub fn save(&self, folders: &Folders) -> Result<()> {
        write_atomically(&Self::file(folders), &serde_json::to_vec_pretty(self)?)
    }

    pub fn process(&self, name: &str) -> Option<ProcessId> {
        self.processes
            .get(name)
            .copied()
            .filter(|process| process.is_alive())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(name: &str) -> Folders {
        let cache = std::env::temp_dir().join(format!("ddb-state-{name}-{}", std::process::id()));
        let folders = Folders { cache };
        fs::create_dir_all(folders.cluster()).unwrap();
        folders
    }

    #[test]
    fn a_saved_state_is_read_again() {
        let folders = folders("saved");
        State::new(3, "abc".to_owned()).save(&folders).unwrap();
        assert_eq!(State::load(&folders).unwrap().fingerprint, "abc");
        fs::remove_dir_all(&folders.cache).unwrap();
    }

    #[test]
    fn a_state_of_an_earlier_run_of_the_machine_counts_as_none() {
        let folders = folders("boot");
        State {
            boot: "before".to_owned(),
            ..State::new(3, String::new())
        }
        .save(&folders)
        .unwrap();
        assert!(State::load(&folders).is_none());
        fs::write(State::file(&folders), "{").unwrap();
        assert!(State::load(&folders).is_none(), "a torn file counts as none too");
        fs::remove_dir_all(&folders.cache).unwrap();
    }

    #[test]
    fn a_number_that_another_process_has_now_is_not_ours() {
        let mut state = State::new(1, String::new());
        let me = ProcessId::of(std::process::id()).unwrap();
        state.processes.insert(
            "etcd".to_owned(),
            ProcessId {
                started: me.started + 7,
                ..me
            },
        );
        assert_eq!(state.process("etcd"), None);
    }
}
