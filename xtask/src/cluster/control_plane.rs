//! The control plane's programs: their arguments, as data. Nothing is started here.

use super::{
    launch::Daemon,
    plan::{self, Folders, Place, text},
    tools::Tools,
};

/// The API server's name among the daemons.
pub const API_SERVER: &str = "apiserver";

/// etcd and the API server, which everything else needs first.
pub fn first(folders: &Folders, tools: &Tools) -> Vec<Daemon> {
    vec![etcd(folders, tools), api_server(folders, tools)]
}

/// What runs once the API server answers.
pub fn second(folders: &Folders, tools: &Tools) -> Vec<Daemon> {
    vec![controller_manager(folders, tools), scheduler(folders, tools)]
}

fn etcd(folders: &Folders, tools: &Tools) -> Daemon {
    let data = text(&folders.cluster().join("etcd"));
    Daemon::new("etcd", Place::Control, tools.path("etcd")).arguments([
        format!("--data-dir={data}"),
        // The cluster is made anew after a crash of the machine, so nothing is gained by waiting for the disk.
        "--unsafe-no-fsync".into(),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
    ])
}

/// The API server.
pub fn api_server(folders: &Folders, tools: &Tools) -> Daemon {
    let pki = text(&folders.pki());
    Daemon::new(API_SERVER, Place::Control, tools.path("kube-apiserver")).arguments([
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--bind-address=0.0.0.0".into(),
        format!("--advertise-address={}", plan::CONTROL_ADDRESS),
        "--secure-port=6443".into(),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={pki}/sa.pub"),
        format!("--service-account-signing-key-file={pki}/sa.key"),
        format!("--service-cluster-ip-range={}", plan::SERVICE_RANGE),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        format!("--kubelet-client-certificate={pki}/kubelet-client.crt"),
        format!("--kubelet-client-key={pki}/kubelet-client.key"),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--kubelet-certificate-authority={pki}/ca.crt"),
    ])
}

fn controller_manager(folders: &Folders, tools: &Tools) -> Daemon {
    let pki = text(&folders.pki());
    with_kubeconfig(
        Daemon::new(
            "controller-manager",
            Place::Control,
            tools.path("kube-controller-manager"),
        ),
        folders,
    )
    .arguments([
        format!("--service-account-private-key-file={pki}/sa.key"),
        format!("--root-ca-file={pki}/ca.crt"),
        format!("--cluster-signing-cert-file={pki}/ca.crt"),
        format!("--cluster-signing-key-file={pki}/ca.key"),
        "--use-service-account-credentials".into(),
        format!("--cluster-cidr={}", plan::POD_RANGE),
        "--allocate-node-cidrs=false".into(),
    ])
}

fn scheduler(folders: &Folders, tools: &Tools) -> Daemon {
    with_kubeconfig(
        Daemon::new("scheduler", Place::Control, tools.path("kube-scheduler")),
        folders,
    )
}

fn with_kubeconfig(daemon: Daemon, folders: &Folders) -> Daemon {
    let kubeconfig = text(&folders.kubeconfig(&daemon.name));
    daemon.arguments([
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        // One copy runs; an election would only delay its start.
        "--leader-elect=false".into(),
    ])
}
