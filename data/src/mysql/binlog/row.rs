//! Rows of the log into the same cells that a query gives.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mysql_common::{Value, binlog::value::BinlogValue, constants::ColumnType, io::ParseBuf};
use serde_json::value::RawValue;

use super::{
    Error, Event, Table,
    charset::{Charset, latin1},
    json,
    table::Column,
    wire::{kind, number},
};
use crate::mysql::{
    Cell,
    cell::{date_text, time_text},
};

/// A value of a row.
#[derive(Debug, Clone)]
pub enum Decoded {
    /// As it is answered.
    Cell(Cell),
    /// Texts that only the server can translate, from MySQL's set of characters of that name; joined by commas.
    Foreign(&'static str, Vec<Vec<u8>>),
}

/// A row, with the place of the column before each value. Columns may be missing where the log has no value for them.
pub type Image = Vec<(usize, Decoded)>;

/// What became of a row.
#[derive(Debug, Clone)]
pub struct Change {
    /// As it was; `None` for a new one.
    pub before: Option<Image>,
    /// As it is; `None` for one that was deleted.
    pub after: Option<Image>,
}

/// The rows of an event, one after the other.
pub struct Rows<'e> {
    table: &'e Table,
    before: Option<&'e [u8]>,
    after: Option<&'e [u8]>,
    rest: ParseBuf<'e>,
}

impl<'e> Rows<'e> {
    /// The rows of an event of this table.
    pub fn of(event: &'e Event, table: &'e Table) -> Result<Self, Error> {
        const SHORT: Error = Error::Malformed("rows that are cut off");
        if event.kind() == kind::PARTIAL_ROWS {
            return Err(Error::Malformed("rows with parts of documents"));
        }
        let data = event.data();
        // The table's number, flags, and more of both; its length counts itself.
        let (Some(low), Some(high)) = (data.get(8), data.get(9)) else {
            return Err(SHORT);
        };
        let mut at = 8 + usize::from(u16::from_le_bytes([*low, *high]));
        let columns = number(data, &mut at).ok_or(SHORT)?;
        if columns != table.columns.len() as u64 {
            return Err(Error::Malformed("rows of another table than theirs"));
        }
        let wide = table.columns.len().div_ceil(8);
        let mut present = || {
            let bits = data.get(at..at + wide).ok_or(SHORT);
            at += wide;
            bits
        };
        let (before, after) = match event.kind() {
            kind::WRITE_ROWS => (None, Some(present()?)),
            kind::DELETE_ROWS => (Some(present()?), None),
            _ => (Some(present()?), Some(present()?)),
        };
        Ok(Self {
            table,
            before,
            after,
            rest: ParseBuf(data.get(at..).ok_or(SHORT)?),
        })
    }

    /// The next one.
    pub fn next(&mut self) -> Result<Option<Change>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let before = self.before.map(|present| self.image(present)).transpose()?;
        let after = self.after.map(|present| self.image(present)).transpose()?;
        Ok(Some(Change { before, after }))
    }

    fn image(&mut self, present: &[u8]) -> Result<Image, Error> {
        let is_set =
            |bits: &[u8], at: usize| bits.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0);
        let count = (0..self.table.columns.len())
            .filter(|at| is_set(present, *at))
            .count();
        let nulls: &[u8] = self.rest.parse(count.div_ceil(8))?;
        let mut image = Vec::with_capacity(count);
        for (at, column) in self.table.columns.iter().enumerate() {
            if !is_set(present, at) {
                continue;
            }
            let value = if is_set(nulls, image.len()) {
                Decoded::Cell(Cell::Null)
            } else {
                column.read(&mut self.rest)?
            };
            image.push((at, value));
        }
        Ok(image)
    }
}

impl Column {
    fn read<'e>(&'e self, rest: &mut ParseBuf<'e>) -> Result<Decoded, Error> {
        let cell = match self.kind {
            ColumnType::MYSQL_TYPE_TIME2 => {
                let places = self.about.first().copied().unwrap_or_default();
                let bytes: &[u8] = rest.parse(3 + usize::from(places.div_ceil(2)))?;
                Cell::Text(time(bytes))
            }
            ColumnType::MYSQL_TYPE_INT24 => {
                let bytes: &[u8] = rest.parse(3)?;
                medium(bytes, self.unsigned)
            }
            kind => {
                let value: BinlogValue<'_> =
                    rest.parse((kind, self.about.as_slice(), self.unsigned, false))?;
                return self.decode(value);
            }
        };
        Ok(Decoded::Cell(cell))
    }

    fn decode(&self, value: BinlogValue<'_>) -> Result<Decoded, Error> {
        use ColumnType as Of;
        let value = match value {
            BinlogValue::Value(value) => value,
            BinlogValue::Jsonb(document) => {
                let text = json::text(&document)?;
                let raw = RawValue::from_string(text)
                    .map_err(|_| Error::Malformed("a document that is no JSON"))?;
                return Ok(Decoded::Cell(Cell::Json(raw)));
            }
            BinlogValue::JsonDiff(_) => return Err(Error::Malformed("a part of a document")),
        };
        let cell = match (self.kind, value) {
            (Of::MYSQL_TYPE_ENUM, Value::Int(place)) => return Ok(self.member(place)),
            (Of::MYSQL_TYPE_SET, Value::Bytes(bits)) => return Ok(self.several(&bits)),
            (Of::MYSQL_TYPE_BIT, Value::Bytes(bits)) => {
                Cell::Unsigned(bits.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
            }
            (Of::MYSQL_TYPE_YEAR, Value::Bytes(text)) => Cell::Unsigned(year(&text)?),
            (Of::MYSQL_TYPE_NEWDECIMAL, Value::Bytes(digits)) => Cell::Text(utf8(digits)),
            (Of::MYSQL_TYPE_TIMESTAMP2 | Of::MYSQL_TYPE_TIMESTAMP, Value::Bytes(seconds)) => {
                Cell::Text(timestamp(&utf8(seconds))?)
            }
            (Of::MYSQL_TYPE_NEWDATE | Of::MYSQL_TYPE_DATE, Value::Date(year, month, day, ..)) => {
                Cell::Text(date_text(year, month, day, None))
            }
            (_, Value::Date(year, month, day, hour, minute, second, micros)) => {
                Cell::Text(date_text(year, month, day, Some((hour, minute, second, micros))))
            }
            (_, Value::Time(..)) => return Err(Error::Malformed("a time in the form of older servers")),
            (_, Value::Int(number)) if self.unsigned => Cell::Unsigned(number.cast_unsigned()),
            (_, Value::Int(number)) => Cell::Int(number),
            (_, Value::UInt(number)) => Cell::Unsigned(number),
            (_, Value::Float(number)) => Cell::Single(number),
            (_, Value::Double(number)) => Cell::Float(number),
            (_, Value::NULL) => Cell::Null,
            (kind, Value::Bytes(bytes)) if kind.is_character_type() => return Ok(self.text(bytes)),
            (_, Value::Bytes(bytes)) => Cell::Text(STANDARD.encode(bytes)),
        };
        Ok(Decoded::Cell(cell))
    }

    fn text(&self, mut bytes: Vec<u8>) -> Decoded {
        if self.charset == Charset::Binary && self.kind == ColumnType::MYSQL_TYPE_STRING {
            // The log leaves out the zero bytes that fill the column.
            bytes.resize(self.width().max(bytes.len()), 0);
        }
        match self.charset {
            Charset::Binary => Decoded::Cell(Cell::Text(STANDARD.encode(bytes))),
            _ => self.texts(vec![bytes]),
        }
    }

    /// Bytes of a column of fixed length; the two high bits of a long one are beside its type.
    fn width(&self) -> usize {
        match self.about.as_slice() {
            [kind, low, ..] => usize::from(*low) | (usize::from((kind & 0x30) ^ 0x30) << 4),
            _ => 0,
        }
    }

    /// Texts of the column's characters, with commas between them.
    fn texts(&self, all: Vec<Vec<u8>>) -> Decoded {
        match self.charset {
            Charset::Other(name) => Decoded::Foreign(name, all),
            Charset::Latin1 => Decoded::Cell(Cell::Text(latin1(&all.join(&b',')))),
            Charset::Utf8 | Charset::Binary => Decoded::Cell(Cell::Text(utf8(all.join(&b',')))),
        }
    }

    /// The text of an `ENUM`; one that was refused when that was allowed is empty.
    fn member(&self, place: i64) -> Decoded {
        let member = usize::try_from(place - 1)
            .ok()
            .and_then(|at| self.members.get(at));
        self.texts(vec![member.cloned().unwrap_or_default()])
    }

    /// The texts of a `SET`.
    fn several(&self, bits: &[u8]) -> Decoded {
        let is_set = |at: usize| bits.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0);
        let chosen = self.members.iter().enumerate().filter(|(at, _)| is_set(*at));
        self.texts(chosen.map(|(_, member)| member.clone()).collect())
    }
}

fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The library gives the year 0, which stands for none, as 1900, which MySQL does not have.
fn year(text: &[u8]) -> Result<u64, Error> {
    let year = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match year.ok_or(Error::Malformed("a year that is none"))? {
        1900 => Ok(0),
        year => Ok(year),
    }
}

/// A number of three bytes. The library loses the sign of negative ones.
fn medium(bytes: &[u8], unsigned: bool) -> Cell {
    let number = bytes
        .iter()
        .rev()
        .fold(0_i32, |sum, byte| (sum << 8) | i32::from(*byte));
    if unsigned {
        Cell::Unsigned(u64::from(number.unsigned_abs()))
    } else {
        Cell::Int(i64::from((number << 8) >> 8))
    }
}

/// A span of time: hours, minutes and seconds in three bytes, and a fraction in as many as it needs. The library fails at
/// negative ones with two digits behind the point.
fn time(bytes: &[u8]) -> String {
    let fraction = bytes.len().saturating_sub(3);
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte))
    };
    let signed = number(bytes) - (0x80_0000 << (8 * fraction));
    let size = signed.unsigned_abs();
    let whole = size >> (8 * fraction);
    let behind = size & ((1 << (8 * fraction)) - 1);
    let micros = behind * 100_u64.pow(3_u32.saturating_sub(u32::try_from(fraction).unwrap_or(3)));
    let six = |bits: u64| u8::try_from(bits & 0x3f).unwrap_or_default();
    let micros = if fraction == 0 {
        0
    } else {
        u32::try_from(micros).unwrap_or_default()
    };
    time_text(
        signed < 0,
        (whole >> 12) & 0x3ff,
        six(whole >> 6),
        six(whole),
        micros,
    )
}

/// Seconds since 1970 with six digits behind the point or none, in UTC as MySQL writes it; 0 stands for no time at all.
fn timestamp(seconds: &str) -> Result<String, Error> {
    let malformed = || Error::Malformed("a time that is none");
    let (seconds, micros) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let (seconds, micros): (i64, u32) = seconds
        .parse()
        .ok()
        .zip(micros.parse().ok())
        .ok_or_else(malformed)?;
    if (seconds, micros) == (0, 0) {
        return Ok(date_text(0, 0, 0, Some((0, 0, 0, 0))));
    }
    let moment = jiff::Timestamp::from_second(seconds).map_err(|_| malformed())?;
    let moment = jiff::tz::TimeZone::UTC.to_datetime(moment);
    let part = |number: i8| number.unsigned_abs();
    Ok(date_text(
        moment.year().unsigned_abs(),
        part(moment.month()),
        part(moment.day()),
        Some((
            part(moment.hour()),
            part(moment.minute()),
            part(moment.second()),
            micros,
        )),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnType, charset: Charset) -> Column {
        Column {
            name: "c".to_owned(),
            kind,
            about: Vec::new(),
            unsigned: false,
            charset,
            members: [b"a".to_vec(), b"b c".to_vec()].to_vec(),
        }
    }

    fn shown(decoded: &Decoded) -> String {
        match decoded {
            Decoded::Cell(cell) => serde_json::to_string(cell).unwrap(),
            Decoded::Foreign(name, texts) => format!("{name} {texts:?}"),
        }
    }

    #[test]
    fn times_are_written_as_mysql_writes_them() {
        assert_eq!(
            timestamp("1709208000.500000").unwrap(),
            "2024-02-29 12:00:00.500000"
        );
        assert_eq!(timestamp("1").unwrap(), "1970-01-01 00:00:01");
        assert_eq!(timestamp("0").unwrap(), "0000-00-00 00:00:00");
        let negative = |size: u64, width: usize| {
            let bytes = ((0x80_0000_u64 << (8 * (width - 3))) - size).to_be_bytes();
            time(&bytes[8 - width..])
        };
        assert_eq!(negative(25, 4), "-00:00:00.250000");
        assert_eq!(negative(1, 3), "-00:00:01");
        assert_eq!(
            negative((((838 << 12) + (59 << 6) + 58) << 24) + 1, 6),
            "-838:59:58.000001"
        );
        assert_eq!(time(&[0x80, 0xa2, 0xcc]), "10:11:12");
        assert_eq!(time(&[0x80, 0xa2, 0xcc, 0x13, 0x88]), "10:11:12.500000");
        assert_eq!((year(b"1900").unwrap(), year(b"2024").unwrap()), (0, 2024));
    }

    #[test]
    fn numbers_of_three_bytes_have_their_sign() {
        let of = |bytes: [u8; 3], unsigned| serde_json::to_string(&medium(&bytes, unsigned)).unwrap();
        assert_eq!(of([0, 0, 0x80], false), "-8388608");
        assert_eq!(of([0xff, 0xff, 0xff], false), "-1");
        assert_eq!(of([0xff, 0xff, 0xff], true), "16777215");
        assert_eq!(of([1, 2, 0], false), "513");
    }

    #[test]
    fn members_stand_behind_their_numbers() {
        let enumeration = column(ColumnType::MYSQL_TYPE_ENUM, Charset::Utf8);
        assert_eq!(shown(&enumeration.member(2)), r#""b c""#);
        assert_eq!(shown(&enumeration.member(0)), r#""""#);
        let set = column(ColumnType::MYSQL_TYPE_SET, Charset::Utf8);
        assert_eq!(shown(&set.several(&[3])), r#""a,b c""#);
        assert_eq!(shown(&set.several(&[0])), r#""""#);
        let foreign = column(ColumnType::MYSQL_TYPE_ENUM, Charset::Other("gbk"));
        assert_eq!(shown(&foreign.member(1)), "gbk [[97]]");
    }

    #[test]
    fn a_column_of_fixed_bytes_is_as_wide_as_it_is() {
        let mut fixed = column(ColumnType::MYSQL_TYPE_STRING, Charset::Binary);
        fixed.about = vec![254, 4];
        assert_eq!(shown(&fixed.text(vec![1])), r#""AQAAAA==""#);
        let long = [0xfe ^ 0x10, 0x10];
        fixed.about = long.to_vec();
        assert_eq!(fixed.width(), 0x110);
    }
}
