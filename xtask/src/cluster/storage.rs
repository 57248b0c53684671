//! The storage class `local`: its provisioner (`local/provisioner`) and a check that a volume comes and goes.

use std::{thread, time::Duration};

use anyhow::{Result, bail};

use super::{
    Cluster,
    launch::Daemon,
    plan::{Folders, Place, text},
    tools::Tools,
};
use crate::{host, progress::Step};

pub fn daemon(folders: &Folders, tools: &Tools) -> Daemon {
    Daemon::new("provisioner", Place::Control, tools.path("provisioner")).arguments([
        format!("-root={}", text(&folders.volumes())),
        format!("-kubeconfig={}", text(&folders.admin())),
    ])
}

/// Expansion stays off: a directory has no size that could grow.
pub const MANIFEST: &str = "apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: local
  annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}
provisioner: ddb.local/directory
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
allowVolumeExpansion: false
";

/// The annotation stands for the scheduler's choice, so that no pod is needed to see a volume come.
const PROBE: &str = "apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: ddb-storage-check
  namespace: kube-system
  annotations: {volume.kubernetes.io/selected-node: node1}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: local
  resources: {requests: {storage: 1Mi}}
";

/// Waits until a claim is bound, then deletes it.
pub fn check(cluster: &Cluster) -> Result<()> {
    let _step = Step::begin("waiting for the StorageClass to give a volume");
    let deadline = host::now() + Duration::from_mins(1);
    cluster.apply(PROBE)?;
    let claim = [
        "-n",
        "kube-system",
        "get",
        "pvc",
        "ddb-storage-check",
        "-o",
        "jsonpath={.status.phase}",
    ];
    while cluster.ask(&claim).ok().as_deref() != Some("Bound") {
        if host::now() > deadline {
            bail!(
                "the StorageClass gave no volume within 60 s, see {}",
                text(&cluster.folders.log("provisioner"))
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
    cluster
        .ask(&[
            "-n",
            "kube-system",
            "delete",
            "pvc",
            "ddb-storage-check",
            "--wait=false",
        ])
        .map(drop)
}
