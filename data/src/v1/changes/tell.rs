//! Server-sent events as text.

use std::io;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::mysql::{
    Cell,
    binlog::{Begin, Table},
};

/// A client whose connection ended comes back after this many milliseconds.
pub const RETRY: &str = "retry: 500\n\n";
/// What keeps a connection alive, and is no event.
pub const ALIVE: &str = ": alive\n\n";

/// A row with the places of its columns.
pub type Values = Vec<(usize, Cell)>;

/// What became of a row.
#[derive(Serialize)]
struct Changed<'a> {
    database: &'a str,
    table: &'a str,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<Object<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Object<'a>>,
}

struct Object<'a> {
    table: &'a Table,
    values: &'a Values,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut object = out.serialize_map(Some(self.values.len()))?;
        for (column, value) in self.values {
            object.serialize_entry(self.table.column(*column), value)?;
        }
        object.end()
    }
}

/// A row that was inserted, updated or deleted.
pub fn row(
    out: &mut Vec<u8>,
    table: &Table,
    before: Option<&Values>,
    after: Option<&Values>,
) -> io::Result<()> {
    let object = |values| Object { table, values };
    let row = Changed {
        database: &table.database,
        table: &table.name,
        change: match (before, after) {
            (None, _) => "insert",
            (Some(_), None) => "delete",
            (Some(_), Some(_)) => "update",
        },
        row: after.map(object),
        before: before.map(object),
    };
    event(out, "row", None, &row)
}

/// The end of a transaction of which something was told.
pub fn commit(out: &mut Vec<u8>, id: &str, transaction: &Begin) -> io::Result<()> {
    #[derive(Serialize)]
    struct Commit<'a> {
        gtid: &'a str,
        at: Option<String>,
    }
    let at = i64::try_from(transaction.micros)
        .ok()
        .filter(|micros| *micros > 0)
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    let commit = Commit {
        gtid: &transaction.name,
        at: at.map(|at| at.to_string()),
    };
    event(out, "commit", Some(id), &commit)
}

/// How far the feed is, where nothing was to be told.
pub fn position(out: &mut Vec<u8>, id: &str) -> io::Result<()> {
    #[derive(Serialize)]
    struct Position<'a> {
        position: &'a str,
    }
    event(out, "position", Some(id), &Position { position: id })
}

/// A definition in a database was changed.
pub fn schema(out: &mut Vec<u8>, database: &str) -> io::Result<()> {
    #[derive(Serialize)]
    struct Schema<'a> {
        database: &'a str,
    }
    event(out, "schema", None, &Schema { database })
}

/// Changes that the feed cannot show.
pub fn skipped(out: &mut Vec<u8>, table: Option<&Table>, why: &str) -> io::Result<()> {
    #[derive(Serialize)]
    struct Skipped<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        database: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        table: Option<&'a str>,
        why: &'a str,
    }
    let skipped = Skipped {
        database: table.map(|table| table.database.as_str()),
        table: table.map(|table| table.name.as_str()),
        why,
    };
    event(out, "skipped", None, &skipped)
}

/// JSON has no line breaks of its own, so the data is one line.
fn event(out: &mut Vec<u8>, name: &str, id: Option<&str>, data: &impl Serialize) -> io::Result<()> {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    if let Some(id) = id {
        out.extend_from_slice(b"\nid: ");
        out.extend_from_slice(id.as_bytes());
    }
    out.extend_from_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, data)?;
    out.extend_from_slice(b"\n\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tell: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        tell(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_end_of_a_transaction_and_a_position_have_an_id() {
        let begin = Begin {
            name: "3e11fa47-71ca-11e1-9e33-c80aa9429562:5".to_owned(),
            set: "3e11fa47-71ca-11e1-9e33-c80aa9429562:5".parse().unwrap(),
            micros: 1_709_208_000_500_000,
        };
        assert_eq!(
            told(|out| commit(out, "7.x:1-5", &begin)),
            "event: commit\nid: 7.x:1-5\ndata: {\"gtid\":\"3e11fa47-71ca-11e1-9e33-c80aa9429562:5\",\
             \"at\":\"2024-02-29T12:00:00.5Z\"}\n\n"
        );
        let unknown = Begin { micros: 0, ..begin };
        assert!(told(|out| commit(out, "7.", &unknown)).contains("\"at\":null"));
        assert_eq!(
            told(|out| position(out, "7.x:1")),
            "event: position\nid: 7.x:1\ndata: {\"position\":\"7.x:1\"}\n\n"
        );
        assert_eq!(
            told(|out| schema(out, "shop")),
            "event: schema\ndata: {\"database\":\"shop\"}\n\n"
        );
        assert_eq!(
            told(|out| skipped(out, None, "why")),
            "event: skipped\ndata: {\"why\":\"why\"}\n\n"
        );
    }
}
