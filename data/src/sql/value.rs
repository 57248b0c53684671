//! Values on their way to MySQL: from JSON, and from literals in fragments.

use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::literal;

/// Of a value no more bytes are shown to people.
const SHOWN: usize = 200;

/// A value to be bound.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A whole number.
    Int(i64),
    /// A whole number beyond [`i64`].
    Unsigned(u64),
    /// A number with an exponent.
    Float(f64),
    /// A number with a point, or too large for the others, digit by digit.
    Decimal(String),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A JSON document.
    Json(String),
}

impl Value {
    /// A number as it was written; `None` where it is none.
    pub fn number(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse::<i64>() {
            return Some(Self::Int(whole));
        }
        if let Ok(whole) = text.parse::<u64>() {
            return Some(Self::Unsigned(whole));
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && digits.bytes().filter(|byte| *byte == b'.').count() <= 1
            && digits.bytes().any(|byte| byte.is_ascii_digit());
        if plain {
            return Some(Self::Decimal(text.to_owned()));
        }
        text.parse::<f64>()
            .ok()
            .filter(|float| float.is_finite())
            .map(Self::Float)
    }

    /// Writes it for people, cut where it is long.
    pub(super) fn show(&self, out: &mut String) {
        let short = |text: &str| literal(&text[..text.floor_char_boundary(SHOWN)]);
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Null => write!(out, "NULL"),
            Self::Int(number) => write!(out, "{number}"),
            Self::Unsigned(number) => write!(out, "{number}"),
            Self::Float(number) => write!(out, "{number}"),
            Self::Decimal(digits) => write!(out, "{digits}"),
            Self::Text(text) | Self::Json(text) => write!(out, "{}", short(text)),
            Self::Bytes(bytes) => {
                let bytes = &bytes[..bytes.len().min(SHOWN / 2)];
                let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
                write!(out, "x'{}'", digits.collect::<String>())
            }
        };
        let size = match self {
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => 2 * bytes.len(),
            _ => 0,
        };
        if size > SHOWN {
            out.push('…');
        }
    }

    /// A JSON value: objects and arrays become documents, numbers keep every digit.
    pub fn from_json(raw: &RawValue) -> Result<Self, String> {
        let text = raw.get().trim();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Int(1),
            Some(b'f') => Self::Int(0),
            Some(b'"') => Self::Text(serde_json::from_str(text).map_err(|error| error.to_string())?),
            Some(b'{' | b'[') => Self::Json(text.to_owned()),
            _ => Self::number(text).ok_or_else(|| format!("{text} is not a number that MySQL can hold"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        Value::from_json(&RawValue::from_string(text.to_owned()).unwrap()).unwrap()
    }

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(json("18446744073709551615"), Value::Unsigned(u64::MAX));
        assert_eq!(json("-5"), Value::Int(-5));
        assert_eq!(
            json("0.123456789012345678901234567890"),
            Value::Decimal("0.123456789012345678901234567890".to_owned())
        );
        assert_eq!(json("1e3"), Value::Float(1000.0));
        assert_eq!(json("null"), Value::Null);
        assert_eq!(json("\"\""), Value::Text(String::new()));
    }
}
