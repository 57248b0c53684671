//! What demonstration, benchmark and end-to-end tests need before they start: a cluster, images and a program that
//! runs where the cluster's addresses can be reached.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    cluster::{self, Cluster},
    host,
    images::{self, Programs},
    process::command,
    progress::Step,
};

/// Names the plugin of kubectl to the tests that run it.
pub const PLUGIN: &str = "DDB_E2E_PLUGIN";

/// Where to work.
#[derive(Args)]
pub struct Place {
    /// A context of your kubeconfig instead of the local cluster. The programs then connect to Service and pod
    /// addresses directly, so run this where those are routable: in a pod, on a node of the cluster, or over a VPN into
    /// its network. Faults by signal also need the nodes' processes to be visible here. helm and kubectl must be in
    /// PATH, and the three images in a registry that the cluster can pull from: name them with the --…-image flags.
    #[arg(long, requires_all = ["operator_image", "node_image", "mysql_image"])]
    context: Option<String>,
    /// The operator's image, with --context.
    #[arg(long, requires = "context")]
    operator_image: Option<String>,
    /// The node agent's image, with --context.
    #[arg(long, requires = "context")]
    node_image: Option<String>,
    /// The MySQL image, with --context.
    #[arg(long, requires = "context")]
    mysql_image: Option<String>,
    /// A further value of the operator's chart, such as watchNamespace=shop; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    values: Vec<String>,
}

/// How the facts are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: one JSON object, the last thing on stdout; everything for people goes to stderr.
    Json,
}

impl Output {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// References of the three images, as JSON.
pub type Images = String;

/// Brings up the local cluster and its images; gives the cluster.
pub fn local() -> Result<(Cluster, Images)> {
    local_with(Programs::Built)
}

fn local_with(programs: Programs) -> Result<(Cluster, Images)> {
    cluster::run(cluster::Command::Up { nodes: None })?;
    let references = images::build_and_load(&images::Name::ALL, true, programs)?;
    Ok((
        Cluster::open(&host::cache_dir()?)?,
        serde_json::to_string(&references)?,
    ))
}

/// Runs the program `e2e` with these words, in the cluster's network where the cluster is the local one.
pub fn run(place: &Place, words: &[String]) -> Result<()> {
    run_with(place, Programs::Built, None, words)
}

/// Builds the plugin of kubectl; gives its path.
pub fn plugin() -> Result<PathBuf> {
    build(&["build", "--package", "cli"], "kubectl-ddb")
}

/// The same with these programs of the product, on the local cluster, and with this plugin of kubectl.
pub fn run_with(place: &Place, programs: Programs, plugin: Option<&Path>, words: &[String]) -> Result<()> {
    let program = build(&["build", "--package", "e2e", "--bin", "e2e"], "e2e")?;
    let program = program
        .to_str()
        .context("the path of the target folder is not UTF-8")?;
    let (mut command, images, context) = match &place.context {
        None => {
            let (cluster, images) = local_with(programs)?;
            (cluster.inside(program), images, None)
        }
        Some(context) => (command([program]), place.named_images()?, Some(context)),
    };
    command.args(["--images", &images]);
    if let Some(plugin) = plugin {
        command.env(PLUGIN, plugin);
    }
    match context {
        Some(context) => command.args(["--context", context]),
        None => command.args(["--local", &std::process::id().to_string()]),
    };
    let status = command
        .args(words)
        .status()
        .context("the program e2e cannot be started")?;
    ensure!(status.success(), "it ended with an error, see above");
    Ok(())
}

impl Place {
    fn named_images(&self) -> Result<Images> {
        let named = [
            ("operator", &self.operator_image),
            ("node", &self.node_image),
            ("mysql", &self.mysql_image),
        ];
        let images: BTreeMap<&str, &String> = named
            .into_iter()
            .filter_map(|(name, image)| Some((name, image.as_ref()?)))
            .collect();
        Ok(serde_json::to_string(&images)?)
    }
}

/// Runs cargo with these words and gives the path of the executable that it made for the target `name`.
pub fn build(words: &[&str], name: &str) -> Result<PathBuf> {
    let _step = Step::begin(format!("compiling {name}"));
    let mut cargo = cargo();
    cargo
        .args(words)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let output = cargo.output().context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("`cargo {}` failed, see above", words.join(" "));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let found = messages
        .lines()
        .filter_map(|line| executable(line, name))
        .next_back();
    found.with_context(|| format!("cargo named no executable of {name}"))
}

/// cargo, in the repository's folder. Its dependencies are those of Cargo.lock, never others.
pub fn cargo() -> Command {
    let cargo = host::environment("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = command([cargo]);
    command.current_dir(host::repository());
    command
}

fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let of_target = message.get("target")?.get("name")?.as_str()? == name;
    let path = message.get("executable")?.as_str()?;
    of_target.then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_of_another_target_is_not_taken() {
        let artifact = |name: &str| format!(r#"{{"target":{{"name":"{name}"}},"executable":"/t/{name}"}}"#);
        assert_eq!(executable(&artifact("e2e"), "e2e"), Some(PathBuf::from("/t/e2e")));
        assert_eq!(executable(&artifact("api"), "e2e"), None);
        assert_eq!(
            executable(r#"{"target":{"name":"e2e"},"executable":null}"#, "e2e"),
            None
        );
        assert_eq!(executable("not json", "e2e"), None);
    }
}
