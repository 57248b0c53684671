//! `INSERT` of many rows, as many at a time as a statement can hold.

use std::{collections::BTreeSet, iter::Peekable};

use serde::Deserialize;
use tokio::task::yield_now;
use utoipa::ToSchema;

use super::{Cells, Objects, Rows};
use crate::{
    mysql::{Done, Transaction},
    problem::Problem,
    sql::{Name, Sql, Value},
    table::{ColumnFacts, TableFacts},
};

/// Rows of one statement at most.
const ROWS: usize = 5000;
/// Bound values of one statement at most; MySQL takes 65,535.
const VALUES: usize = 50_000;
/// A statement takes no further row from so many bytes on.
const BYTES: usize = 1 << 20;

/// After so many rows others have their turn, MySQL's answer among them.
pub const TURN: usize = 500;

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

/// A statement that inserts some of many rows.
struct Batch {
    sql: Sql,
    /// What records show of it, where it is not the only row.
    noted: Option<Sql>,
    rows: usize,
    makes_keys: bool,
    /// It has as many rows as a statement can have, and is not the last one.
    is_full: bool,
}

/// How rows come into a table.
#[derive(Debug, Clone)]
pub struct Insert {
    database: Name,
    table: Name,
    columns: Vec<Name>,
    /// The place of the column that MySQL counts up.
    counted: Option<usize>,
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
            counted: facts.columns.iter().position(ColumnFacts::counts_up),
            conflict,
        })
    }

    /// True where a row whose key is there already is no error.
    pub fn passes_conflicts(&self) -> bool {
        self.conflict != OnConflict::Error
    }

    /// True where two rows fit into one statement: one that is merged touches only what it names.
    pub fn goes_with(&self, one: &Cells, other: &Cells) -> bool {
        self.conflict != OnConflict::Merge || places(one).eq(places(other))
    }

    /// Inserts one row; a column that it does not name gets its default, and stays as it is where the row is merged.
    pub async fn one(&self, transaction: &mut Transaction, row: Cells) -> Result<Done, Problem> {
        let row = [row];
        transaction.run(self.statement(&columns(&row), &row)).await
    }

    /// [`Insert::one`] of each object of a body. They are unpacked as they are inserted: those of a statement while MySQL
    /// carries out the one before.
    pub async fn each(&self, transaction: &mut Transaction, objects: &Objects<'_>) -> Result<Done, Problem> {
        let mut rows = objects.rows().peekable();
        let mut all = Done { rows: 0, key: 0 };
        let (mut before, mut is_settled) = (0, false);
        let mut next = self.batch(&mut rows, objects).await?;
        while let Some(batch) = next {
            let Batch {
                sql,
                noted,
                rows: length,
                makes_keys,
                is_full,
            } = batch;
            let run = async {
                match noted {
                    Some(noted) => transaction.bulk(sql, noted.as_text(), is_full).await,
                    None => transaction.run(sql).await,
                }
            };
            let (done, following) = tokio::join!(run, self.batch(&mut rows, objects));
            let done = done.map_err(|problem| behind(problem, before))?;
            next = following?;
            before += length;
            all.rows += done.rows;
            if done.key != 0 && !is_settled {
                all.key = done.key;
                // MySQL names the first key that it made in a statement, else the last one that was given. So one
                // statement of all merged rows would have done.
                is_settled = makes_keys || self.conflict != OnConflict::Merge;
            }
        }
        Ok(all)
    }

    /// The next statement of those that insert the objects; none behind the last one.
    async fn batch(
        &self,
        rows: &mut Peekable<Rows<'_>>,
        objects: &Objects<'_>,
    ) -> Result<Option<Batch>, Problem> {
        let named = objects.columns()?;
        let most = (VALUES / named.len().max(1)).clamp(1, ROWS);
        let part = self.part(rows, most).await?;
        if part.is_empty() {
            return Ok(None);
        }
        let own = (self.conflict == OnConflict::Merge).then(|| columns(&part));
        let columns = own.as_ref().unwrap_or(named);
        Ok(Some(Batch {
            sql: self.statement(columns, &part),
            noted: (objects.count() > 1).then(|| self.statement(columns, &part[..1])),
            rows: part.len(),
            makes_keys: self.makes_keys(&part),
            is_full: part.len() == most && rows.peek().is_some(),
        }))
    }

    /// The next rows that fit into one statement; none behind the last one.
    async fn part(&self, rows: &mut Peekable<Rows<'_>>, most: usize) -> Result<Vec<Cells>, Problem> {
        let mut part: Vec<Cells> = Vec::new();
        while part.len() < most {
            let next = rows.next_if(|next| match (part.first(), next) {
                (Some(first), Ok(next)) => self.goes_with(first, next),
                _ => true,
            });
            let Some(next) = next else { break };
            part.push(next?);
            if part.len().is_multiple_of(TURN) {
                yield_now().await;
            }
        }
        Ok(part)
    }

    /// True where MySQL makes the key of one of these rows.
    fn makes_keys(&self, rows: &[Cells]) -> bool {
        let is_given = |cells: &Cells| {
            cells
                .iter()
                .any(|(at, value)| Some(*at) == self.counted && !matches!(value, Value::Null | Value::Int(0)))
        };
        !rows.iter().all(is_given)
    }

    /// Inserts the rows of one statement, which may come `again` with as many others.
    pub async fn run(
        &self,
        transaction: &mut Transaction,
        rows: &[Cells],
        again: bool,
    ) -> Result<Done, Problem> {
        let columns = columns(rows);
        let noted = self.statement(&columns, &rows[..1.min(rows.len())]);
        let sql = self.statement(&columns, rows);
        transaction.bulk(sql, noted.as_text(), again).await
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

/// An `INSERT` that gives a row which is there already the values that are named.
fn merged<'n>(sql: Sql, columns: impl Iterator<Item = &'n Name>) -> Sql {
    sql.text(" AS `new row` ON DUPLICATE KEY UPDATE ")
        .list(", ", columns, |sql, column| {
            sql.name(column).text(" = `new row`.").name(column)
        })
}

/// The columns that rows name.
fn columns(rows: &[Cells]) -> BTreeSet<usize> {
    rows.iter().flat_map(places).collect()
}

/// The columns that a row names.
pub(super) fn places(cells: &Cells) -> impl Iterator<Item = usize> {
    cells.iter().map(|(at, _)| *at)
}

/// MySQL counts the rows of a statement from 1; it says where the statement begins, unless that is the first row.
fn behind(mut problem: Problem, before: usize) -> Problem {
    if before > 0 && problem.code.is_some() {
        problem.detail = format!("among the rows from row {} on: {}", before + 1, problem.detail);
    }
    problem
}

/// What several statements did.
pub fn add(all: &mut Done, done: Done) {
    all.rows += done.rows;
    if all.key == 0 {
        all.key = done.key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(conflict: OnConflict) -> Insert {
        let column = |name: &str| ColumnFacts::ordinary(name, "int");
        let counted = ColumnFacts {
            extra: "auto_increment".to_owned(),
            ..column("id")
        };
        let facts = TableFacts {
            columns: vec![counted, column("a"), column("b")],
            key: vec!["id".to_owned()],
        };
        let name = |text: &str| Name::new(text).unwrap();
        Insert::new(&name("d"), &name("t"), &facts, conflict).unwrap()
    }

    fn row(places: &[usize]) -> Cells {
        places.iter().map(|at| (*at, Value::Int(1))).collect()
    }

    async fn parts(conflict: OnConflict, rows: &[Cells], most: usize) -> Vec<usize> {
        let insert = insert(conflict);
        let rows: Rows<'_> = Box::new(rows.iter().cloned().map(Ok));
        let mut rows = rows.peekable();
        let mut parts = Vec::new();
        loop {
            match insert.part(&mut rows, most).await.unwrap().len() {
                0 => return parts,
                length => parts.push(length),
            }
        }
    }

    #[tokio::test]
    async fn a_row_that_is_merged_touches_only_what_it_names_and_keeps_its_place() {
        let rows = [&[0, 1][..], &[0, 1], &[0, 2], &[0, 1], &[], &[0, 1, 2]].map(row);
        assert_eq!(parts(OnConflict::Merge, &rows, 5000).await, [2, 1, 1, 1, 1]);
        for together in [OnConflict::Error, OnConflict::Ignore] {
            assert_eq!(parts(together, &rows, 5000).await, [6]);
            assert_eq!(parts(together, &rows, 4).await, [4, 2]);
        }
        let sql = insert(OnConflict::Merge).statement(&columns(&rows[2..3]), &rows[2..3]);
        assert_eq!(
            sql.as_text(),
            "INSERT INTO `d`.`t` (`id`, `b`) VALUES (?, ?) AS `new row` ON DUPLICATE KEY UPDATE \
             `id` = `new row`.`id`, `b` = `new row`.`b`"
        );
    }

    #[test]
    fn a_key_is_made_where_one_row_gives_none() {
        let insert = insert(OnConflict::Merge);
        let made = |value: Value| insert.makes_keys(&[row(&[0, 1]), vec![(0, value)]]);
        assert_eq!(
            [Value::Int(7), Value::Int(0), Value::Null].map(made),
            [false, true, true]
        );
        assert!(insert.makes_keys(&[row(&[0]), row(&[1])]));
    }
}
