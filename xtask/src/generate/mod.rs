//! `cargo xtask generate`: writes the custom resource definition from the Rust types, for `kubectl apply` and for
//! the chart, and the data API's reference from its `OpenAPI` document; with `--check` it only compares and fails when a
//! file is stale. Generated files are committed, so that users need no Rust for them.

mod reference;

use std::path::Path;

use anyhow::{Context, Result, bail};
use api::DistributedDatabase;
use clap::Args;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::host;

const HEADER: &str = "# Generated from the Rust types by `cargo xtask generate`; do not edit.\n";
const PLAIN: &str = "crds/distributeddatabases.yaml";
const CHART: &str = "charts/ddb-operator/files/distributeddatabases.yaml";
const DOCUMENT: &str = "docs/openapi.json";
const REFERENCE: &str = "docs/data-api-reference.md";
/// Amounts as every API of Kubernetes spells them.
const QUANTITY: &str = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$";

#[derive(Args)]
pub struct Arguments {
    /// Only compare, and fail when a generated file is stale.
    #[arg(long)]
    check: bool,
}

impl Arguments {
    /// What `--check` gives.
    pub const CHECK: Self = Self { check: true };
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let definition = definition()?;
    let (document, reference) = reference::files()?;
    let files = [
        (PLAIN, &definition),
        (CHART, &definition),
        (DOCUMENT, &document),
        (REFERENCE, &reference),
    ];
    let mut stale = Vec::new();
    for (path, text) in files {
        let path = host::repository().join(path);
        if std::fs::read_to_string(&path).is_ok_and(|present| present == *text) {
            continue;
        }
        if arguments.check {
            stale.push(path.display().to_string());
        } else {
            write(&path, text)?;
            println!("{}", path.display());
        }
    }
    if !stale.is_empty() {
        bail!(
            "stale: {}; run `cargo xtask generate` and commit the result",
            stale.join(", ")
        );
    }
    Ok(())
}

fn definition() -> Result<String> {
    let mut definition =
        serde_json::to_value(DistributedDatabase::crd()).context("cannot serialize the definition")?;
    // An uninstalled chart must not take every database with it: Helm leaves what carries this.
    definition["metadata"]["annotations"] = json!({ "helm.sh/resource-policy": "keep" });
    describe(&mut definition);
    strip_formats(&mut definition);
    accept_numbers(&mut definition);
    let yaml = serde_saphyr::to_string(&definition).context("cannot write the definition as YAML")?;
    Ok(format!("{HEADER}{yaml}"))
}

/// What `kubectl explain ddb` begins with is the description that the derive macro put on the spec.
fn describe(definition: &mut Value) {
    for version in definition["spec"]["versions"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let schema = &mut version["schema"]["openAPIV3Schema"];
        schema["description"] = schema["properties"]["spec"]["description"].take();
        schema["properties"]["spec"]["description"] = json!("What is wanted.");
    }
}

/// The API server knows no unsigned formats and warns about each; their `minimum: 0` stays.
fn strip_formats(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with("uint"))
            {
                fields.remove("format");
            }
            fields.values_mut().for_each(strip_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_formats),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Amounts of CPU and memory are written as `1` as often as `"1"`: both are taken, as in a pod.
fn accept_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["limits", "requests"] {
                let amounts = fields
                    .get_mut(name)
                    .and_then(|amounts| amounts.get_mut("additionalProperties"));
                if let Some(Value::Object(amount)) = amounts {
                    amount.remove("type");
                    amount.insert(
                        "anyOf".to_owned(),
                        json!([{ "type": "integer" }, { "type": "string" }]),
                    );
                    amount.insert("pattern".to_owned(), json!(QUANTITY));
                    amount.insert("x-kubernetes-int-or-string".to_owned(), Value::Bool(true));
                }
            }
            fields.values_mut().for_each(accept_numbers);
        }
        Value::Array(items) => items.iter_mut().for_each(accept_numbers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
