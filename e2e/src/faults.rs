//! Breaking things on purpose: processes by signal, pods and volumes through the API.
//!
//! Signals need the pod's processes on this machine, as in the local cluster or kind. A process is found by its pod's
//! UID in its control group, never by name alone, so no other MySQL server of the machine can be hit.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// As `kubectl delete pod` does.
    Normal,
    /// With one second of grace.
    Hasty,
    /// As `kubectl delete pod --force --grace-period=0` does: the object is gone at once.
    Forced,
}

/// Sends a signal to mysqld in the pod.
pub fn signal_mysqld(pod: &Pod, signal: Signal) -> Result<()> {
    let pid = process_of(pod, "mysqld")?;
    kill(pid, signal).with_context(|| format!("sending {signal} to mysqld of {}", pod.name_any()))
}

/// Sends a signal to the pod's process that is called `name` in /proc/PID/comm.
pub fn signal_process(pod: &Pod, name: &str, signal: Signal) -> Result<()> {
    let pid = process_of(pod, name)?;
    kill(pid, signal).with_context(|| format!("sending {signal} to {name} of {}", pod.name_any()))
}

/// Stops everything of a node in its tracks, or lets it go on: neither its agent nor its MySQL answers.
pub fn freeze_node(pod: &Pod, stop: bool) -> Result<()> {
    let signal = if stop { Signal::SIGSTOP } else { Signal::SIGCONT };
    // The agent first: it would report the other.
    signal_process(pod, "ddb-node", signal)?;
    signal_process(pod, "mysqld", signal)
}

/// The number of a pod's process here.
pub fn process_of(pod: &Pod, name: &str) -> Result<Pid> {
    let uid = pod.metadata.uid.as_deref().context("a pod without UID")?;
    process_of_uid(uid, name)
        .with_context(|| format!("no process {name} of pod {} on this machine", pod.name_any()))
}

/// The number of a process here that belongs to the pod with this UID.
pub fn process_of_uid(uid: &str, name: &str) -> Option<Pid> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|text| text.parse::<i32>().ok())
        else {
            continue;
        };
        // Processes end while we look: what cannot be read is not the one.
        let Ok(comm) = fs::read_to_string(entry.path().join("comm")) else {
            continue;
        };
        let Ok(groups) = fs::read_to_string(entry.path().join("cgroup")) else {
            continue;
        };
        if comm.trim() == name && belongs_to(&groups, uid) {
            return Some(Pid::from_raw(pid));
        }
    }
    None
}

fn belongs_to(groups: &str, uid: &str) -> bool {
    // The systemd driver writes the UID with underscores.
    groups.contains(uid) || groups.contains(&uid.replace('-', "_"))
}

/// A volume whose writes hang until this is released or dropped.
#[must_use = "the storage hangs as long as this lives"]
pub struct Hang {
    controls: Vec<PathBuf>,
    device: String,
}

impl Hang {
    /// Lets the writes go on.
    pub fn release(self) -> Result<()> {
        self.set("0")
    }

    fn set(&self, bytes_per_second: &str) -> Result<()> {
        for control in &self.controls {
            let line = if control.ends_with("io.max") {
                let limit = if bytes_per_second == "0" {
                    "max"
                } else {
                    bytes_per_second
                };
                format!("{} wbps={limit}", self.device)
            } else {
                format!("{} {bytes_per_second}", self.device)
            };
            fs::write(control, line).with_context(|| format!("writing {}", control.display()))?;
        }
        Ok(())
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        // Released already, or the pod is gone and its group with it.
        let _ = self.set("0");
    }
}

/// Makes every write of the pod to the disk below its volume hang, as a storage that lost its backend: one byte a
/// second is let through. Reads and the network go on.
pub fn hang_storage(pod: &Pod) -> Result<Hang> {
    let uid = pod.metadata.uid.as_deref().context("a pod without UID")?;
    let pid = process_of(pod, "mysqld")?;
    let volume =
        fs::metadata(format!("/proc/{pid}/root{}", api::names::DATA_DIR)).context("the pod's volume")?;
    let device = volume.dev();
    let device = format!(
        "{}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device)
    );
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("the groups of mysqld")?;
    let (folder, group, file) = groups
        .lines()
        .find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, group) = (parts.next()?, parts.next()?);
            match controllers {
                "blkio" => Some(("/sys/fs/cgroup/blkio", group, "blkio.throttle.write_bps_device")),
                "" if !Path::new("/sys/fs/cgroup/blkio").exists() => {
                    Some(("/sys/fs/cgroup", group, "io.max"))
                }
                _ => None,
            }
        })
        .context("no control group limits the writes of mysqld")?;
    // The pod's own group, so that the agent's writes hang with MySQL's.
    let end = group
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([group.len()])
        .find(|end| belongs_to(&group[..*end], uid))
        .context("the group of mysqld is not below its pod's")?;
    let group = PathBuf::from(format!("{folder}{}", &group[..end]));
    let mut controls = vec![group.join(file)];
    // The older control groups know no hierarchy of limits: each container's group has its own.
    let containers = fs::read_dir(&group).with_context(|| format!("reading {}", group.display()))?;
    controls.extend(
        containers
            .flatten()
            .map(|entry| entry.path().join(file))
            .filter(|control| control.exists()),
    );
    let hang = Hang { controls, device };
    hang.set("1")?;
    Ok(hang)
}

/// Deletes the pod, only if it is still the same one.
pub async fn delete_pod(pods: &Api<Pod>, pod: &Pod, how: Deletion) -> Result<()> {
    let grace_period_seconds = match how {
        Deletion::Normal => None,
        Deletion::Hasty => Some(1),
        Deletion::Forced => Some(0),
    };
    let preconditions = Some(Preconditions {
        uid: pod.metadata.uid.clone(),
        resource_version: None,
    });
    let how = DeleteParams {
        grace_period_seconds,
        preconditions,
        ..DeleteParams::default()
    };
    pods.delete(&pod.name_any(), &how)
        .await
        .with_context(|| format!("deleting pod {}", pod.name_any()))?;
    Ok(())
}

/// Deletes the pod and its volumes; the volumes first, because a claim in use stays until its pod is gone and then the
/// pod's replacement could not take it again.
pub async fn delete_pod_and_volumes(client: &Client, pod: &Pod) -> Result<()> {
    let namespace = pod.namespace().context("a pod without namespace")?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace);
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let names: Vec<String> = volumes
        .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()))
        .collect();
    ensure!(!names.is_empty(), "pod {} has no volume", pod.name_any());
    for name in names {
        claims
            .delete(&name, &DeleteParams::default())
            .await
            .with_context(|| format!("deleting volume {name}"))?;
    }
    delete_pod(
        &Api::namespaced(client.clone(), &namespace),
        pod,
        Deletion::Forced,
    )
    .await
}

/// Asks for a switchover, as `kubectl annotate` does.
pub async fn ask_to_promote(client: &Client, namespace: &str, database: &str, pod: &str) -> Result<()> {
    annotate(
        client,
        namespace,
        database,
        api::names::ANNOTATION_PROMOTE,
        Some(pod),
    )
    .await
}

/// Sets an annotation of a database, or takes it away, as `kubectl annotate` does.
pub async fn annotate(
    client: &Client,
    namespace: &str,
    database: &str,
    annotation: &str,
    value: Option<&str>,
) -> Result<()> {
    let databases = Api::<api::DistributedDatabase>::namespaced(client.clone(), namespace);
    let annotations = std::collections::BTreeMap::from([(annotation, value)]);
    let metadata = std::collections::BTreeMap::from([("annotations", annotations)]);
    let patch = Patch::Merge(std::collections::BTreeMap::from([("metadata", metadata)]));
    databases
        .patch(database, &PatchParams::default(), &patch)
        .await
        .context("annotating the database")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_to_a_pod_by_its_control_group_in_either_spelling() {
        let uid = "8f1c2d3e-0000-4000-8000-123456789abc";
        assert!(belongs_to(
            "9:pids:/ddb/n1/kubepods/burstable/pod8f1c2d3e-0000-4000-8000-123456789abc/12ab\n",
            uid
        ));
        assert!(belongs_to(
            "0::/kubepods-pod8f1c2d3e_0000_4000_8000_123456789abc.slice/cri-1.scope\n",
            uid
        ));
        assert!(!belongs_to("0::/user.slice/session-1.scope\n", uid));
    }
}
