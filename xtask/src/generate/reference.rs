//! The data API's document as a file of its own, and as a reference for people: one section for each path, one table
//! for each object. The document is the one that the data API's tests keep as their snapshot.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::host;

/// What the tests of the data API compare the served document with.
const SNAPSHOT: &str = "data/src/snapshots/data__router__tests__the_document_is_as_it_was_when_it_was_last_read_by_a_person.snap";
/// Where the paths of a tag stand, and under which heading.
const PARTS: [(&str, &str); 10] = [
    ("databases", "Databases"),
    ("tables", "Tables"),
    ("rows", "Rows"),
    ("transactions", "Transactions"),
    ("sql", "SQL"),
    ("streams", "Whole tables, imports and search"),
    ("cluster", "The cluster"),
    ("audit", "Audit"),
    ("classic", "Classic paths"),
    ("open", "Without a token"),
];

/// The document, as programs that generate clients read it, and the reference made from it.
pub fn files() -> Result<(String, String)> {
    let snapshot = std::fs::read_to_string(host::repository().join(SNAPSHOT))
        .with_context(|| format!("cannot read {SNAPSHOT}"))?;
    // Two lines of dashes enclose what the snapshot says of itself.
    let text = snapshot
        .splitn(3, "---\n")
        .nth(2)
        .context("the snapshot has no document")?;
    let document: Value = serde_json::from_str(text).context("the snapshot's document is no JSON")?;
    Ok((format!("{}\n", text.trim_end()), reference(&document)))
}

fn reference(document: &Value) -> String {
    let mut out = String::from(
        "<!-- Generated from the OpenAPI document by `cargo xtask generate`; do not edit. -->\n# Data API reference\n\n",
    );
    let _ = writeln!(
        out,
        "{}\n\nThe same as an OpenAPI 3.1 document: [openapi.json](openapi.json), and `/v1/openapi.json` of every node. \
         What replies promise, and how to begin: [data-api.md](data-api.md).\n\nWhat goes wrong is answered with a \
         [Problem](#problem): 4XX where the request is at fault, 5XX where the node or the database cannot do it now. [Headers](#headers) are named \
         where they are taken, with the role that the token must have at least.",
        words(&document["info"]["description"])
    );
    let all: Vec<(&str, &str, &Value)> = object(&document["paths"])
        .flat_map(|(path, item)| object(item).map(move |(method, operation)| (path, method, operation)))
        .collect();
    for (tag, heading) in PARTS {
        let _ = writeln!(out, "\n## {heading}");
        for (path, method, operation) in &all {
            if operation["tags"][0] == tag {
                write_operation(&mut out, path, method, operation);
            }
        }
    }
    write_headers(&mut out, &document["components"]);
    let _ = writeln!(out, "\n## Objects");
    for (name, schema) in object(&document["components"]["schemas"]) {
        write_object(&mut out, name, schema);
    }
    out
}

/// The headers that operations share; each names those that it takes.
fn write_headers(out: &mut String, components: &Value) {
    let _ = writeln!(out, "\n## Headers\n\n| of requests | type | |\n|---|---|---|");
    for (name, header) in object(&components["parameters"]) {
        write_header(out, name, header);
    }
    let _ = writeln!(out, "\n| of replies | type | |\n|---|---|---|");
    for (name, header) in object(&components["headers"]) {
        write_header(out, name, header);
    }
    let _ = writeln!(out, "\n| errors | |\n|---|---|");
    for (status, answer) in object(&components["responses"]) {
        let _ = writeln!(out, "| {status} | {} |", cell(&words(&answer["description"])));
    }
}

fn write_header(out: &mut String, name: &str, header: &Value) {
    let (schema, text) = (kind(&header["schema"]), words(&header["description"]));
    let _ = writeln!(out, "| `{name}` | {schema} | {} |", cell(&text));
}

/// The last part of a reference; `None` for what stands here itself.
fn referred(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.rsplit('/').next()
}

fn write_operation(out: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = writeln!(
        out,
        "\n### `{} {path}`\n{}.",
        method.to_uppercase(),
        words(&operation["summary"])
    );
    if let Some(text) = operation["description"].as_str() {
        let _ = writeln!(out, "\n{}", text.trim());
    }
    if let Some(role) = operation["x-role"].as_str() {
        let _ = writeln!(out, "\nRole: `{role}`");
    }
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let (headers, parameters): (Vec<&Value>, Vec<&Value>) =
        parameters.iter().partition(|one| referred(one).is_some());
    if !parameters.is_empty() {
        let _ = writeln!(out, "\n| parameter | in | type | |\n|---|---|---|---|");
    }
    for parameter in parameters {
        let text = match (words(&parameter["description"]), &parameter["required"]) {
            (text, Value::Bool(true)) if text.is_empty() => "required".to_owned(),
            (text, Value::Bool(true)) => format!("required. {text}"),
            (text, _) => text,
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            words(&parameter["name"]),
            words(&parameter["in"]),
            kind(&parameter["schema"]),
            cell(&text)
        );
    }
    let headers: Vec<String> = headers
        .into_iter()
        .filter_map(referred)
        .map(|name| format!("`{name}`"))
        .collect();
    if !headers.is_empty() {
        let _ = writeln!(out, "\nHeaders: {}", headers.join(", "));
    }
    let bodies: Vec<String> = object(&operation["requestBody"]["content"])
        .map(|(media, content)| format!("`{media}`: {}", kind(&content["schema"])))
        .collect();
    if !bodies.is_empty() {
        let _ = writeln!(out, "\nBody: {}", bodies.join("; "));
    }
    let answers: Vec<String> = object(&operation["responses"])
        .filter(|(_, answer)| referred(answer).is_none())
        .map(|(status, answer)| {
            let contents: Vec<String> = object(&answer["content"])
                .map(|(media, content)| match media {
                    "application/json" => kind(&content["schema"]),
                    media => format!("`{media}`"),
                })
                .collect();
            let said = [contents.join(" or "), words(&answer["description"])];
            let said: Vec<&str> = said
                .iter()
                .map(String::as_str)
                .filter(|it| !it.is_empty())
                .collect();
            format!("{status} {}", said.join(": "))
        })
        .collect();
    let _ = writeln!(out, "\nAnswers: {}", answers.join("; "));
    let shared: Vec<&str> = object(&operation["responses"])
        .filter_map(|(_, answer)| referred(answer))
        .collect();
    if !shared.is_empty() {
        let _ = writeln!(out, "\nElse: {}", shared.join(", "));
    }
}

fn write_object(out: &mut String, name: &str, schema: &Value) {
    let _ = writeln!(out, "\n### {name}");
    let text = words(&schema["description"]);
    if !text.is_empty() {
        // rustdoc's links to other items mean nothing here.
        let _ = writeln!(out, "{}", text.replace("[`", "`").replace("`]", "`"));
    }
    if schema["properties"].is_null() {
        let _ = writeln!(out, "\n{}", kind(schema));
        return;
    }
    let _ = writeln!(out, "\n| field | type | |\n|---|---|---|");
    let required: Vec<&Value> = schema["required"].as_array().into_iter().flatten().collect();
    for (field, of) in object(&schema["properties"]) {
        let always = required.iter().any(|it| it.as_str() == Some(field));
        let optional = if always { "" } else { " (may be missing)" };
        let _ = writeln!(
            out,
            "| `{field}` | {}{optional} | {} |",
            kind(of),
            cell(&words(&of["description"]))
        );
    }
}

/// A schema's type in words, with links to objects.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", words(value))).collect();
        return values.join(", ");
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let choices: Vec<String> = choices.iter().map(kind).collect();
        return choices.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) if name == "object" => match &schema["additionalProperties"] {
            values @ Value::Object(fields) if !fields.is_empty() => format!("object of {}", kind(values)),
            _ => fields(&schema["properties"]),
        },
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names: Vec<String> = names.iter().map(words).collect();
            names.join(" or ")
        }
        _ => "any".to_owned(),
    }
}

/// An object that has no name of its own, by its fields.
fn fields(properties: &Value) -> String {
    let fields: Vec<String> = object(properties)
        .map(|(name, of)| format!("`{name}` ({})", kind(of)))
        .collect();
    if fields.is_empty() {
        "object".to_owned()
    } else {
        format!("object with {}", fields.join(", "))
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields: Option<&Map<String, Value>> = value.as_object();
    fields
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Text inside a table: a bar would end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_told_in_words_with_links() {
        let list = json!({"type": "array", "items": {"$ref": "#/components/schemas/Step"}});
        assert_eq!(kind(&list), "list of [Step](#step)");
        assert_eq!(kind(&json!({"type": ["integer", "null"]})), "integer or null");
        assert_eq!(kind(&json!({"enum": ["a", "b"], "type": "string"})), "`a`, `b`");
        assert_eq!(
            kind(&json!({"type": "object", "additionalProperties": {"type": "string"}})),
            "object of string"
        );
    }

    #[test]
    fn every_path_of_the_document_has_a_section_and_every_object_a_table() {
        let (text, reference) = files().unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        for (path, item) in object(&document["paths"]) {
            for (method, _) in object(item) {
                let heading = format!("### `{} {path}`", method.to_uppercase());
                assert_eq!(reference.matches(&format!("{heading}\n")).count(), 1, "{heading}");
            }
        }
        for (name, _) in object(&document["components"]["schemas"]) {
            assert!(reference.contains(&format!("\n### {name}\n")), "{name}");
        }
    }
}
