//! Values on their way from MySQL to JSON, without loss.
//!
//! | MySQL | JSON |
//! |---|---|
//! | whole numbers, BIT, YEAR | number, all digits |
//! | DECIMAL | text, all digits |
//! | FLOAT, DOUBLE | number |
//! | DATE, DATETIME, TIMESTAMP (UTC), TIME | text as MySQL writes it, zero dates too |
//! | CHAR, TEXT, ENUM, SET | text |
//! | BINARY, BLOB, spatial | base64 |
//! | JSON | the document, as the server writes it |
//! | NULL | null |

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sqlx::{
    Decode, MySql, Type, TypeInfo as _,
    error::BoxDynError,
    mysql::{MySqlTypeInfo, MySqlValueRef},
};

/// One value of a row.
#[derive(Debug, Clone)]
pub enum Cell {
    /// NULL.
    Null,
    /// A whole number.
    Int(i64),
    /// A whole number that is never negative.
    Unsigned(u64),
    /// A single-precision number, with only the digits that it has.
    Single(f32),
    /// A double-precision number.
    Float(f64),
    /// A text.
    Text(String),
    /// A JSON document.
    Json(Box<RawValue>),
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => out.serialize_unit(),
            Self::Int(value) => out.serialize_i64(*value),
            Self::Unsigned(value) => out.serialize_u64(*value),
            Self::Single(value) => out.serialize_f32(*value),
            Self::Float(value) => out.serialize_f64(*value),
            Self::Text(value) => out.serialize_str(value),
            Self::Json(value) => value.serialize(out),
        }
    }
}

impl Cell {
    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 24,
            Self::Json(text) => text.get().len() + 24,
            _ => 24,
        }
    }

    /// Its text; empty for everything else than text.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    /// Its number as never negative; `None` where it is none.
    pub fn as_unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Reads a value of the binary protocol.
    pub(super) fn read(kind: &MySqlTypeInfo, raw: Raw<'_>) -> Result<Self, BoxDynError> {
        let Some(bytes) = raw.0 else { return Ok(Self::Null) };
        let unsigned = <u64 as Type<MySql>>::compatible(kind);
        Ok(match kind.name() {
            "BOOLEAN" | "TINYINT" | "TINYINT UNSIGNED" | "SMALLINT" | "SMALLINT UNSIGNED" | "MEDIUMINT"
            | "MEDIUMINT UNSIGNED" | "INT" | "INT UNSIGNED" | "BIGINT" | "BIGINT UNSIGNED" | "YEAR" => {
                whole(bytes, unsigned)?
            }
            "FLOAT" => Self::Single(f32::from_le_bytes(bytes.try_into()?)),
            "DOUBLE" => Self::Float(f64::from_le_bytes(bytes.try_into()?)),
            "BIT" => Self::Unsigned(bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))),
            "DATE" => Self::Text(date(bytes, false)?),
            "DATETIME" | "TIMESTAMP" => Self::Text(date(bytes, true)?),
            "TIME" => Self::Text(time(bytes)?),
            "JSON" => Self::Json(RawValue::from_string(String::from_utf8(bytes.to_vec())?)?),
            "DECIMAL" | "ENUM" | "SET" => Self::Text(String::from_utf8(bytes.to_vec())?),
            _ if <str as Type<MySql>>::compatible(kind) => Self::Text(String::from_utf8(bytes.to_vec())?),
            _ => Self::Text(STANDARD.encode(bytes)),
        })
    }
}

/// A value as the server sent it; the driver's own decoding loses zero dates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'r>(Option<&'r [u8]>);

impl Type<MySql> for Raw<'_> {
    fn type_info() -> MySqlTypeInfo {
        <[u8] as Type<MySql>>::type_info()
    }

    fn compatible(_: &MySqlTypeInfo) -> bool {
        true
    }
}

impl<'r> Decode<'r, MySql> for Raw<'r> {
    fn decode(value: MySqlValueRef<'r>) -> Result<Self, BoxDynError> {
        // The only error is that there is no value.
        Ok(Self(<&[u8] as Decode<MySql>>::decode(value).ok()))
    }
}

fn whole(bytes: &[u8], unsigned: bool) -> Result<Cell, BoxDynError> {
    if unsigned {
        let mut wide = [0; 8];
        wide.get_mut(..bytes.len())
            .ok_or("a number of more than eight bytes")?
            .copy_from_slice(bytes);
        return Ok(Cell::Unsigned(u64::from_le_bytes(wide)));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    wide.get_mut(..bytes.len())
        .ok_or("a number of more than eight bytes")?
        .copy_from_slice(bytes);
    Ok(Cell::Int(i64::from_le_bytes(wide)))
}

/// A date of the binary protocol: length, year, month, day, hour, minute, second, microseconds; what is zero is
/// left out at the end.
fn date(bytes: &[u8], with_time: bool) -> Result<String, BoxDynError> {
    let mut all = [0; 12];
    all.get_mut(..bytes.len())
        .ok_or("a date of more than 12 bytes")?
        .copy_from_slice(bytes);
    let [_, y0, y1, month, day, hour, minute, second, micros @ ..] = all;
    let time = with_time.then(|| (hour, minute, second, u32::from_le_bytes(micros)));
    Ok(date_text(u16::from_le_bytes([y0, y1]), month, day, time))
}

/// A date, with hour, minute, second and microseconds where they belong to it.
pub(super) fn date_text(year: u16, month: u8, day: u8, time: Option<(u8, u8, u8, u32)>) -> String {
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if let Some((hour, minute, second, micros)) = time {
        // Writing to a String cannot fail.
        let _ = write!(text, " {hour:02}:{minute:02}:{second:02}");
        text.push_str(&fraction(micros));
    }
    text
}

/// A time of the binary protocol: length, sign, days, hour, minute, second, microseconds.
fn time(bytes: &[u8]) -> Result<String, BoxDynError> {
    let mut all = [0; 13];
    all.get_mut(..bytes.len())
        .ok_or("a time of more than 13 bytes")?
        .copy_from_slice(bytes);
    let [_, negative, d0, d1, d2, d3, hour, minute, second, micros @ ..] = all;
    let hours = u64::from(u32::from_le_bytes([d0, d1, d2, d3])) * 24 + u64::from(hour);
    let micros = u32::from_le_bytes(micros);
    Ok(time_text(negative == 1, hours, minute, second, micros))
}

/// A span of time.
pub(super) fn time_text(negative: bool, hours: u64, minute: u8, second: u8, micros: u32) -> String {
    let sign = if negative { "-" } else { "" };
    let part = fraction(micros);
    format!("{sign}{hours:02}:{minute:02}:{second:02}{part}")
}

fn fraction(micros: u32) -> String {
    if micros == 0 {
        return String::new();
    }
    format!(".{micros:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_written_as_mysql_writes_them() {
        assert_eq!(date(&[0], true).unwrap(), "0000-00-00 00:00:00");
        assert_eq!(date(&[4, 0xe8, 7, 2, 29], false).unwrap(), "2024-02-29");
        assert_eq!(
            date(&[11, 0xe8, 7, 2, 29, 1, 2, 3, 1, 0, 0, 0], true).unwrap(),
            "2024-02-29 01:02:03.000001"
        );
        assert_eq!(time(&[8, 1, 34, 0, 0, 0, 22, 59, 59]).unwrap(), "-838:59:59");
    }

    #[test]
    fn small_numbers_keep_their_sign() {
        assert!(matches!(whole(&[0xff], false), Ok(Cell::Int(-1))));
        assert!(matches!(whole(&[0xff], true), Ok(Cell::Unsigned(255))));
    }
}
