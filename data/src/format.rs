//! How rows are written on their way in and out.

use std::io;

use axum::http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

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
    /// What the client accepts: the first of the two that its header names.
    pub fn accepted(headers: &HeaderMap) -> Self {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|one| match kind(one).as_str() {
                "application/json" | "*/*" => Some(Self::Ndjson),
                other => named(other),
            })
            .unwrap_or(Self::Ndjson)
    }

    /// What the client sends; `None` for everything else.
    pub fn of_body(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?;
        named(&kind(value.to_str().ok()?))
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
        assert_eq!(accepted("text/csv"), Format::Csv);
        assert_eq!(accepted("image/png, Text/CSV;q=0.9, */*"), Format::Csv);
        assert_eq!(accepted("*/*"), Format::Ndjson);
        assert_eq!(accepted("image/png"), Format::Ndjson);
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Ndjson);
    }
}
