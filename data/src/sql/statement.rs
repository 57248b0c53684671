//! A statement under construction: text that this crate wrote, quoted names, and bound values.

use std::fmt::Write as _;

use super::{Name, Value};

/// A statement and the values of its `?`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    /// Begins with text of this crate.
    pub fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            values: Vec::new(),
        }
    }

    /// A statement that was checked and written by another part of this crate, such as the fragment parser.
    pub(crate) fn checked(text: String, values: Vec<Value>) -> Self {
        Self { text, values }
    }

    /// Appends text of this crate.
    #[must_use]
    pub fn text(mut self, text: &'static str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Appends a quoted name.
    #[must_use]
    pub fn name(mut self, name: &Name) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{name}");
        self
    }

    /// Appends `database`.`table`.
    #[must_use]
    pub fn table(self, database: &Name, table: &Name) -> Self {
        self.name(database).text(".").name(table)
    }

    /// Appends a whole number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        let _ = write!(self.text, "{number}");
        self
    }

    /// Appends a bound value.
    #[must_use]
    pub fn value(mut self, value: Value) -> Self {
        if let Value::Decimal(text) = &value {
            let (precision, scale) = decimal_size(text);
            let _ = write!(self.text, "CAST(? AS DECIMAL({precision},{scale}))");
        } else if matches!(value, Value::Json(_)) {
            self.text.push_str("CAST(? AS JSON)");
        } else {
            self.text.push('?');
        }
        self.values.push(value);
        self
    }

    /// Appends a name as a bound value, to be looked up in the server's own lists.
    #[must_use]
    pub fn name_value(self, name: &Name) -> Self {
        self.value(Value::Text(name.as_str().to_owned()))
    }

    /// Appends another statement's part.
    #[must_use]
    pub fn part(mut self, part: &Self) -> Self {
        self.text.push_str(&part.text);
        self.values.extend(part.values.iter().cloned());
        self
    }

    /// Appends parts with text of this crate between them.
    #[must_use]
    pub fn list<T>(
        mut self,
        between: &'static str,
        items: impl IntoIterator<Item = T>,
        one: impl Fn(Self, T) -> Self,
    ) -> Self {
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.text.push_str(between);
            }
            self = one(self, item);
        }
        self
    }

    /// True for `NULL` and `DEFAULT`: the server makes the value.
    pub fn is_made_by_server(&self) -> bool {
        self.text == "DEFAULT" || self.values == [Value::Null]
    }

    /// True where it is one bound value and nothing else.
    pub fn is_one_value(&self) -> bool {
        self.values.len() == 1 && (self.text == "?" || self.text.starts_with("CAST(? AS "))
    }

    /// The text, with `?` for every value: fit for logs and audit records.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// The text with the values in place of every `?`, each of them cut where it is long. For people, not for MySQL.
    pub fn with_values(&self) -> String {
        let mut values = self.values.iter();
        let mut out = String::with_capacity(self.text.len());
        let mut quote = None;
        for sign in self.text.chars() {
            match quote {
                // A doubled quote ends it and begins it again.
                Some(end) if sign == end => quote = None,
                None if matches!(sign, '\'' | '"' | '`') => quote = Some(sign),
                None if sign == '?' => {
                    if let Some(value) = values.next() {
                        value.show(&mut out);
                        continue;
                    }
                }
                _ => {}
            }
            out.push(sign);
        }
        out
    }

    /// Text and values.
    pub fn into_parts(self) -> (String, Vec<Value>) {
        (self.text, self.values)
    }
}

/// Precision and scale that hold a decimal literal, within MySQL's limits.
fn decimal_size(text: &str) -> (usize, usize) {
    let digits = text.trim_start_matches(['-', '+']);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = part.len().min(30);
    ((whole.len() + scale).clamp(1, 65), scale)
}

/// A text as a literal, for the few places where MySQL takes no bound value (column definitions).
pub fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for letter in text.chars() {
        match letter {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            _ => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_bound_without_loss() {
        let sql = Sql::new("SELECT ").value(Value::Decimal("-12.340".to_owned()));
        assert_eq!(sql.as_text(), "SELECT CAST(? AS DECIMAL(5,3))");
    }

    #[test]
    fn values_are_shown_where_they_go_and_nowhere_else() {
        let sql = Sql::checked(
            "UPDATE `a?` SET `b` = ?, `c` = 'd''?', `e` = ? WHERE `f` IN (?, ?)".to_owned(),
            vec![
                Value::Text("it's".to_owned()),
                Value::Null,
                Value::Int(-5),
                Value::Bytes(vec![0xAB, 1]),
            ],
        );
        assert_eq!(
            sql.with_values(),
            "UPDATE `a?` SET `b` = 'it''s', `c` = 'd''?', `e` = NULL WHERE `f` IN (-5, x'ab01')"
        );
        let long = Sql::new("SELECT ").value(Value::Text("é".repeat(1000)));
        assert!(long.with_values().len() < 300);
    }

    #[test]
    fn a_literal_stays_one_literal() {
        assert_eq!(literal(r"a'b\c"), r"'a''b\\c'");
    }
}
