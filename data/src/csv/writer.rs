//! Records.

use csv_core::{WriteResult, Writer};

use super::{END, NULL, field::escaped};
use crate::mysql::Cell;

/// Adds a record of cells.
pub fn record(out: &mut Vec<u8>, cells: &[Cell]) -> std::io::Result<()> {
    let mut writer = Writer::new();
    for (at, cell) in cells.iter().enumerate() {
        match cell {
            Cell::Null => field(&mut writer, out, at, NULL),
            Cell::Text(text) => field(&mut writer, out, at, &escaped(text)),
            Cell::Json(document) => field(&mut writer, out, at, document.get()),
            number => field(&mut writer, out, at, &serde_json::to_string(number)?),
        }
    }
    end_of_record(&mut writer, out);
    Ok(())
}

/// Adds the record of the columns' names.
pub fn head<'n>(out: &mut Vec<u8>, names: impl IntoIterator<Item = &'n str>) {
    let mut writer = Writer::new();
    for (at, name) in names.into_iter().enumerate() {
        field(&mut writer, out, at, name);
    }
    end_of_record(&mut writer, out);
}

/// Adds the record that proves that there are `rows` records and no more. It has as many fields as the others.
pub fn end(out: &mut Vec<u8>, columns: usize, rows: u64) {
    let mut writer = Writer::new();
    field(&mut writer, out, 0, &format!("\\{END}{rows}"));
    for at in 1..columns {
        field(&mut writer, out, at, "");
    }
    end_of_record(&mut writer, out);
}

fn field(writer: &mut Writer, out: &mut Vec<u8>, at: usize, text: &str) {
    if at > 0 {
        put(out, 8, |room| {
            let (result, written) = writer.delimiter(room);
            (result, 0, written)
        });
    }
    // Every byte may be a quote, which is written twice, and two quotes stand around them.
    let mut left = text.as_bytes();
    put(out, 2 * left.len() + 8, |room| {
        let (result, read, written) = writer.field(left, room);
        left = &left[read..];
        (result, read, written)
    });
}

fn end_of_record(writer: &mut Writer, out: &mut Vec<u8>) {
    put(out, 8, |room| {
        let (result, written) = writer.terminator(room);
        (result, 0, written)
    });
}

/// Writes with as much room as can be needed.
fn put(out: &mut Vec<u8>, room: usize, mut write: impl FnMut(&mut [u8]) -> (WriteResult, usize, usize)) {
    let begin = out.len();
    out.resize(begin + room, 0);
    let mut end = begin;
    loop {
        let (result, _, written) = write(&mut out[end..]);
        end += written;
        if matches!(result, WriteResult::InputEmpty) {
            break;
        }
        // Not reached with this much room; a wrong guess costs another round and loses nothing.
        out.resize(out.len() + room, 0);
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_told_apart_and_the_end_has_as_many_fields() {
        let mut out = Vec::new();
        head(&mut out, ["a", "b,c", "d"]);
        let cells = [
            Cell::Null,
            Cell::Text(String::new()),
            Cell::Text("x \"y\"\n".to_owned()),
        ];
        record(&mut out, &cells).unwrap();
        let cells = [Cell::Text(r"\N".to_owned()), Cell::Int(-5), Cell::Float(0.5)];
        record(&mut out, &cells).unwrap();
        end(&mut out, 3, 2);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "a,\"b,c\",d\n\\N,,\"x \"\"y\"\"\n\"\n\\\\N,-5,0.5\n\\end rows=2,,\n"
        );
    }

    #[test]
    fn a_record_of_one_empty_text_is_a_record() {
        let mut out = Vec::new();
        record(&mut out, &[Cell::Text(String::new())]).unwrap();
        assert_eq!(out, b"\"\"\n");
    }
}
