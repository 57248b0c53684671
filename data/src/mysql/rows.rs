//! The result of a query, bounded in rows and bytes.

use std::sync::Arc;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};
use sqlx::{Column as _, Row as _, TypeInfo as _, mysql::MySqlRow};

use super::{Cell, cell::Raw};

/// A column of a result.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as MySQL names it.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A result that fits in memory.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The columns, in order.
    pub columns: Arc<[Column]>,
    /// The rows, each with as many cells as there are columns.
    pub cells: Vec<Vec<Cell>>,
    /// There were more rows than were asked for.
    pub more: bool,
}

impl Rows {
    /// Adds a row; returns about how many bytes it takes.
    pub(super) fn push(&mut self, row: &MySqlRow) -> Result<usize, sqlx::Error> {
        if self.columns.is_empty() {
            self.columns = row
                .columns()
                .iter()
                .map(|column| Column {
                    name: column.name().to_owned(),
                    kind: column.type_info().name().to_owned(),
                })
                .collect();
        }
        let mut cells = Vec::with_capacity(row.columns().len());
        let mut size = 0;
        for (at, column) in row.columns().iter().enumerate() {
            let raw = row.try_get_unchecked::<Raw<'_>, _>(at)?;
            let cell = Cell::read(column.type_info(), raw).map_err(|source| sqlx::Error::ColumnDecode {
                index: column.name().to_owned(),
                source,
            })?;
            size += cell.size();
            cells.push(cell);
        }
        self.cells.push(cells);
        Ok(size)
    }

    /// Leaves only the first columns.
    pub fn cut(&mut self, columns: usize) {
        self.columns = self.columns.iter().take(columns).cloned().collect();
        for row in &mut self.cells {
            row.truncate(columns);
        }
    }

    /// The first row as an object; null where there is none.
    pub fn first(&self) -> impl Serialize {
        self.cells.first().map(|cells| Object {
            columns: &self.columns,
            cells,
        })
    }

    /// The rows as objects.
    pub fn each(&self) -> impl Iterator<Item = impl Serialize> {
        self.cells.iter().map(|cells| Object {
            columns: &self.columns,
            cells,
        })
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// True where there is no row.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The first cell of every row as text.
    pub fn texts(&self) -> Vec<String> {
        self.cells
            .iter()
            .filter_map(|row| row.first().map(|cell| cell.as_text().to_owned()))
            .collect()
    }

    /// The first cell of the first row as a number that is never negative; `None` where there is none.
    pub fn number(&self) -> Option<u64> {
        self.cells.first()?.first()?.as_unsigned()
    }

    /// The rows as arrays instead of objects.
    pub fn arrays(&self) -> &[Vec<Cell>] {
        &self.cells
    }
}

/// An array of objects, their members in the columns' order.
impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut all = out.serialize_seq(Some(self.cells.len()))?;
        for cells in &self.cells {
            all.serialize_element(&Object {
                columns: &self.columns,
                cells,
            })?;
        }
        all.end()
    }
}

struct Object<'a> {
    columns: &'a [Column],
    cells: &'a [Cell],
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut object = out.serialize_map(Some(self.cells.len()))?;
        for (column, cell) in self.columns.iter().zip(self.cells) {
            object.serialize_entry(&column.name, cell)?;
        }
        object.end()
    }
}
