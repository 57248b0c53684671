//! A body as rows, one at a time.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, BodyDataStream, Bytes};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{Cells, lines, record};
use crate::{
    csv,
    format::Format,
    problem::{Kind, Problem},
    table::TableFacts,
};

/// How long the next row may take to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One row.
#[derive(Debug)]
pub struct Row {
    /// The line that it begins in, counted from 1.
    pub line: u64,
    /// Its values, or why it has none.
    pub cells: Result<Cells, String>,
    /// About how many bytes it has.
    pub size: usize,
}

enum Parser {
    Ndjson(lines::Lines),
    Csv {
        reader: Box<csv::Reader>,
        /// The columns that the first record names; empty before it.
        head: Vec<Option<usize>>,
        null: Option<String>,
    },
}

enum Found {
    More,
    Row(Row),
    /// So many rows came before it.
    Mark(u64),
    End,
}

/// Reads rows of a table.
pub struct Reader {
    facts: Arc<TableFacts>,
    body: BodyDataStream,
    part: Bytes,
    over: bool,
    parser: Parser,
    limit: usize,
    hash: Sha256,
    rows: u64,
    mark: Option<u64>,
}

impl Reader {
    /// Of a body whose rows have `limit` bytes at most. `null` stands for NULL in CSV, in place of `\N`.
    pub fn new(
        facts: Arc<TableFacts>,
        body: Body,
        format: Format,
        limit: usize,
        null: Option<String>,
    ) -> Self {
        Self {
            facts,
            body: body.into_data_stream(),
            part: Bytes::new(),
            over: false,
            parser: match format {
                Format::Ndjson => Parser::Ndjson(lines::Lines::new(limit)),
                Format::Csv => Parser::Csv {
                    reader: Box::new(csv::Reader::new(limit)),
                    head: Vec::new(),
                    null,
                },
            },
            limit,
            hash: Sha256::new(),
            rows: 0,
            mark: None,
        }
    }

    /// The next row; nothing behind the last one, once it is certain that it is the last.
    pub async fn next(&mut self) -> Result<Option<Row>, Problem> {
        timeout(PATIENCE, self.find())
            .await
            .map_err(|_| Problem::bad_request("the body did not come in time"))?
    }

    /// How many rows came so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The hash of everything up to the row that was read last.
    pub fn hash(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    async fn find(&mut self) -> Result<Option<Row>, Problem> {
        loop {
            if self.part.is_empty() && !self.over {
                match self.body.next().await {
                    Some(Ok(part)) => self.part = part,
                    Some(Err(_)) => return Err(Problem::bad_request("the body broke off")),
                    None => self.over = true,
                }
                // A part may be empty without being the last.
                if self.part.is_empty() && !self.over {
                    continue;
                }
            }
            let (used, found) = self.parse()?;
            self.hash.update(&self.part[..used]);
            self.part = self.part.slice(used..);
            match (found, self.mark) {
                (Found::More, _) => {}
                (Found::Row(row), None) => {
                    self.rows += 1;
                    return Ok(Some(row));
                }
                (Found::Mark(count), None) if count == self.rows => self.mark = Some(count),
                (Found::Mark(count), None) => {
                    return Err(Problem::new(
                        Kind::BadValue,
                        format!(
                            "the end of the body says that it has {count} rows, and it has {}",
                            self.rows
                        ),
                    ));
                }
                (Found::Row(Row { line, .. }), Some(_)) => {
                    return Err(Problem::new(
                        Kind::BadValue,
                        format!("line {line} stands behind the end of the body"),
                    ));
                }
                (Found::Mark(_), Some(_)) => {
                    return Err(Problem::new(Kind::BadValue, "the body has two ends"));
                }
                (Found::End, _) => return Ok(None),
            }
        }
    }

    /// What the part begins with, and how many bytes it has.
    fn parse(&mut self) -> Result<(usize, Found), Problem> {
        let too_long = || format!("it has more than {} bytes", self.limit);
        match &mut self.parser {
            Parser::Ndjson(lines) => {
                let (used, step) = lines.read(&self.part);
                let found = match step {
                    lines::Step::More => Found::More,
                    lines::Step::End => Found::End,
                    lines::Step::Line { line, text: None } => Found::Row(Row {
                        line,
                        cells: Err(too_long()),
                        size: 0,
                    }),
                    lines::Step::Line {
                        line,
                        text: Some(text),
                    } => match record::end_of(&text) {
                        Some(count) => Found::Mark(count),
                        None => Found::Row(Row {
                            line,
                            cells: record::from_json(&self.facts, &text),
                            size: text.len(),
                        }),
                    },
                };
                Ok((used, found))
            }
            Parser::Csv { reader, head, null } => {
                let (used, step) = reader.read(&self.part);
                let found = match step {
                    csv::Step::More => Found::More,
                    csv::Step::End => Found::End,
                    csv::Step::Record { line, too_long: true } => Found::Row(Row {
                        line,
                        cells: Err(too_long()),
                        size: 0,
                    }),
                    csv::Step::Record { .. } if head.is_empty() => {
                        *head = record::head(&self.facts, reader.fields())?;
                        return Ok((used, Found::More));
                    }
                    csv::Step::Record { line, .. } => match mark(reader) {
                        Some(count) => Found::Mark(count),
                        None => Found::Row(Row {
                            line,
                            cells: record::from_csv(&self.facts, head, reader.fields(), null.as_deref()),
                            size: reader.size(),
                        }),
                    },
                };
                Ok((used, found))
            }
        }
    }
}

/// How many rows there were before a record that is the end of an export.
fn mark(reader: &csv::Reader) -> Option<u64> {
    let first = reader.fields().next()?;
    csv::end_of(std::str::from_utf8(first).ok()?)
}
