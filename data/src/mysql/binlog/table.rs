//! A table as the log describes it beside its rows: as it was when they were written, whatever it is now.

use mysql_common::{
    binlog::events::{OptionalMetaExtractor, OptionalMetadataField, TableMapEvent},
    constants::ColumnType,
};

use super::{Error, charset::Charset};

/// A table and its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub(super) columns: Vec<Column>,
    /// The log names the columns; one that an older version wrote does not.
    pub is_named: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: ColumnType,
    /// What the log says of the kind: lengths, precisions.
    pub(super) about: Vec<u8>,
    pub(super) unsigned: bool,
    pub(super) charset: Charset,
    /// The texts that numbers stand for, of an `ENUM` or a `SET`, as they are stored.
    pub(super) members: Vec<Vec<u8>>,
}

impl Table {
    pub(super) fn read(map: &TableMapEvent<'_>) -> Result<Self, Error> {
        let facts = OptionalMetaExtractor::new(map.iter_optional_meta())?;
        let (mut enums, mut sets) = (Vec::new(), Vec::new());
        for field in map.iter_optional_meta() {
            match field? {
                OptionalMetadataField::EnumStrValue(all) => {
                    for one in all.iter_values() {
                        enums.push(
                            one?.values()
                                .iter()
                                .map(|text| text.value_raw().to_vec())
                                .collect(),
                        );
                    }
                }
                OptionalMetadataField::SetStrValue(all) => {
                    for one in all.iter_values() {
                        sets.push(
                            one?.values()
                                .iter()
                                .map(|text| text.value_raw().to_vec())
                                .collect(),
                        );
                    }
                }
                _ => {}
            }
        }
        let (mut enums, mut sets) = (enums.into_iter(), sets.into_iter());
        let mut signs = facts.iter_signedness();
        let mut charsets = facts.iter_charset();
        let mut members_charsets = facts.iter_enum_and_set_charset();
        let mut names = facts.iter_column_name();
        let count = usize::try_from(map.columns_count()).unwrap_or(usize::MAX);
        let mut columns = Vec::new();
        let mut is_named = true;
        for at in 0..count {
            let kind = map
                .get_column_type(at)
                .ok()
                .flatten()
                .ok_or(Error::Malformed("a column of an unknown type"))?;
            let charset = if kind.is_character_type() {
                charsets.next().transpose()?
            } else if kind.is_enum_or_set_type() {
                members_charsets.next().transpose()?
            } else {
                None
            };
            let members = match kind {
                ColumnType::MYSQL_TYPE_ENUM => enums.next(),
                ColumnType::MYSQL_TYPE_SET => sets.next(),
                _ => None,
            };
            let name = names.next().transpose()?.map(|name| name.name().into_owned());
            is_named &= name.is_some();
            columns.push(Column {
                name: name.unwrap_or_default(),
                kind,
                about: map.get_column_metadata(at).unwrap_or_default().to_vec(),
                unsigned: kind.is_numeric_type() && signs.next().unwrap_or_default(),
                charset: charset.map_or(Charset::Utf8, Charset::of),
                members: members.unwrap_or_default(),
            });
        }
        Ok(Self {
            database: map.database_name().into_owned(),
            name: map.table_name().into_owned(),
            columns,
            is_named,
        })
    }

    /// The name of a column.
    pub fn column(&self, at: usize) -> &str {
        self.columns.get(at).map_or("", |column| &column.name)
    }
}
