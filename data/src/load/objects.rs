//! Rows as JSON, one object or an array of them, unpacked one at a time.
//!
//! An array of ordinary rows takes fifteen times the memory of its text once all of its objects are unpacked, which is
//! more than the agent has for a body of the size that is allowed. So it stays text and is gone through twice: to find
//! what is wrong with it and which columns it names, before anything is inserted, and to insert it. What that takes is
//! bounded by the text, which a body's limit bounds, by one object, and by the rows of one statement, which
//! [`super::Insert`] bounds.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserializer as _,
    de::{SeqAccess, Visitor},
};
use serde_json::{Deserializer, value::RawValue};

use super::{Cells, Rows, insert::places};
use crate::{
    problem::Problem,
    rows::{self, Object},
    table::TableFacts,
};

/// What is done to each object before it is a row.
type Change<'c> = dyn Fn(&mut Object) -> Result<(), Problem> + Sync + 'c;

/// Objects that were looked at and are unpacked anew when they are needed.
pub struct Objects<'r> {
    text: &'r str,
    facts: &'r TableFacts,
    change: &'r Change<'r>,
    count: usize,
    columns: BTreeSet<usize>,
    refused: Option<Problem>,
}

impl<'r> Objects<'r> {
    /// One object or an array of them. An error says that it is neither.
    pub fn read(field: &str, raw: &'r RawValue, facts: &'r TableFacts) -> Result<Self, Problem> {
        Self::changed(field, raw, facts, &|_| Ok(()))
    }

    /// [`Objects::read`] of objects that are changed before they are rows.
    pub fn changed(
        field: &str,
        raw: &'r RawValue,
        facts: &'r TableFacts,
        change: &'r Change<'r>,
    ) -> Result<Self, Problem> {
        let mut this = Self {
            text: raw.get(),
            facts,
            change,
            count: 0,
            columns: BTreeSet::new(),
            refused: None,
        };
        if !raw.get().trim_start().starts_with('[') {
            this.look(rows::object(field, raw)?);
            return Ok(this);
        }
        Deserializer::from_str(raw.get())
            .deserialize_seq(Each(|object| this.look(object)))
            .map_err(|error| {
                Problem::bad_request(format!(
                    "{field}: must be an array of objects of columns with values: {error}"
                ))
            })?;
        if this.count == 0 {
            return Err(Problem::bad_request(format!(
                "{field}: there must be one row at least"
            )));
        }
        Ok(this)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The columns that they name, or what is wrong with the first one that cannot be a row. It is said when they are
    /// about to be inserted: a request that is known by its key is answered as it was, whatever the table is by now.
    pub fn columns(&self) -> Result<&BTreeSet<usize>, Problem> {
        match &self.refused {
            None => Ok(&self.columns),
            Some(problem) => Err(problem.clone()),
        }
    }

    /// The objects as they came.
    pub fn unpacked(&self) -> impl Iterator<Item = Result<Object, Problem>> {
        Unpacked(self.text)
    }

    /// The objects as rows.
    pub fn rows(&self) -> Rows<'_> {
        Box::new(self.unpacked().map(|object| self.cells(object?)))
    }

    fn look(&mut self, object: Object) {
        self.count += 1;
        if self.refused.is_some() {
            return;
        }
        match self.cells(object) {
            Ok(cells) => self.columns.extend(places(&cells)),
            Err(problem) => self.refused = Some(problem),
        }
    }

    fn cells(&self, mut object: Object) -> Result<Cells, Problem> {
        (self.change)(&mut object)?;
        rows::values(self.facts, &object)
    }
}

/// Hands on the objects of an array; what is no object is told with its place in the whole text.
struct Each<F>(F);

impl<'de, F: FnMut(Object)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(object) = elements.next_element()? {
            (self.0)(object);
        }
        Ok(())
    }
}

/// What is left of a text that was looked at.
struct Unpacked<'r>(&'r str);

impl Iterator for Unpacked<'_> {
    type Item = Result<Object, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        // The text is well formed: nothing else stands before, between and behind the objects.
        let text = self.0.trim_start_matches(['[', ',', ']', ' ', '\t', '\r', '\n']);
        let mut objects = Deserializer::from_str(text).into_iter();
        let object: Result<Object, _> = objects.next()?;
        self.0 = &text[objects.byte_offset()..];
        Some(object.map_err(|error| Problem::bad_request(error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sql::Value, table::ColumnFacts};

    fn table() -> TableFacts {
        let column = ColumnFacts::ordinary;
        TableFacts {
            columns: vec![
                column("id", "int"),
                column("name", "text"),
                column("more", "json"),
            ],
            key: vec!["id".to_owned()],
        }
    }

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    fn unpacked_whole(raw: &RawValue) -> Result<Vec<Object>, Problem> {
        if !raw.get().trim_start().starts_with('[') {
            return Ok(vec![rows::object("body", raw)?]);
        }
        let all: Vec<Object> = serde_json::from_str(raw.get()).map_err(|error| {
            Problem::bad_request(format!(
                "body: must be an array of objects of columns with values: {error}"
            ))
        })?;
        if all.is_empty() {
            return Err(Problem::bad_request("body: there must be one row at least"));
        }
        Ok(all)
    }

    #[test]
    fn rows_and_refusals_are_those_of_an_array_that_is_unpacked_whole() {
        let facts = table();
        for text in [
            r#"{"id":1}"#,
            r#"[{"id":1,"name":"a"}]"#,
            "\t[ {\"id\" : 1 , \"more\":[1,{\"a\":\"]}\"}]}\r\n,{},\n{\"NAME\":\"},{\\\"\"} ] ",
            r#"[{"id":1,"id":2},{"id":18446744073709551615,"name":"\ud83d\ude00é"}]"#,
            "[]",
            "5",
            r#"[{"id":1},5]"#,
            "[{\"id\":1},\n [{\"id\":2}]]",
            r#"[{"id":1},{"":2}]"#,
            r#"[{"id":1},{"colour":2},{"id":1e999}]"#,
            r#"[{"colour":1},null]"#,
        ] {
            let raw = raw(text);
            let whole = unpacked_whole(&raw);
            let whole: Result<Vec<Cells>, Problem> =
                whole.and_then(|all| all.iter().map(|object| rows::values(&facts, object)).collect());
            let read = Objects::read("body", &raw, &facts);
            let each = read.and_then(|objects| {
                let named = objects.columns()?.clone();
                let rows: Vec<Cells> = objects.rows().collect::<Result<_, _>>()?;
                assert_eq!(objects.count(), rows.len(), "{text}");
                assert_eq!(named, rows.iter().flat_map(places).collect(), "{text}");
                Ok(rows)
            });
            assert_eq!(each, whole, "{text}");
        }
    }

    #[test]
    fn objects_are_changed_before_they_are_rows() {
        let (facts, raw) = (table(), raw(r#"[{"id":1},{"name":"x"}]"#));
        let change = |object: &mut Object| match object.values_mut().next() {
            Some(value) if value.get() == "1" => {
                *value = RawValue::from_string("7".to_owned()).unwrap();
                Ok(())
            }
            _ => Err(Problem::bad_request("no")),
        };
        let objects = Objects::changed("data", &raw, &facts, &change).unwrap();
        assert_eq!(objects.rows().next(), Some(Ok(vec![(0, Value::Int(7))])));
        assert_eq!(objects.columns(), Err(Problem::bad_request("no")));
        assert_eq!(objects.count(), 2);
    }
}
