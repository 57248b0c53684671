//! `INSERT` of many rows, as many at a time as a statement can hold.

use std::collections::BTreeSet;

use serde::Deserialize;
use utoipa::ToSchema;

use super::{Cells, record};
use crate::{
    mysql::{Done, Transaction},
    problem::Problem,
    rows::Object,
    sql::{Name, Sql, Value},
    table::{ColumnFacts, TableFacts},
};

/// Rows of one statement at most.
const ROWS: usize = 5000;
/// Bound values of one statement at most; MySQL takes 65,535.
const VALUES: usize = 50_000;
/// A statement takes no further row from so many bytes on.
const BYTES: usize = 1 << 20;

/// What happens to a row whose key is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// It is refused.
    #[default]
    Error,
    /// The row that is there stays as it is.
    Ignore,
    /// The row that is there takes the new values.
    Merge,
}

/// Rows of one statement.
#[derive(Debug, Default)]
pub struct Chunk {
    rows: Vec<Cells>,
    bytes: usize,
}

impl Chunk {
    /// True where another row of a table with so many columns would make it too large.
    pub fn is_full(&self, columns: usize) -> bool {
        !self.rows.is_empty()
            && (self.rows.len() >= ROWS || (self.rows.len() + 1) * columns > VALUES || self.bytes >= BYTES)
    }

    /// Adds a row of about so many bytes.
    pub fn push(&mut self, cells: Cells, size: usize) {
        self.bytes += size;
        self.rows.push(cells);
    }

    /// The rows.
    pub fn rows(&self) -> &[Cells] {
        &self.rows
    }

    /// True where it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// How rows come into a table.
#[derive(Debug, Clone)]
pub struct Insert {
    database: Name,
    table: Name,
    columns: Vec<Name>,
    conflict: OnConflict,
}

impl Insert {
    /// Into this table.
    pub fn new(
        database: &Name,
        table: &Name,
        facts: &TableFacts,
        conflict: OnConflict,
    ) -> Result<Self, Problem> {
        let columns = facts.columns.iter().map(ColumnFacts::sql_name);
        Ok(Self {
            database: database.clone(),
            table: table.clone(),
            columns: columns.collect::<Result<_, _>>()?,
            conflict,
        })
    }

    /// True where a row whose key is there already is no error.
    pub fn passes_conflicts(&self) -> bool {
        self.conflict != OnConflict::Error
    }

    /// True where two rows fit into one statement: one that is merged touches only what it names.
    pub fn goes_with(&self, one: &Cells, other: &Cells) -> bool {
        let places = |cells: &Cells| -> Vec<usize> { cells.iter().map(|(at, _)| *at).collect() };
        self.conflict != OnConflict::Merge || places(one) == places(other)
    }

    /// Inserts objects; a column that one of them does not name gets its default.
    pub async fn objects(
        &self,
        transaction: &mut Transaction,
        facts: &TableFacts,
        objects: &[Object],
    ) -> Result<Done, Problem> {
        let mut rows = Vec::with_capacity(objects.len());
        for object in objects {
            rows.push(record::cells(facts, object)?);
        }
        let columns = columns(&rows);
        let mut all = Done { rows: 0, key: 0 };
        let mut left = rows.as_slice();
        while !left.is_empty() {
            let at_a_time = (VALUES / columns.len().max(1)).clamp(1, ROWS);
            let (chunk, rest) = left.split_at(at_a_time.min(left.len()));
            left = rest;
            let sql = self.statement(&columns, chunk);
            let done = if rows.len() == 1 {
                transaction.run(sql).await?
            } else {
                let noted = self.statement(&columns, &chunk[..1]);
                transaction.bulk(sql, noted.as_text()).await?
            };
            add(&mut all, done);
        }
        Ok(all)
    }

    /// Inserts the rows of one statement.
    pub async fn run(&self, transaction: &mut Transaction, rows: &[Cells]) -> Result<Done, Problem> {
        let columns = columns(rows);
        let noted = self.statement(&columns, &rows[..1.min(rows.len())]);
        let sql = self.statement(&columns, rows);
        transaction.bulk(sql, noted.as_text()).await
    }

    fn statement(&self, columns: &BTreeSet<usize>, rows: &[Cells]) -> Sql {
        let names = || columns.iter().map(|at| &self.columns[*at]);
        let mut sql = Sql::new("INSERT INTO ")
            .table(&self.database, &self.table)
            .text(" (")
            .list(", ", names(), Sql::name)
            .text(") VALUES ");
        for (at, cells) in rows.iter().enumerate() {
            sql = sql.text(if at > 0 { ", (" } else { "(" });
            sql = sql.list(", ", columns, |sql, column| {
                match cells.iter().find(|(at, _)| at == column) {
                    Some((_, value)) => sql.value(Value::clone(value)),
                    None => sql.text("DEFAULT"),
                }
            });
            sql = sql.text(")");
        }
        match (self.conflict, names().next()) {
            (OnConflict::Error, _) | (_, None) => sql,
            // A column set to itself changes nothing and hides no other error, as INSERT IGNORE would.
            (OnConflict::Ignore, Some(first)) => sql
                .text(" ON DUPLICATE KEY UPDATE ")
                .name(first)
                .text(" = ")
                .table(&self.table, first),
            (OnConflict::Merge, Some(_)) => merged(sql, names()),
        }
    }
}

/// An `INSERT` whose row takes the place of one with the same key.
pub fn merged<'n>(sql: Sql, columns: impl Iterator<Item = &'n Name>) -> Sql {
    sql.text(" AS `new row` ON DUPLICATE KEY UPDATE ")
        .list(", ", columns, |sql, column| {
            sql.name(column).text(" = `new row`.").name(column)
        })
}

/// The columns that rows name.
fn columns(rows: &[Cells]) -> BTreeSet<usize> {
    rows.iter().flatten().map(|(at, _)| *at).collect()
}

/// What several statements did.
pub fn add(all: &mut Done, done: Done) {
    all.rows += done.rows;
    if all.key == 0 {
        all.key = done.key;
    }
}
