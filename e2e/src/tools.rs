//! Running helm and kubectl, which must be in PATH, against the chosen context.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The repository's folder, fixed when this was compiled.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// helm's standard output.
pub async fn helm(context: Option<&str>, words: &[&str]) -> Result<String> {
    run("helm", context.map(|context| ["--kube-context", context]), words).await
}

/// kubectl's standard output.
pub async fn kubectl(context: Option<&str>, words: &[&str]) -> Result<String> {
    run("kubectl", context.map(|context| ["--context", context]), words).await
}

async fn run(program: &str, context: Option<[&str; 2]>, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(context.into_iter().flatten())
        .args(words)
        .kill_on_drop(true);
    let output = command
        .output()
        .await
        .with_context(|| format!("`{program}` cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` failed: {}", words.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
