//! The sample data: ISO's countries, subdivisions, currencies, languages and scripts, from Debian's package iso-codes.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::sql;

/// Where the package puts its files.
pub const FOLDER: &str = "/usr/share/iso-codes/json";
/// The schema they are loaded into.
pub const SCHEMA: &str = "iso";

/// Rows a statement: a transaction of some 100 kB.
const BATCH: usize = 1000;

struct Source {
    standard: &'static str,
    table: &'static str,
    columns: &'static [&'static str],
}

const SOURCES: &[Source] = &[
    Source {
        standard: "3166-1",
        table: "countries",
        columns: &["alpha_2", "alpha_3", "numeric", "name", "official_name", "flag"],
    },
    Source {
        standard: "3166-2",
        table: "subdivisions",
        columns: &["code", "name", "type", "parent"],
    },
    Source {
        standard: "4217",
        table: "currencies",
        columns: &["alpha_3", "numeric", "name"],
    },
    Source {
        standard: "639-2",
        table: "languages_639_2",
        columns: &["alpha_3", "alpha_2", "name", "bibliographic"],
    },
    Source {
        standard: "639-3",
        table: "languages",
        columns: &["alpha_3", "name", "scope", "type", "inverted_name", "common_name"],
    },
    Source {
        standard: "15924",
        table: "scripts",
        columns: &["alpha_4", "numeric", "name"],
    },
];

/// A table with its rows.
pub struct Table {
    /// `schema.table`.
    pub name: String,
    columns: &'static [&'static str],
    rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Reads all tables from the package's files.
pub fn read(folder: &Path) -> Result<Vec<Table>> {
    SOURCES.iter().map(|source| read_one(folder, source)).collect()
}

fn read_one(folder: &Path, source: &Source) -> Result<Table> {
    let path = folder.join(format!("iso_{}.json", source.standard));
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read: install the package iso-codes", path.display()))?;
    let rows = parse(&text, source).with_context(|| format!("{} is not as expected", path.display()))?;
    Ok(Table {
        name: format!("{SCHEMA}.{}", source.table),
        columns: source.columns,
        rows,
    })
}

fn parse(text: &str, source: &Source) -> Result<Vec<Vec<Option<String>>>> {
    let file: Value = serde_json::from_str(text)?;
    let entries = file
        .get(source.standard)
        .and_then(Value::as_array)
        .context("no list of entries")?;
    let field = |entry: &Value, column: &str| entry.get(column).and_then(Value::as_str).map(str::to_owned);
    Ok(entries
        .iter()
        .map(|entry| source.columns.iter().map(|column| field(entry, column)).collect())
        .collect())
}

/// Loads a table through `connection`.
pub async fn load(connection: &mut sqlx::MySqlConnection, table: &Table) -> Result<()> {
    // `numeric` and `type` are words of SQL.
    let columns: Vec<String> = table.columns.iter().map(|column| format!("`{column}`")).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    sql::create_text_table(connection, &table.name, &columns).await?;
    for batch in table.rows.chunks(BATCH) {
        sql::insert_texts(connection, &table.name, batch)
            .await
            .with_context(|| format!("loading {}", table.name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_becomes_null_and_order_is_that_of_the_columns() {
        let text =
            r#"{"4217":[{"alpha_3":"EUR","name":"Euro","numeric":"978"},{"name":"X","alpha_3":"XXX"}]}"#;
        let source = SOURCES.iter().find(|source| source.standard == "4217").unwrap();
        let rows = parse(text, source).unwrap();
        assert_eq!(
            rows[0],
            vec![
                Some("EUR".to_owned()),
                Some("978".to_owned()),
                Some("Euro".to_owned())
            ]
        );
        assert_eq!(rows[1][1], None);
    }
}
