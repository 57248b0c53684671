//! One node's programs and configuration files, as data: holder, containerd, kube-proxy, kubelet.
//!
//! kube-proxy of the control namespace is here too, because it differs only by name and address.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{
    launch::{Daemon, Root},
    plan::{self, Folders, Node, Place, text},
    requirements,
    tools::Tools,
};

pub const PAUSE_IMAGE: &str = "localhost/pause:1";

/// Folders of the machine that containerd, CNI and the kubelet write to whatever their settings say. Each node has a
/// memory file system over them, so they never reach the machine and a power loss empties them.
pub const MASKED: [&str; 4] = ["/run", "/var/lib/kubelet", "/var/lib/cni", "/var/log/containers"];

/// The process that keeps the node's mount namespace: the kubelet and containerd must see each other's mounts.
pub fn holder(folders: &Folders, node: Node) -> Daemon {
    let volatile = text(&folders.node(node).join("volatile"));
    let masks: Vec<String> = MASKED
        .iter()
        .map(|folder| format!("mount -t tmpfs -o mode=755 tmpfs {folder}"))
        .collect();
    let script = format!(
        "{} && mkdir -p /run/netns /run/lock && mount -t tmpfs -o mode=755 tmpfs {volatile} && exec sleep infinity",
        masks.join(" && ")
    );
    Daemon::new(&holder_name(node), Place::Node(node), "sh".into())
        .in_root(Root::NewMounts)
        .arguments(["-c".into(), script])
}

pub fn holder_name(node: Node) -> String {
    format!("{}-holder", node.short())
}

pub fn containerd(folders: &Folders, tools: &Tools, node: Node) -> Daemon {
    let config = folders.node(node).join("containerd.toml");
    Daemon::new(
        &format!("{}-containerd", node.short()),
        Place::Node(node),
        tools.path("containerd"),
    )
    .in_root(Root::Mounts)
    .arguments(["-c".into(), text(&config)])
}

pub fn kubelet(folders: &Folders, tools: &Tools, node: Node) -> Daemon {
    let folder = text(&folders.node(node));
    Daemon::new(
        &format!("{}-kubelet", node.short()),
        Place::Node(node),
        tools.path("kubelet"),
    )
    .in_root(Root::Mounts)
    .arguments([
        format!("--config={folder}/kubelet.yaml"),
        format!("--kubeconfig={}", text(&folders.kubeconfig(&node.name()))),
        format!("--root-dir={folder}/kubelet"),
        format!("--cert-dir={folder}/certs"),
        format!("--hostname-override={}", node.name()),
        format!("--node-ip={}", node.address()),
    ])
}

pub fn proxy(folders: &Folders, tools: &Tools, place: Place) -> Daemon {
    let root = if place == Place::Control {
        Root::Machine
    } else {
        Root::Mounts
    };
    Daemon::new(
        &format!("{}-proxy", place.group()),
        place,
        tools.path("kube-proxy"),
    )
    .in_root(root)
    .arguments([format!("--config={}", text(&proxy_file(folders, place)))])
}

/// The configuration files of all places.
pub fn files(folders: &Folders, tools: &Tools, nodes: u8) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for place in Place::all(nodes) {
        files.push((proxy_file(folders, place), proxy_config(folders, place)));
        if let Place::Node(node) = place {
            let folder = folders.node(node);
            files.push((folder.join("cni/10-pods.conflist"), cni_config(folders, node)));
            files.push((
                folder.join("containerd.toml"),
                containerd_config(folders, tools, node)?,
            ));
            files.push((folder.join("kubelet.yaml"), kubelet_config(folders, node)));
        }
    }
    Ok(files)
}

/// Folders that must exist before the programs start.
pub fn folders(folders: &Folders, node: Node) -> Vec<PathBuf> {
    let here = folders.node(node);
    let mut all: Vec<PathBuf> = [
        "cni",
        "kubelet",
        "containerd",
        "volatile",
        "manifests",
        "podlogs",
        "plugins",
    ]
    .iter()
    .map(|name| here.join(name))
    .collect();
    all.push(folders.volumes().join(node.name()));
    all
}

fn proxy_file(folders: &Folders, place: Place) -> PathBuf {
    folders.cluster().join(format!("{}.proxy.yaml", place.group()))
}

fn proxy_config(folders: &Folders, place: Place) -> String {
    let (name, address) = match place {
        // kube-proxy waits half a minute for its node's object, and the control plane has none: it borrows one.
        Place::Control => (Node(1).name(), plan::CONTROL_ADDRESS.to_owned()),
        Place::Node(node) => (node.name(), node.address()),
    };
    // minSyncPeriod 1s is kube-proxy's own default and what real clusters run: the first change after a quiet second
    // reaches the rules at once, a second one within that second waits for its end. 0s would be faster for bursts, and
    // would make measurements here look better than a user's cluster.
    // Conntrack's limits belong to the whole machine, so they are left as they are.
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {}}}
clusterCIDR: {}
mode: iptables
iptables: {{minSyncPeriod: 1s, syncPeriod: 30s}}
hostnameOverride: {name}
bindAddress: {address}
conntrack: {{maxPerCore: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}}
",
        text(&folders.kubeconfig("proxy")),
        plan::POD_RANGE
    )
}

/// Each pod is a point-to-point link of its node, not a port of a bridge: then packets between two pods of one node
/// also pass the node's rules, which Service addresses and the faults between two pods rest on.
fn cni_config(folders: &Folders, node: Node) -> String {
    let leases = text(&folders.node(node).join("volatile/ipam"));
    let range = node.pod_range();
    format!(
        r#"{{"cniVersion":"1.0.0","name":"pods","plugins":[{{"type":"ptp","ipMasq":false,"ipam":{{"type":"host-local","ranges":[[{{"subnet":"{range}"}}]],"routes":[{{"dst":"0.0.0.0/0"}}],"dataDir":"{leases}"}}}},{{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#
    )
}

fn containerd_config(folders: &Folders, tools: &Tools, node: Node) -> Result<String> {
    let folder = text(&folders.node(node));
    let runc = requirements::find("runc").context("runc is not installed")?;
    let (runc, cni, shim) = (
        text(&runc),
        text(&requirements::cni_folder()?),
        tools.path("containerd-shim-runc-v2"),
    );
    let socket = text(&folders.containerd_socket(node));
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE runc may not lower oom_score_adj and would die.
    Ok(format!(
        r#"version = 3
root = "{folder}/containerd"
state = "{folder}/volatile/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{cni}"]
  conf_dir = "{folder}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  runtime_path = "{shim}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    BinaryName = "{runc}"
    SystemdCgroup = false
"#
    ))
}

/// In block style: the kubelet reads a file that starts with a brace as JSON.
fn kubelet_config(folders: &Folders, node: Node) -> String {
    let (folder, pki) = (text(&folders.node(node)), text(&folders.pki()));
    let (name, group, address) = (node.name(), node.short(), node.address());
    let socket = text(&folders.containerd_socket(node));
    // Eviction is as good as off (0 is refused): the nodes share one disk and one memory, and would all evict at once.
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {pki}/ca.crt}}
authorization: {{mode: Webhook}}
tlsCertFile: {pki}/{name}-serving.crt
tlsPrivateKeyFile: {pki}/{name}-serving.key
containerRuntimeEndpoint: unix://{socket}
staticPodPath: {folder}/manifests
podLogsDir: {folder}/podlogs
volumePluginDir: {folder}/plugins
cgroupDriver: cgroupfs
cgroupRoot: /ddb/{group}
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
resolvConf: \"\"
clusterDNS: [{}]
clusterDomain: cluster.local
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 1Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
",
        plan::DNS_ADDRESS
    )
}
