//! Specs that are refused at apply, each with the words that the refusal must contain: field and mend.

use anyhow::Result;
use api::DistributedDatabase;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

/// What the API server says to a new database; nothing is made.
pub async fn answer(client: &Client, name: &str, spec: &Value) -> Result<String> {
    let databases = Api::<DistributedDatabase>::namespaced(client.clone(), "default");
    let object = json!({
        "apiVersion": "ddb-operator.io/v1alpha1",
        "kind": "DistributedDatabase",
        "metadata": {"name": name},
        "spec": spec,
    });
    let how = PatchParams {
        dry_run: true,
        ..PatchParams::apply("e2e").force()
    };
    Ok(match databases.patch(name, &how, &Patch::Apply(&object)).await {
        Ok(_) => "accepted".to_owned(),
        Err(kube::Error::Api(refusal)) => refusal.message.clone(),
        Err(error) => return Err(error.into()),
    })
}

/// Name, spec and words of the refusal.
pub fn refused() -> Vec<(String, Value, Vec<&'static str>)> {
    let bad = |spec: Value, words: &[&'static str]| ("bad".to_owned(), spec, words.to_vec());
    let mut all = vec![
        bad(json!({"nodes": "three"}), &["spec.nodes"]),
        bad(json!({"replicas": 3}), &["replicas"]),
        (
            "n".repeat(41),
            json!({"nodes": 3}),
            vec!["metadata.name: at most 40 characters"],
        ),
    ];
    all.extend([0, -1, 10].map(|nodes| bad(json!({"nodes": nodes}), &["spec.nodes: must be from 1 to 9"])));
    all.push(bad(
        json!({"nodes": 3, "durability": "Sometimes"}),
        &["spec.durability", "Strict", "Available"],
    ));
    all.extend(
        ["ten", "-1Gi", "0", "10 Gi", ""]
            .map(|size| bad(json!({"storage": {"size": size}}), &["spec.storage.size"])),
    );
    let settings = [
        "sync_binlog",
        "sync-binlog",
        "rpl_semi_sync_source_timeout",
        "GTID_MODE",
        "super_read_only",
    ];
    all.extend(settings.map(|setting| {
        bad(
            json!({"mysql": {"config": {setting: "0"}}}),
            &["spec.mysql.config", setting, "cannot be set"],
        )
    }));
    all
}

/// Edits of a database with three nodes and volumes of 1Gi, and words of the refusal.
pub fn immutable() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"spec": {"storage": {"size": "1Mi"}}}),
            "spec.storage.size: a volume cannot shrink",
        ),
        (
            json!({"spec": {"storage": {"storageClassName": "other"}}}),
            "storageClassName: cannot be changed",
        ),
        (json!({"spec": {"nodes": 0}}), "spec.nodes: must be from 1 to 9"),
    ]
}
