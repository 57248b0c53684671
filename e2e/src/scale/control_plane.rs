//! etcd, an API server and the operator as processes of this program, which end with it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use api::DistributedDatabase;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, CustomResourceExt,
    api::{ListParams, PostParams},
};
use nix::unistd::Pid;
use rcgen::KeyPair;
use tokio::process::{Child, Command};

use super::{NAMESPACE, api_address, pid_of};
use crate::{
    install,
    wait::{self, Seen},
};

const UP: Duration = Duration::from_mins(2);
/// The administrator's token; nobody else reaches this namespace.
const TOKEN: &str = "scale";

/// The processes, and a client.
pub struct ControlPlane {
    folder: PathBuf,
    kubeconfig: PathBuf,
    _etcd: Child,
    _apiserver: Child,
    pub client: Client,
}

fn start(folder: &Path, program: &Path, words: &[String], environment: &[(&str, String)]) -> Result<Child> {
    let name = program.file_name().context("a program without a name")?;
    let log = File::create(folder.join(name).with_extension("log"))?;
    Command::new(program)
        .args(words)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))
}

impl ControlPlane {
    /// Starts etcd and the API server, and waits until it answers.
    pub async fn start(folder: &Path, etcd: &Path, apiserver: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let place = |name: &str| folder.join(name).display().to_string();
        let key = KeyPair::generate()?;
        fs::write(folder.join("sa.key"), key.serialize_pem())?;
        fs::write(folder.join("sa.pub"), key.public_key_pem())?;
        fs::write(
            folder.join("tokens.csv"),
            format!("{TOKEN},admin,admin,\"system:masters\"\n"),
        )?;
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig_text())?;
        let etcd = start(
            folder,
            etcd,
            &[
                format!("--data-dir={}", place("etcd")),
                "--unsafe-no-fsync".to_owned(),
            ],
            &[],
        )?;
        let apiserver = start(
            folder,
            apiserver,
            &[
                "--etcd-servers=http://127.0.0.1:2379".to_owned(),
                format!("--bind-address={}", api_address().ip()),
                format!("--secure-port={}", api_address().port()),
                // The namespace has no way out, and nobody looks for the API server by its Service.
                "--advertise-address=10.245.255.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                format!("--cert-dir={}", place("certificates")),
                format!("--token-auth-file={}", place("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", place("sa.pub")),
                format!("--service-account-signing-key-file={}", place("sa.key")),
                "--service-cluster-ip-range=10.96.0.0/12".to_owned(),
                // Nobody makes accounts and tokens for pods that nobody starts.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
            ],
            &[],
        )?;
        let mut config = Config::new(format!("https://{}", api_address()).parse()?);
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(TOKEN.to_owned().into());
        let client = Client::try_from(config)?;
        let namespaces = Api::<Namespace>::all(client.clone());
        wait::until("answer of the API server", UP, async || {
            namespaces.list(&ListParams::default()).await?;
            Ok(Seen::Done(()))
        })
        .await?;
        Ok(Self {
            folder: folder.to_owned(),
            kubeconfig,
            _etcd: etcd,
            _apiserver: apiserver,
            client,
        })
    }

    /// Starts the operator as its chart would, but outside a pod.
    pub fn start_operator(&self, program: &Path) -> Result<(Child, Pid)> {
        let set = |name, value: &str| (name, value.to_owned());
        let environment = [
            ("KUBECONFIG", self.kubeconfig.display().to_string()),
            set("DDB_NODE_IMAGE", "ddb/node:scale"),
            set("DDB_MYSQL_IMAGE", "ddb/mysql:scale"),
            set("POD_NAMESPACE", install::NAMESPACE),
            set("POD_NAME", "operator-0"),
            set("RUST_LOG", "info,kube_client=error"),
        ];
        let child = start(&self.folder, program, &[], &environment)?;
        let pid = pid_of(&child)?;
        Ok((child, pid))
    }
}

fn kubeconfig_text() -> String {
    let server = api_address();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: scale\n\
         clusters: [{{name: scale, cluster: {{server: \"https://{server}\", insecure-skip-tls-verify: true}}}}]\n\
         contexts: [{{name: scale, context: {{cluster: scale, user: admin}}}}]\n\
         users: [{{name: admin, user: {{token: {TOKEN}}}}}]\n"
    )
}

/// The resource's definition and the namespaces.
pub async fn prepare(client: &Client) -> Result<()> {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    definitions
        .create(&PostParams::default(), &DistributedDatabase::crd())
        .await?;
    let namespaces = Api::<Namespace>::all(client.clone());
    for name in [NAMESPACE, install::NAMESPACE] {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace.metadata.labels = Some(BTreeMap::new());
        namespaces.create(&PostParams::default(), &namespace).await?;
    }
    let databases = Api::<DistributedDatabase>::namespaced(client.clone(), NAMESPACE);
    wait::until("the new resource in the API", UP, async || {
        databases.list(&ListParams::default()).await?;
        Ok(Seen::Done(()))
    })
    .await
}
