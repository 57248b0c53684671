//! Breaking the local cluster's machines: cables, processes, power. It is done by the `cargo xtask` that started this
//! program, in that one's own namespaces: here there is only the control plane's network.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::process::Command;

use crate::settings::Target;

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ill {
    /// Its cable is unplugged.
    Cut,
    /// All its processes stand still.
    Freeze,
    /// It loses its power.
    Kill,
}

/// Does it.
///
/// # Errors
/// On another cluster than the local one, and what the command itself says.
pub async fn break_machine(target: &Target, machine: &str, ill: Ill) -> Result<()> {
    let word = match ill {
        Ill::Cut => "cut",
        Ill::Freeze => "freeze",
        Ill::Kill => "kill",
    };
    fault(target, &[word, machine]).await
}

/// Mends a machine, whatever was done to it.
pub async fn mend_machine(target: &Target, machine: &str) -> Result<()> {
    fault(target, &["heal", machine]).await
}

/// Drops the packets between two places, or those from the first to the second only.
pub async fn cut_between(target: &Target, from: &str, to: &str, one_way: bool) -> Result<()> {
    let mut words = vec!["cut", "--from", from, "--to", to];
    words.extend(one_way.then_some("--one-way"));
    fault(target, &words).await
}

/// Lets the packets from the first place to the second pass again.
pub async fn mend_one_way(target: &Target, from: &str, to: &str) -> Result<()> {
    fault(target, &["heal", "--from", from, "--to", to, "--one-way"]).await
}

/// Cuts a machine or a pod's address from the API server, and from nothing else.
pub async fn cut_from_api_server(target: &Target, from: &str) -> Result<()> {
    fault(
        target,
        &["cut", "--from", from, "--to", "control", "--port", "6443"],
    )
    .await
}

/// Ends the API server; [`mend_all`] starts it again.
pub async fn stop_api_server(target: &Target) -> Result<()> {
    fault(target, &["stop-api-server"]).await
}

/// Mends everything.
pub async fn mend_all(target: &Target) -> Result<()> {
    fault(target, &["heal"]).await
}

/// The machine that a pod runs on.
pub fn machine_of(pod: &Pod) -> Result<&str> {
    let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    machine.with_context(|| format!("{} runs on no machine", pod.name_any()))
}

async fn fault(target: &Target, words: &[&str]) -> Result<()> {
    let Some(xtask) = target.local else {
        bail!("machines can be broken on the local cluster only, not on a context of the kubeconfig");
    };
    let output = Command::new("nsenter")
        .args(["--target", &xtask.to_string(), "--net", "--mount"])
        .arg(format!("/proc/{xtask}/exe"))
        .args(["cluster", "fault"])
        .args(words)
        .kill_on_drop(true)
        .output()
        .await
        .context("nsenter cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cluster fault {} failed: {}",
        words.join(" "),
        said.trim()
    );
    Ok(())
}
