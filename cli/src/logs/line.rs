//! One line of a log: its moment as the kubelet wrote it, and its text, made readable where it is JSON.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// What the operator and the agents write beside the message, and what nobody reads.
const SKIPPED: [&str; 5] = ["timestamp", "level", "message", "target", "span"];

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When the kubelet got it.
    pub at: Timestamp,
    /// Who wrote it: `shop-0/mysql`.
    pub part: String,
    /// What was written.
    pub text: String,
}

impl Line {
    /// Reads a line with the kubelet's time before it; none where there is no time.
    pub fn read(part: &str, raw: &str) -> Option<Self> {
        let (at, text) = raw.split_once(' ').unwrap_or((raw, ""));
        Some(Self {
            at: at.parse().ok()?,
            part: part.to_owned(),
            text: text.to_owned(),
        })
    }

    /// The line for people: time, part, text.
    pub fn pretty(&self, width: usize) -> String {
        format!(
            "{} {:width$} {}\n",
            self.at.strftime("%H:%M:%S.%3f"),
            self.part,
            readable(&self.text)
        )
    }

    /// The line as it was written, after time and part.
    pub fn raw(&self, width: usize) -> String {
        format!("{} {:width$} {}\n", self.at, self.part, self.text)
    }
}

/// True when the operator's line is about this database, or about none in particular. Read as text: in some
/// versions the span has two fields called `name`, of which a JSON parser keeps one.
pub fn concerns(text: &str, namespace: &str, name: &str) -> bool {
    let Some((_, span)) = text.split_once("\"span\":{") else {
        return true;
    };
    let says = |key: &str, value: &str| span.contains(&format!("\"{key}\":\"{value}\""));
    let about_one = span.contains("\"namespace\":");
    !about_one || (says("namespace", namespace) && (says("name", name) || says("database", name)))
}

/// JSON as `LEVEL message key=value …`; anything else without a time that MySQL wrote before it.
fn readable(text: &str) -> String {
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(object) => from_json(&object),
        Err(_) => text
            .split_once(' ')
            .filter(|(first, _)| first.len() >= 20 && first.parse::<Timestamp>().is_ok())
            .map_or(text, |(_, rest)| rest)
            .to_owned(),
    }
}

fn from_json(object: &Map<String, Value>) -> String {
    let fields = object.get("fields").and_then(Value::as_object).unwrap_or(object);
    let word = |from: &Map<String, Value>, key: &str| {
        from.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut text = format!("{:5} {}", word(object, "level"), word(fields, "message"));
    for (key, value) in fields.iter().filter(|(key, _)| !SKIPPED.contains(&key.as_str())) {
        text.push(' ');
        text.push_str(key);
        text.push('=');
        match value {
            Value::String(value) if !value.contains(' ') => text.push_str(value),
            value => text.push_str(&value.to_string()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = r#"2026-11-21T06:29:04.497100200Z {"timestamp":"2026-11-21T06:29:04.497056Z","level":"INFO","fields":{"message":"done","command":"fence","took_ms":65},"target":"node::executor"}"#;
    const OPERATOR: &str = r#"{"level":"INFO","message":"done","node":"shop-1","target":"t","span":{"name":"shop","namespace":"default","term":1,"name":"database"}}"#;

    #[test]
    fn json_becomes_a_sentence_with_fields() {
        let line = Line::read("shop-0/node", AGENT).unwrap();
        assert_eq!(
            line.pretty(12),
            "06:29:04.497 shop-0/node  INFO  done command=fence took_ms=65\n"
        );
    }

    #[test]
    fn mysqls_own_time_is_not_told_twice() {
        let raw = "2026-11-21T06:29:04.500000000Z 2026-11-21T06:29:04.401437Z 0 [System] ready";
        let line = Line::read("shop-0/mysql", raw).unwrap();
        assert_eq!(line.pretty(12), "06:29:04.500 shop-0/mysql 0 [System] ready\n");
    }

    #[test]
    fn only_what_concerns_the_database_is_taken_from_the_operator() {
        assert!(concerns(OPERATOR, "default", "shop"));
        assert!(!concerns(OPERATOR, "default", "orders"));
        assert!(!concerns(OPERATOR, "live", "shop"));
        assert!(concerns(
            r#"{"level":"INFO","message":"leadership changed"}"#,
            "default",
            "orders"
        ));
    }

    #[test]
    fn a_line_without_a_time_is_none() {
        assert_eq!(Line::read("p", "unable to retrieve container logs"), None);
    }
}
