//! Control groups: every process of the cluster lives below `ddb`, which is how all of them are found, frozen and ended.
//!
//! Works with version 1 hierarchies and with version 2 alone. Touches nothing outside the groups named `ddb`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::plan::Place;

const ROOT: &str = "/sys/fs/cgroup";
const OURS: &str = "ddb";

/// The hierarchies of this machine.
pub struct Groups {
    hierarchies: Vec<PathBuf>,
    /// The hierarchy that can freeze, which also tells who belongs to us.
    freezer: PathBuf,
    version_2: bool,
}

impl Groups {
    pub fn find() -> Result<Self> {
        let root = Path::new(ROOT);
        if root.join("cgroup.controllers").is_file() {
            return Ok(Self {
                hierarchies: vec![root.into()],
                freezer: root.into(),
                version_2: true,
            });
        }
        let entries = fs::read_dir(root).with_context(|| format!("{ROOT} cannot be read"))?;
        let mut hierarchies: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        // Links such as `cpu -> cpu,cpuacct` would list a hierarchy twice.
        hierarchies.retain(|path| !path.is_symlink() && path.join("cgroup.procs").is_file());
        hierarchies.sort();
        let freezer = root.join("freezer");
        ensure!(
            freezer.join("cgroup.procs").is_file(),
            "no control groups: neither version 2 nor the freezer of version 1 is mounted at {ROOT}"
        );
        Ok(Self {
            hierarchies,
            freezer,
            version_2: false,
        })
    }

    /// The group of a place's daemons; pods get theirs beside it from the kubelet.
    pub fn daemons(&self, place: Place) -> PathBuf {
        self.freezer.join(OURS).join(place.group()).join("system")
    }

    /// Makes the groups of one place in every hierarchy, as the kubelet demands.
    pub fn create(&self, place: Place) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let mut group = hierarchy.clone();
            for part in [OURS, &place.group()] {
                if self.version_2 {
                    delegate(&group);
                }
                group.push(part);
                make(&group)?;
                inherit_cpuset(&group);
            }
            if self.version_2 {
                delegate(&group);
            }
        }
        make(&self.daemons(place))
    }

    /// Everything that belongs to `place`, or to the whole cluster.
    pub fn members(&self, place: Option<Place>) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        // A process may be in our group of only one hierarchy, for example while runc is starting it.
        for hierarchy in &self.hierarchies {
            for group in tree(&Self::top(hierarchy, place)) {
                let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                // 0 stands for a process outside our own PID namespace, which no signal of ours can mean.
                found.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<u32>().ok())
                        .filter(|pid| *pid > 1),
                );
            }
        }
        found
    }

    /// Kills every member at once, as a power loss does, and waits until none is left.
    pub fn kill(&self, place: Option<Place>) -> Result<()> {
        self.thaw_tree(place);
        for _ in 0..200 {
            let members = self.members(place);
            if members.is_empty() {
                return Ok(());
            }
            for pid in members {
                if let Ok(pid) = i32::try_from(pid) {
                    // One that is gone meanwhile is what we want.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!(
            "processes {:?} of the cluster do not end after SIGKILL; they hang in the kernel, see /proc/PID/stack",
            self.members(place)
        );
    }

    pub fn freeze(&self, place: Place) -> Result<()> {
        let group = Self::top(&self.freezer, Some(place));
        let (file, word) = if self.version_2 {
            ("cgroup.freeze", "1")
        } else {
            ("freezer.state", "FROZEN")
        };
        fs::write(group.join(file), word).with_context(|| format!("{} cannot be frozen", group.display()))?;
        for _ in 0..100 {
            if self.is_frozen(place) {
                return Ok(());
            }
            // Version 1 gives up when a process forks meanwhile; writing again continues.
            let _ = fs::write(group.join(file), word);
            thread::sleep(Duration::from_millis(20));
        }
        bail!("{} does not freeze within 2 s", group.display())
    }

    pub fn thaw(&self, place: Place) {
        self.thaw_tree(Some(place));
    }

    pub fn is_frozen(&self, place: Place) -> bool {
        let group = Self::top(&self.freezer, Some(place));
        if self.version_2 {
            let events = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
            return events.lines().any(|line| line == "frozen 1");
        }
        fs::read_to_string(group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
    }

    /// Removes the groups, which must be empty of processes; the kernel needs a moment after the last one's end.
    pub fn remove(&self) -> Result<()> {
        let mut left = Vec::new();
        for _ in 0..60 {
            left.clear();
            for hierarchy in &self.hierarchies {
                for group in tree(&hierarchy.join(OURS)) {
                    if fs::remove_dir(&group).is_err() && group.exists() {
                        left.push(group);
                    }
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("control groups {left:?} cannot be removed")
    }

    pub fn exist(&self) -> bool {
        self.hierarchies
            .iter()
            .any(|hierarchy| hierarchy.join(OURS).exists())
    }

    fn top(hierarchy: &Path, place: Option<Place>) -> PathBuf {
        let ours = hierarchy.join(OURS);
        place.map_or(ours.clone(), |place| ours.join(place.group()))
    }

    fn thaw_tree(&self, place: Option<Place>) {
        let (file, word) = if self.version_2 {
            ("cgroup.freeze", "0")
        } else {
            ("freezer.state", "THAWED")
        };
        for group in tree(&Self::top(&self.freezer, place)) {
            let _ = fs::write(group.join(file), word);
        }
    }
}

/// A group and all below it, the deepest first.
fn tree(group: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&entry.path()));
        }
    }
    if group.is_dir() {
        found.push(group.to_owned());
    }
    found
}

fn make(group: &Path) -> Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("the control group {} cannot be made", group.display()))
        }
        _ => Ok(()),
    }
}

/// A new cpuset group is empty, and nothing can start in it before it has processors and memory.
fn inherit_cpuset(group: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let here = fs::read_to_string(group.join(file)).unwrap_or_default();
        if here.trim().is_empty()
            && let Some(parent) = group.parent()
            && let Ok(value) = fs::read_to_string(parent.join(file))
        {
            let _ = fs::write(group.join(file), value.trim());
        }
    }
}

/// Version 2: lets groups below use the controllers that are there; one that may not be passed on is left out.
fn delegate(group: &Path) {
    let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_ascii_whitespace() {
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}
