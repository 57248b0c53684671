//! JSON documents as the server writes them, from the form in which it stores them.

use std::io;

use mysql_common::binlog::jsonb::{JsonDom, JsonNumber, JsonScalar, Value};

/// MySQL allows no deeper ones.
const DEEPEST: usize = 100;

/// The document's text.
pub(super) fn text(value: &Value<'_>) -> io::Result<String> {
    let mut out = String::new();
    write(value, &mut out, 0)?;
    Ok(out)
}

fn write(value: &Value<'_>, out: &mut String, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("a document deeper than MySQL allows"));
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::I16(number) => out.push_str(&number.to_string()),
        Value::U16(number) => out.push_str(&number.to_string()),
        Value::I32(number) => out.push_str(&number.to_string()),
        Value::U32(number) => out.push_str(&number.to_string()),
        Value::I64(number) => out.push_str(&number.to_string()),
        Value::U64(number) => out.push_str(&number.to_string()),
        Value::F64(number) => out.push_str(&serde_json::to_string(number)?),
        Value::String(string) => quoted(&string.str(), out)?,
        Value::SmallArray(array) => elements(array.iter(), out, depth)?,
        Value::LargeArray(array) => elements(array.iter(), out, depth)?,
        Value::SmallObject(object) => {
            let members = object
                .iter()
                .map(|member| member.map(|(key, value)| (key.value().into_owned(), value)));
            self::members(members, out, depth)?;
        }
        Value::LargeObject(object) => {
            let members = object
                .iter()
                .map(|member| member.map(|(key, value)| (key.value().into_owned(), value)));
            self::members(members, out, depth)?;
        }
        Value::Opaque(_) => match value.clone().parse()? {
            JsonDom::Scalar(JsonScalar::Number(JsonNumber::Decimal(number))) => {
                out.push_str(&number.to_string());
            }
            other => out.push_str(&serde_json::Value::from(other).to_string()),
        },
    }
    Ok(())
}

fn quoted(text: &str, out: &mut String) -> io::Result<()> {
    out.push_str(&serde_json::to_string(text)?);
    Ok(())
}

fn elements<'v>(
    all: impl Iterator<Item = io::Result<Value<'v>>>,
    out: &mut String,
    depth: usize,
) -> io::Result<()> {
    out.push('[');
    for (at, element) in all.enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write(&element?, out, depth + 1)?;
    }
    out.push(']');
    Ok(())
}

fn members<'v>(
    all: impl Iterator<Item = io::Result<(String, Value<'v>)>>,
    out: &mut String,
    depth: usize,
) -> io::Result<()> {
    out.push('{');
    for (at, member) in all.enumerate() {
        let (key, value) = member?;
        if at > 0 {
            out.push_str(", ");
        }
        quoted(&key, out)?;
        out.push_str(": ");
        write(&value, out, depth + 1)?;
    }
    out.push('}');
    Ok(())
}
