//! How rows are written on their way in and out, other than as members of a JSON document.

use std::io;

use axum::http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

use crate::{csv, mysql::Rows};

/// A way to write rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// CSV whose first record names the columns.
    Csv,
}

impl Format {
    /// What the client accepts: the first of the two that its header names; `None` where it takes plain JSON before
    /// either, or says nothing.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|one| match kind(one).as_str() {
                "application/json" | "*/*" => Some(None),
                other => named(other).map(Some),
            })
            .flatten()
    }

    /// What the client sends; `None` for everything else.
    pub fn of_body(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?;
        named(&kind(value.to_str().ok()?))
    }

    /// What the reply says of itself.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// What comes before the rows.
    pub fn head<'n>(self, out: &mut Vec<u8>, names: impl IntoIterator<Item = &'n str>) {
        if self == Self::Csv {
            csv::head(out, names);
        }
    }

    /// The rows of a result.
    pub fn rows(self, out: &mut Vec<u8>, rows: &Rows) -> io::Result<()> {
        match self {
            Self::Ndjson => rows.each().try_for_each(|row| line(out, &row)),
            Self::Csv => rows.cells.iter().try_for_each(|cells| csv::record(out, cells)),
        }
    }

    /// The proof that these were all `rows`, each of so many columns.
    pub fn end(self, out: &mut Vec<u8>, columns: usize, rows: u64) {
        match self {
            Self::Ndjson => out.extend_from_slice(format!("{{\"end\":true,\"rows\":{rows}}}\n").as_bytes()),
            Self::Csv => csv::end(out, columns, rows),
        }
    }
}

/// What a reply that is a stream says of itself.
pub fn headers(content_type: &'static str) -> [(HeaderName, &'static str); 2] {
    [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
    ]
}

/// Writes a line of JSON.
pub fn line(out: &mut Vec<u8>, what: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, what)?;
    out.push(b'\n');
    Ok(())
}

/// A media type without its parameters.
fn kind(value: &str) -> String {
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

fn named(kind: &str) -> Option<Format> {
    match kind {
        "text/csv" => Some(Format::Csv),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Format::Ndjson),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_type_that_is_known_is_taken() {
        let accepted = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, text.parse().unwrap());
            Format::accepted(&headers)
        };
        assert_eq!(accepted("text/csv"), Some(Format::Csv));
        assert_eq!(accepted("image/png, Text/CSV;q=0.9, */*"), Some(Format::Csv));
        assert_eq!(accepted("application/x-ndjson"), Some(Format::Ndjson));
        assert_eq!(accepted("*/*, text/csv"), None);
        assert_eq!(accepted("image/png"), None);
        assert_eq!(Format::accepted(&HeaderMap::new()), None);
    }
}
