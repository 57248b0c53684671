//! Records as values for the columns of a table.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::Cells;
use crate::{
    csv,
    problem::Problem,
    rows,
    sql::Value,
    table::{ColumnFacts, TableFacts},
};

/// The last line of an export.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: bool,
    rows: u64,
}

/// How many rows there were before a line that is the end of an export; `None` for every other line.
pub fn end_of(line: &[u8]) -> Option<u64> {
    if !line.starts_with(b"{\"end\"") {
        return None;
    }
    let End { end, rows } = serde_json::from_slice(line).ok()?;
    end.then_some(rows)
}

/// A line of JSON as values. What MySQL makes by itself is passed over.
pub fn from_json(facts: &TableFacts, line: &[u8]) -> Result<Cells, String> {
    let object: rows::Object = serde_json::from_slice(line)
        .map_err(|error| format!("not an object of columns with values: {error}"))?;
    let mut cells = rows::values(facts, &object).map_err(|problem| problem.detail.clone())?;
    // An export has what MySQL computes; it is passed over.
    cells.retain(|(at, _)| !facts.columns[*at].is_generated());
    Ok(cells)
}

/// The columns that the first record of CSV names, in its order; none for one that MySQL makes by itself.
pub fn head<'f>(
    facts: &TableFacts,
    fields: impl Iterator<Item = &'f [u8]>,
) -> Result<Vec<Option<usize>>, Problem> {
    let mut seen = BTreeSet::new();
    fields
        .map(|field| {
            let name = std::str::from_utf8(field)
                .map_err(|_| Problem::bad_request("the first record is not UTF-8; it names the columns"))?
                .trim_start_matches('\u{feff}');
            let at = facts.place(name).ok_or_else(|| {
                let known: Vec<&str> = facts.columns.iter().map(|column| column.name.as_str()).collect();
                Problem::bad_request(format!(
                    "the first record names the columns: there is no column `{name}`; there are {}",
                    known.join(", ")
                ))
            })?;
            if !seen.insert(at) {
                return Err(Problem::bad_request(format!(
                    "the first record names the column `{name}` twice"
                )));
            }
            Ok(Some(at).filter(|at| !facts.columns[*at].is_generated()))
        })
        .collect()
}

/// A record of CSV as values. `null` is the field that stands for NULL where it is not the usual one.
pub fn from_csv<'f>(
    facts: &TableFacts,
    head: &[Option<usize>],
    fields: impl ExactSizeIterator<Item = &'f [u8]>,
    null: Option<&str>,
) -> Result<Cells, String> {
    if fields.len() != head.len() {
        return Err(format!(
            "the record has {} fields, the first one names {} columns",
            fields.len(),
            head.len()
        ));
    }
    let mut cells = Cells::with_capacity(head.len());
    for (at, field) in head.iter().zip(fields) {
        let Some(at) = *at else { continue };
        let column = &facts.columns[at];
        let field =
            std::str::from_utf8(field).map_err(|_| format!("{}: the field is not UTF-8", column.name))?;
        let text = match null {
            Some(null) => Some(field).filter(|field| *field != null),
            None => csv::unescaped(field),
        };
        let value = text.map_or(Ok(Value::Null), |text| bind(column, text));
        cells.push((at, value.map_err(|reason| format!("{}: {reason}", column.name))?));
    }
    Ok(cells)
}

fn bind(column: &ColumnFacts, text: &str) -> Result<Value, String> {
    if column.binary {
        let bytes = STANDARD.decode(text);
        return bytes
            .map(Value::Bytes)
            .map_err(|_| "binary values are base64 text".to_owned());
    }
    if column.kind == "json" {
        return Ok(Value::Json(text.to_owned()));
    }
    if column.kind.starts_with("bit") {
        // As a text it would be taken for the bits of its letters.
        return Value::number(text).ok_or_else(|| format!("`{text}` is not a number"));
    }
    Ok(Value::Text(text.to_owned()))
}
