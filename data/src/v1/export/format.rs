//! Rows in both formats.

use std::io;

use crate::{
    csv,
    format::{Format, line},
    mysql::Rows,
    table::TableFacts,
};

impl Format {
    /// What the reply says of itself.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// What comes before the rows.
    pub fn head(self, out: &mut Vec<u8>, facts: &TableFacts) {
        if self == Self::Csv {
            csv::head(out, facts.columns.iter().map(|column| column.name.as_str()));
        }
    }

    /// A row, the only one of this result.
    pub fn row(self, out: &mut Vec<u8>, row: &Rows) -> io::Result<()> {
        match self {
            Self::Ndjson => line(out, &row.first()),
            Self::Csv => csv::record(out, row.cells.first().map_or(&[], Vec::as_slice)),
        }
    }

    /// The proof that these were all.
    pub fn end(self, out: &mut Vec<u8>, facts: &TableFacts, rows: u64) {
        match self {
            Self::Ndjson => {
                out.extend_from_slice(format!("{{\"end\":true,\"rows\":{rows}}}\n").as_bytes());
            }
            Self::Csv => csv::end(out, facts.columns.len(), rows),
        }
    }
}
