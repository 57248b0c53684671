//! The one search of both faces: a value in every column that can hold it, one table after another, within bounds.
//!
//! There is no index that could help, so each table is read until enough is found or its share of the time is over;
//! what was not read to its end is said.

use std::{collections::BTreeMap, time::Duration, time::Instant};

use crate::{
    call::Call,
    clock,
    engine::Engine,
    mysql::{Cell, Rows},
    problem::{Kind, Problem},
    sql::{Name, Sql, Value, is_system},
};

/// More columns than this are not searched.
const COLUMNS: usize = 20_000;
/// A table gets this part of the time that is left, as long as others wait.
const SHARE: u32 = 3;
/// And so much at least.
const LEAST: Duration = Duration::from_millis(50);

/// What is searched, and where; an empty list stands for all.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// A part of a text, or a number.
    pub value: String,
    /// In these databases.
    pub databases: Vec<Name>,
    /// In tables of these names.
    pub tables: Vec<Name>,
    /// In columns of these names.
    pub columns: Vec<Name>,
}

/// How much it may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Rows in all.
    pub rows: usize,
    /// Rows of one table.
    pub per_table: usize,
    /// When it ends.
    pub until: Instant,
}

/// A column that can hold the value.
#[derive(Debug, Clone)]
struct Column {
    name: Name,
    holds: Holds,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Numbers,
    /// In the character set of the connection.
    Texts,
    /// In another one, which may lack letters of the value: MySQL would refuse to compare them.
    Others,
}

/// A table that can hold the value.
#[derive(Debug, Clone)]
struct Place {
    database: Name,
    table: Name,
    columns: Vec<Column>,
}

/// Why a table was not searched to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// There are more rows than were asked for.
    Rows,
    /// Its time was over.
    Time,
    /// It could not be read.
    Failed,
}

/// What was found in one table.
#[derive(Debug)]
pub struct Found {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// The columns that were searched.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Rows,
    /// For each row and each column whether the value is there.
    pub hits: Vec<Vec<bool>>,
    /// Why there may be more.
    pub cut: Option<Why>,
}

/// A search under way.
#[derive(Debug)]
pub struct Search {
    value: String,
    number: Option<Value>,
    places: std::vec::IntoIter<Place>,
    bounds: Bounds,
    left: usize,
}

impl Search {
    /// Finds out where the value can be.
    pub async fn begin(
        engine: &Engine,
        call: &Call,
        wanted: Wanted,
        bounds: Bounds,
    ) -> Result<Self, Problem> {
        for database in &wanted.databases {
            call.reach(database)?;
        }
        let number = Value::number(&wanted.value);
        let places = places(engine, call, &wanted, number.is_some()).await?;
        Ok(Self {
            value: wanted.value,
            number,
            places: places.into_iter(),
            bounds,
            left: bounds.rows,
        })
    }

    /// How many tables were not reached.
    pub fn unreached(&self) -> usize {
        self.places.len()
    }

    /// Searches the next table; nothing where there is none, or where rows or time are used up.
    pub async fn next(&mut self, engine: &Engine, call: &Call) -> Result<Option<Found>, Problem> {
        let time = clock::left(self.bounds.until);
        if time.is_zero() || self.left == 0 {
            return Ok(None);
        }
        let Some(place) = self.places.next() else {
            return Ok(None);
        };
        let time = if self.places.len() == 0 {
            time
        } else {
            (time / SHARE).max(LEAST)
        };
        let limit = self.left.min(self.bounds.per_table);
        let sql = self.statement(&place, time, limit);
        let (mut rows, mut cut) = match engine.rows(call, sql, limit).await {
            Ok(rows) => (rows, None),
            Err(problem) if problem.kind() == Kind::Timeout => (Rows::default(), Some(Why::Time)),
            // Dropped in between, or of a kind that cannot be compared with the value.
            Err(problem) if problem.code.is_some() && !problem.is_again() => {
                (Rows::default(), Some(Why::Failed))
            }
            Err(problem) if problem.kind() == Kind::TooLarge => (Rows::default(), Some(Why::Rows)),
            Err(problem) => return Err(problem),
        };
        if rows.more {
            cut = Some(Why::Rows);
        }
        self.left -= rows.len();
        let own = rows.columns.len().saturating_sub(place.columns.len());
        let hits = rows
            .arrays()
            .iter()
            .map(|row| {
                row.iter()
                    .skip(own)
                    .map(|cell| cell.as_unsigned() == Some(1))
                    .collect()
            })
            .collect();
        rows.cut(own);
        Ok(Some(Found {
            database: place.database.as_str().to_owned(),
            table: place.table.as_str().to_owned(),
            columns: place
                .columns
                .iter()
                .map(|one| one.name.as_str().to_owned())
                .collect(),
            rows,
            hits,
            cut,
        }))
    }

    /// The table's own columns, and behind them for each searched one whether the value is there.
    fn statement(&self, place: &Place, time: Duration, limit: usize) -> Sql {
        let pattern = pattern(&self.value);
        let is_there = |sql: Sql, column: &Column| match (&self.number, column.holds) {
            (Some(number), Holds::Numbers) => sql.name(&column.name).text(" = ").value(number.clone()),
            (_, Holds::Others) if !self.value.is_ascii() => sql
                .text("CONVERT(")
                .name(&column.name)
                .text(" USING utf8mb4) LIKE ")
                .value(Value::Text(pattern.clone())),
            // Columns of numbers are not among the places where the value is none.
            _ => sql
                .name(&column.name)
                .text(" LIKE ")
                .value(Value::Text(pattern.clone())),
        };
        let millis = clock::millis(time);
        let mut sql = Sql::new("SELECT /*+ MAX_EXECUTION_TIME(")
            .number(millis.clamp(1, u64::from(u32::MAX)))
            .text(") */ *");
        for column in &place.columns {
            sql = is_there(sql.text(", "), column);
        }
        sql.text(" FROM ")
            .table(&place.database, &place.table)
            .text(" WHERE ")
            .list(" OR ", &place.columns, is_there)
            .text(" LIMIT ")
            .number(limit as u64 + 1)
    }
}

/// A text that has the value somewhere.
fn pattern(value: &str) -> String {
    let escaped: String = value
        .chars()
        .flat_map(|letter| {
            let special = matches!(letter, '%' | '_' | '\\');
            special.then_some('\\').into_iter().chain([letter])
        })
        .collect();
    format!("%{escaped}%")
}

/// The columns that can hold the value, by table.
async fn places(engine: &Engine, call: &Call, wanted: &Wanted, numbers: bool) -> Result<Vec<Place>, Problem> {
    let mut sql = Sql::new(
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, COALESCE(c.CHARACTER_SET_NAME, '') \
         FROM information_schema.COLUMNS c JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA \
         AND t.TABLE_NAME = c.TABLE_NAME AND t.TABLE_TYPE = 'BASE TABLE' WHERE (c.CHARACTER_SET_NAME IS NOT NULL",
    );
    if numbers {
        sql = sql.text(
            " OR c.DATA_TYPE IN ('tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal', 'float', 'double', \
             'year', 'bit')",
        );
    }
    sql = sql.text(")");
    for (column, names) in [
        (" AND c.TABLE_SCHEMA IN (", &wanted.databases),
        (" AND c.TABLE_NAME IN (", &wanted.tables),
        (" AND c.COLUMN_NAME IN (", &wanted.columns),
    ] {
        if !names.is_empty() {
            sql = sql.text(column).list(", ", names, Sql::name_value).text(")");
        }
    }
    let sql = sql.text(" ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION");
    let rows = engine.rows(call, sql, COLUMNS).await?;
    if rows.more {
        return Err(Problem::new(
            Kind::TooLarge,
            format!("there are more than {COLUMNS} columns to search; name databases, tables or columns"),
        ));
    }
    let mut places: BTreeMap<(Name, Name), Vec<Column>> = BTreeMap::new();
    for row in &rows.cells {
        let [database, table, column, charset] = row.as_slice() else {
            continue;
        };
        if is_system(database.as_text()) || !call.caller().reaches(database.as_text()) {
            continue;
        }
        // MySQL's own names are valid.
        let name = |cell: &Cell| Name::new(cell.as_text()).ok();
        if let (Some(database), Some(table), Some(column)) = (name(database), name(table), name(column)) {
            places.entry((database, table)).or_default().push(Column {
                name: column,
                holds: match charset.as_text() {
                    "" => Holds::Numbers,
                    "utf8mb4" => Holds::Texts,
                    _ => Holds::Others,
                },
            });
        }
    }
    let places = places.into_iter().map(|((database, table), columns)| Place {
        database,
        table,
        columns,
    });
    Ok(places.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_a_pattern_are_letters_of_the_value() {
        assert_eq!(pattern(r"50%_\"), r"%50\%\_\\%");
    }
}
