//! What a person needs after a failed test: everything in files, the essentials on stderr. Never fails itself: what
//! cannot be read is said instead.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use api::DistributedDatabase;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, LogParams},
};

use crate::{database, install, tools::repository};

/// Lines of each log on stderr.
const ESSENTIAL_LINES: usize = 12;

/// Writes pods, events, databases and all logs of the namespace and the operator to a folder below target/, and prints
/// the essentials.
pub async fn dump(client: &Client, namespace: &str, title: &str) {
    let folder = repository()
        .join("target/e2e")
        .join(title.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    if let Err(error) = fs::create_dir_all(&folder) {
        eprintln!("the dump's folder {} cannot be made: {error}", folder.display());
        return;
    }
    let mut essentials = String::new();
    for (name, part) in [
        ("databases", databases(client, namespace, &folder).await),
        ("pods", pods(client, namespace).await),
        ("events", events(client, namespace).await),
        ("logs", logs(client, namespace, &folder).await),
        ("operator", logs(client, install::NAMESPACE, &folder).await),
    ] {
        let text = part.unwrap_or_else(|error| format!("cannot be read: {error:#}\n"));
        save(&folder, &format!("{name}.txt"), &text);
        let _ = write!(essentials, "--- {name}\n{text}");
    }
    eprintln!("{essentials}--- all of it: {}", folder.display());
}

fn save(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    if let Err(error) = fs::write(&path, text) {
        eprintln!("{} cannot be written: {error}", path.display());
    }
    path
}

async fn databases(client: &Client, namespace: &str, folder: &Path) -> Result<String> {
    let mut text = String::new();
    for found in Api::<DistributedDatabase>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await?
    {
        let name = found.name_any();
        save(
            folder,
            &format!("database-{name}.json"),
            &serde_json::to_string_pretty(&found)?,
        );
        let status = found.status.unwrap_or_default();
        writeln!(text, "{name}: {}", database::describe(&status))?;
        for line in &status.explanation {
            writeln!(text, "    {line}")?;
        }
        for condition in &status.conditions {
            writeln!(
                text,
                "    {}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            )?;
        }
    }
    Ok(text)
}

async fn pods(client: &Client, namespace: &str) -> Result<String> {
    let mut text = String::new();
    for pod in Api::<Pod>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await?
    {
        let node = database::Node::from(&pod);
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default();
        let role = node.role.as_deref().unwrap_or("-");
        let ip = node.ip.as_deref().unwrap_or("-");
        writeln!(
            text,
            "{} {phase} role={role} {ip} on {} restarts={}",
            node.name, node.machine, node.restarts
        )?;
        let status = pod.status.unwrap_or_default();
        let containers = status
            .init_container_statuses
            .into_iter()
            .chain(status.container_statuses)
            .flatten();
        for container in containers {
            let state = container.state.unwrap_or_default();
            let waiting = state
                .waiting
                .map(|state| format!("{:?} {:?}", state.reason, state.message));
            let ended = state
                .terminated
                .map(|state| format!("ended with {} {:?}", state.exit_code, state.reason));
            let how = waiting.or(ended).unwrap_or_else(|| "running".to_owned());
            writeln!(text, "    {}: {how}, ready={}", container.name, container.ready)?;
        }
    }
    Ok(text)
}

async fn events(client: &Client, namespace: &str) -> Result<String> {
    let mut events = Api::<Event>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await?
        .items;
    events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    let first = events.len().saturating_sub(40);
    let mut text = String::new();
    for event in &events[first..] {
        let about = event.involved_object.name.as_deref().unwrap_or("-");
        let reason = event.reason.as_deref().unwrap_or("-");
        writeln!(
            text,
            "{about} {reason}: {}",
            event.message.as_deref().unwrap_or("-")
        )?;
    }
    Ok(text)
}

/// All logs into files; gives the last lines of each.
async fn logs(client: &Client, namespace: &str, folder: &Path) -> Result<String> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let mut text = String::new();
    for pod in pods.list(&ListParams::default()).await? {
        let name = pod.name_any();
        let spec = pod.spec.unwrap_or_default();
        let containers = spec.init_containers.into_iter().flatten().chain(spec.containers);
        for container in containers.map(|container| container.name) {
            for previous in [false, true] {
                let which = LogParams {
                    container: Some(container.clone()),
                    previous,
                    ..LogParams::default()
                };
                // A container that never restarted has no previous log; that is no news.
                let Ok(log) = pods.logs(&name, &which).await else {
                    continue;
                };
                let suffix = if previous { "-before" } else { "" };
                save(folder, &format!("{name}-{container}{suffix}.log"), &log);
                let lines: Vec<&str> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(ESSENTIAL_LINES)..];
                writeln!(text, "{name} {container}{suffix}:\n    {}", last.join("\n    "))?;
            }
        }
    }
    Ok(text)
}
