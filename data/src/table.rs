//! What MySQL says of a table: its columns and keys, kept for a short while.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    access::Role,
    call::Call,
    clock,
    engine::Engine,
    problem::Problem,
    sql::{Name, Sql},
};

/// A definition is asked for anew after this time, because it may be changed by others.
const KEPT: Duration = Duration::from_secs(2);
/// More definitions than this are not kept.
const MOST: usize = 1000;
/// More columns than MySQL allows.
const COLUMNS: usize = 5000;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Its whole type, as in a definition.
    #[serde(rename = "type")]
    pub kind: String,
    /// NULL is allowed.
    pub nullable: bool,
    /// Its default, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// MySQL makes its value: `auto_increment` and such.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub extra: String,
    /// What its maker says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Values go in and out as base64.
    pub binary: bool,
}

impl ColumnFacts {
    /// An ordinary column, for tests.
    #[cfg(test)]
    pub fn ordinary(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            nullable: true,
            default: None,
            extra: String::new(),
            comment: String::new(),
            binary: kind.contains("binary"),
        }
    }

    /// Its name, fit for a statement.
    pub fn sql_name(&self) -> Result<Name, Problem> {
        Name::new(self.name.clone()).map_err(Problem::bad_request)
    }

    /// MySQL counts it up where it is given no number.
    pub fn counts_up(&self) -> bool {
        self.extra.contains("auto_increment")
    }

    /// MySQL computes its values and takes no others.
    pub fn is_generated(&self) -> bool {
        self.extra.contains("VIRTUAL GENERATED") || self.extra.contains("STORED GENERATED")
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableFacts {
    /// Its columns, in order.
    pub columns: Vec<ColumnFacts>,
    /// The columns of its primary key, in order.
    pub key: Vec<String>,
}

impl TableFacts {
    /// The columns of the primary key, fit for a statement.
    pub fn key_names(&self) -> Vec<Name> {
        // MySQL's own names are valid.
        self.key
            .iter()
            .filter_map(|name| Name::new(name.clone()).ok())
            .collect()
    }

    /// A column's place by its name, in MySQL's sense of equal names.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// A column by its name, in MySQL's sense of equal names.
    pub fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.place(name).map(|at| &self.columns[at])
    }
}

type Known = BTreeMap<(String, String), (Instant, Arc<TableFacts>)>;

/// Definitions that were asked for lately.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Known>);

impl Cache {
    /// A definition was changed.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn get(&self, key: &(String, String)) -> Option<Arc<TableFacts>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, facts) = known.get(key)?;
        (clock::now().saturating_duration_since(*since) < KEPT).then(|| Arc::clone(facts))
    }

    fn put(&self, key: (String, String), facts: &Arc<TableFacts>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (clock::now(), Arc::clone(facts)));
    }
}

impl Engine {
    /// The definition of a table in which the caller may change rows.
    pub async fn changed_table(
        &self,
        call: &Call,
        database: &Name,
        table: &Name,
    ) -> Result<Arc<TableFacts>, Problem> {
        call.require(Role::Writer)?;
        call.reach_table(database, table)?;
        self.table(call, database, table).await
    }

    /// The definition of a table that the caller reaches.
    pub async fn table(
        &self,
        call: &Call,
        database: &Name,
        table: &Name,
    ) -> Result<Arc<TableFacts>, Problem> {
        let key = (database.as_str().to_owned(), table.as_str().to_owned());
        if let Some(facts) = self.tables.get(&key) {
            return Ok(facts);
        }
        let sql = Sql::new(
            "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, COLUMN_COMMENT, \
             CHARACTER_SET_NAME IS NULL AND DATA_TYPE IN ('binary', 'varbinary', 'tinyblob', 'blob', 'mediumblob', \
             'longblob', 'geometry', 'point', 'linestring', 'polygon', 'multipoint', 'multilinestring', \
             'multipolygon', 'geomcollection'), \
             (SELECT CAST(s.SEQ_IN_INDEX AS CHAR) FROM information_schema.STATISTICS s WHERE s.TABLE_SCHEMA = c.TABLE_SCHEMA \
             AND s.TABLE_NAME = c.TABLE_NAME AND s.INDEX_NAME = 'PRIMARY' AND s.COLUMN_NAME = c.COLUMN_NAME) \
             FROM information_schema.COLUMNS c WHERE c.TABLE_SCHEMA = ",
        )
        .name_value(database)
        .text(" AND c.TABLE_NAME = ")
        .name_value(table)
        .text(" ORDER BY c.ORDINAL_POSITION");
        let statement = call.note().statement.clone();
        let rows = self.rows(call, sql, COLUMNS).await?;
        call.note().statement = statement;
        if rows.is_empty() {
            return Err(Problem::not_found(format!(
                "there is no table {} in the database {}",
                table.as_str(),
                database.as_str()
            )));
        }
        let mut columns = Vec::with_capacity(rows.len());
        let mut key_columns = BTreeMap::new();
        for row in &rows.cells {
            let text = |at: usize| {
                row.get(at)
                    .map(|cell| cell.as_text().to_owned())
                    .unwrap_or_default()
            };
            if let Some(at) = row.get(7).and_then(crate::mysql::Cell::as_unsigned) {
                key_columns.insert(at, text(0));
            }
            columns.push(ColumnFacts {
                name: text(0),
                kind: text(1),
                nullable: text(2) == "YES",
                default: Some(text(3)).filter(|_| !matches!(row.get(3), Some(crate::mysql::Cell::Null))),
                extra: text(4),
                comment: text(5),
                binary: row.get(6).and_then(crate::mysql::Cell::as_unsigned) == Some(1),
            });
        }
        let facts = Arc::new(TableFacts {
            columns,
            key: key_columns.into_values().collect(),
        });
        self.tables.put(key, &facts);
        Ok(facts)
    }
}
