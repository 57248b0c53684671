//! `cluster down`: takes away everything that a cluster made, whole or half, of this session or an earlier one.
//!
//! Finds it by control groups, namespaces and mounts, never by a process's name, and needs no state file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    cgroup::Groups,
    lock, network,
    plan::{Folders, text},
};
use crate::{
    process::{command, run as run_command, succeeds},
    progress::Step,
};

/// Names the cluster's folder, so that two cache folders do not fight for the same namespaces.
const OWNER: &str = "/run/ddb-cluster";

/// Folders of the machine that a cluster needs and may be the first to make; `ip netns` also mounts the first over itself.
const FOLDERS_MADE: [&str; 4] = [
    NAMESPACES,
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/containers",
];
const NAMESPACES: &str = "/run/netns";

pub fn run(folders: &Folders) -> Result<()> {
    let _lock = lock(&folders.cache)?;
    let groups = Groups::find()?;
    refuse_foreign(folders, &groups)?;
    let there = folders.cluster().exists() || groups.exist() || !network::existing().is_empty();
    clear(folders, &groups)?;
    eprintln!(
        "{}",
        if there {
            "the cluster is gone"
        } else {
            "there was no cluster"
        }
    );
    Ok(())
}

/// Fails when a cluster of another cache folder runs on this machine.
pub fn refuse_foreign(folders: &Folders, groups: &Groups) -> Result<()> {
    let Some((owner, _)) = owner() else { return Ok(()) };
    if owner == folders.cluster() || groups.members(None).is_empty() {
        return Ok(());
    }
    let cache = owner.parent().unwrap_or(&owner).display();
    bail!(
        "a cluster of another cache folder runs here: take it down first with `DDB_CACHE={cache} cargo xtask cluster down`"
    )
}

/// Marks this machine as ours, and makes the folders that the nodes mount over.
pub fn claim(folders: &Folders) -> Result<()> {
    let made: Vec<&str> = FOLDERS_MADE
        .into_iter()
        .filter(|folder| !Path::new(folder).exists())
        .collect();
    let lines: Vec<String> = std::iter::once(text(&folders.cluster()))
        .chain(made.iter().map(ToString::to_string))
        .collect();
    fs::write(OWNER, lines.join("\n")).with_context(|| format!("{OWNER} cannot be written"))?;
    for folder in made {
        fs::create_dir_all(folder).with_context(|| format!("{folder} cannot be made"))?;
    }
    Ok(())
}

/// Ends and removes everything; good for nothing, for a whole cluster and for the remains of one.
pub fn clear(folders: &Folders, groups: &Groups) -> Result<()> {
    let _step = Step::begin("taking the cluster away");
    groups.kill(None)?;
    network::remove()?;
    unmount_below(&folders.cluster())?;
    groups.remove()?;
    remove_folder(&folders.cluster())?;
    if let Some((_, made)) = owner() {
        for folder in made.iter().rev() {
            if folder == Path::new(NAMESPACES) && is_empty(folder) {
                let _ = succeeds(&mut command(["umount", NAMESPACES]));
            }
            // Only if empty: what somebody else put there since is not ours.
            let _ = fs::remove_dir(folder);
        }
        fs::remove_file(OWNER).with_context(|| format!("{OWNER} cannot be removed"))?;
    }
    Ok(())
}

/// The folder of the cluster that claimed this machine, and the folders made for it.
fn owner() -> Option<(PathBuf, Vec<PathBuf>)> {
    let text = fs::read_to_string(OWNER).ok()?;
    let mut lines = text.lines().map(PathBuf::from);
    let cluster = lines.next()?;
    Some((
        cluster,
        lines
            .filter(|folder| FOLDERS_MADE.iter().any(|ours| folder == Path::new(ours)))
            .collect(),
    ))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// The nodes' mounts live in their own namespaces; only an interrupted or foreign one can be here.
fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts cannot be read")?;
    for target in mounts_below(&mounts, &text(folder)) {
        run_command(&mut command(["umount", "-l", target]))?;
    }
    Ok(())
}

/// The mount points below a folder, the last mounted first.
fn mounts_below<'a>(mounts: &'a str, folder: &str) -> Vec<&'a str> {
    let inside = format!("{folder}/");
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut found: Vec<&str> = targets.filter(|target| target.starts_with(&inside)).collect();
    found.reverse();
    found
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_clusters_folder_are_found_and_the_inner_ones_come_first() {
        let mounts = "a / ext4 rw 0 0\nb /c/cluster tmpfs rw 0 0\nb /c/cluster/n1 tmpfs rw 0 0\nb /c/cluster/n1/x tmpfs rw 0 0\nb /c/cluster2/y tmpfs rw 0 0";
        assert_eq!(
            mounts_below(mounts, "/c/cluster"),
            ["/c/cluster/n1/x", "/c/cluster/n1"]
        );
        assert!(mounts_below("", "/c").is_empty());
    }
}
