//! Fuzz targets: whatever comes, nothing panics, and no text of a user reaches MySQL but as a quoted name or a literal.
//!
//! `cargo test` runs each on the same random input for a moment (`.cargo/config.toml`). With cargo-bolero and a nightly
//! compiler, `cargo bolero test -p data fuzz::condition` searches with a fuzzer that sees which code its input reaches.

mod input;
mod scan;

use bolero::check;

use crate::{
    csv,
    fragment::{self, Schema},
    load::Lines,
    problem::Problem,
    sql::{Name, Sql, Value},
    v1::filters_of_a_test_table,
};

/// Feeds random text, text made of words, and text made by the grammar to a target.
fn feed(target: impl Fn(&str) + std::panic::RefUnwindSafe) {
    check!()
        .with_type::<(u8, Vec<u16>, String)>()
        .with_max_len(400)
        .for_each(|(kind, recipe, text)| match kind % 4 {
            0 => target(text),
            1 => target(&input::soup(recipe)),
            _ => target(&input::expression(recipe)),
        });
}

/// Words that the parser may add; `0x1F` becomes `X'1F'`.
const ADDED: [&str; 9] = ["AS", "INNER", "ASC", "X", "IS", "AND", "OR", "NOT", "JOIN"];

fn ours(written: Result<Sql, Problem>) {
    if let Ok(sql) = written {
        let (text, values) = sql.into_parts();
        assert_eq!(scan::only_ours(&text), values.len(), "{text}");
    }
}

#[test]
fn condition() {
    feed(|text| ours(fragment::condition(text)));
}

#[test]
fn values() {
    feed(|text| {
        for one in fragment::values(text).unwrap_or_default() {
            ours(Ok(one));
        }
    });
}

#[test]
fn assignments() {
    feed(|text| {
        for (_, one) in fragment::assignments(text).unwrap_or_default() {
            ours(Ok(one));
        }
    });
}

#[test]
fn schema() {
    feed(|text| ours(fragment::schema(text).map(Schema::into_sql)));
    let define = |text: &str| ours(fragment::definition(text).map(|made| made.schema.into_sql()));
    feed(|text| {
        define(&format!("CREATE TABLE name ({text})"));
        define(&format!("CREATE TABLE name (name INT) {text}"));
    });
}

/// What stood between quotes stays there, and what is written anew is read again as the same.
#[test]
fn statement() {
    let database = Name::new("shop").expect("a name");
    let understand = |text: &str| {
        let bound = vec![Value::Null; text.matches('?').count()];
        fragment::statement(text, &database, bound, false).ok()
    };
    feed(|text| {
        for prefix in [
            "",
            "SELECT ",
            "SELECT * FROM name WHERE ",
            "SELECT 1 UNION ",
            "INSERT INTO name ",
            "DELETE FROM name WHERE ",
        ] {
            let text = format!("{prefix}{text}");
            let Some(understood) = understand(&text) else {
                continue;
            };
            let written = understood.sql.as_text();
            let (came, goes) = (scan::words_outside(&text), scan::words_outside(written));
            // Words may be cut otherwise, such as `1e9Id`, which is a number and its name.
            let new: Vec<&String> = goes
                .iter()
                .filter(|word| !came.iter().any(|came| came.contains(word.as_str())))
                .filter(|word| !ADDED.contains(&word.as_str()))
                .collect();
            assert!(new.is_empty(), "{text:?} became {written:?}: {new:?}");
            // They reach variables and files.
            let reaches_out = goes.contains("@") || (goes.contains("INTO") && !understood.writes);
            assert!(!reaches_out, "{text:?} became {written:?}");
            let again = understand(written).unwrap_or_else(|| panic!("{text:?} became {written:?}"));
            assert_eq!(again.sql.as_text(), written, "{text:?}");
            assert_eq!(
                (again.writes, &again.databases),
                (understood.writes, &understood.databases),
                "{text:?}"
            );
        }
    });
}

#[test]
fn filters() {
    feed(|text| {
        for (name, prefix) in [
            ("id", ""),
            ("id", "in.("),
            ("name", "eq."),
            ("name", "between."),
            ("or", "("),
            ("or", "(id.eq.1,name.in.("),
        ] {
            let pairs = [(name.to_owned(), format!("{prefix}{text}"))];
            ours(filters_of_a_test_table(&pairs));
            ours(filters_of_a_test_table(&[(text.to_owned(), "eq.1".to_owned())]));
        }
    });
}

/// Cut anywhere, a stream gives the same records and lines.
#[test]
fn streams() {
    check!()
        .with_type::<(Vec<u8>, Vec<u8>)>()
        .with_max_len(600)
        .for_each(|(cuts, text)| {
            // Most signs are those that matter.
            let signs = b",\"\n\r\n\",ab";
            let text: Vec<u8> = text
                .iter()
                .map(|byte| {
                    if *byte < 200 {
                        signs[usize::from(*byte) % signs.len()]
                    } else {
                        *byte
                    }
                })
                .collect();
            assert_eq!(records(&[&text]), records(&cut(&text, cuts)));
            assert_eq!(lines(&[&text]), lines(&cut(&text, cuts)));
        });
}

fn cut<'t>(mut text: &'t [u8], cuts: &[u8]) -> Vec<&'t [u8]> {
    let mut parts = Vec::new();
    for cut in cuts {
        let (part, rest) = text.split_at(text.len().min(usize::from(*cut % 16) + 1));
        if !part.is_empty() {
            parts.push(part);
        }
        text = rest;
    }
    if !text.is_empty() {
        parts.push(text);
    }
    parts
}

type Record = (u64, Option<Vec<Vec<u8>>>);

fn records(parts: &[&[u8]]) -> Vec<Record> {
    let (mut reader, mut all) = (csv::Reader::new(100), Vec::new());
    for part in parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .chain([&[][..]])
    {
        let mut at = 0;
        loop {
            let (used, step) = reader.read(&part[at..]);
            at += used;
            match step {
                csv::Step::Record { line, too_long } => {
                    let fields = reader.fields().map(<[u8]>::to_vec).collect();
                    all.push((line, (!too_long).then_some(fields)));
                }
                csv::Step::More => break,
                csv::Step::End => return all,
            }
            if at == part.len() && !part.is_empty() {
                break;
            }
        }
    }
    panic!("a stream without an end");
}

fn lines(parts: &[&[u8]]) -> Vec<(u64, Option<Vec<u8>>)> {
    let (mut reader, mut all) = (Lines::new(100), Vec::new());
    for part in parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .chain([&[][..]])
    {
        let mut at = 0;
        loop {
            let (used, step) = reader.read(&part[at..]);
            at += used;
            match step {
                crate::load::LineStep::Line { line, text } => {
                    all.push((line, text.map(|text| text.to_vec())));
                }
                crate::load::LineStep::More => break,
                crate::load::LineStep::End => return all,
            }
            if at == part.len() && !part.is_empty() {
                break;
            }
        }
    }
    panic!("a stream without an end");
}
