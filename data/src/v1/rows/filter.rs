//! The filter grammar of the query: `column=op.value`, `or=(column.op.value,…)`.
//!
//! `eq ne lt lte gt gte` take a value, `like` a pattern with `%` and `_`, `in` a list in parentheses, `between` two
//! values with a comma, `null` true or false, `match` words for a full-text index. In lists a value with a comma or a
//! parenthesis stands between double quotes, in which `\"` and `\\` are the signs themselves.
//!
//! Values are written as rows show them, so those of binary columns are base64. Patterns are text.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    problem::Problem,
    rows::held,
    sql::{Name, Sql, Value},
    table::TableFacts,
};

/// Parameters that are no filters.
const RESERVED: [&str; 9] = [
    "select",
    "order",
    "limit",
    "after",
    "count",
    "all",
    "maxAffected",
    "onConflict",
    "return",
];
/// Filters of one request at most.
const MOST: usize = 100;

/// True for a parameter that is no filter.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// The condition of all filters together; `None` where there is none.
pub fn condition(facts: &TableFacts, pairs: &[(String, String)]) -> Result<Option<Sql>, Problem> {
    let filters: Vec<&(String, String)> = pairs.iter().filter(|(name, _)| !is_reserved(name)).collect();
    if filters.len() > MOST {
        return Err(Problem::bad_request(format!("at most {MOST} filters")));
    }
    let mut all: Option<Sql> = None;
    for (name, text) in filters {
        let one = if name == "or" {
            any(facts, text)?
        } else {
            single(facts, name, text)?
        };
        all = Some(match all {
            None => one,
            Some(before) => before.text(" AND ").part(&one),
        });
    }
    Ok(all)
}

fn any(facts: &TableFacts, text: &str) -> Result<Sql, Problem> {
    let parts =
        list(text).ok_or_else(|| Problem::bad_request("or: must be (column.op.value,column.op.value)"))?;
    if parts.is_empty() {
        return Err(Problem::bad_request("or: there must be one filter at least"));
    }
    let mut sql = Sql::new("(");
    for (at, part) in parts.iter().enumerate() {
        let (name, rest) = part
            .split_once('.')
            .ok_or_else(|| Problem::bad_request("or: each part is column.op.value"))?;
        sql = if at > 0 { sql.text(" OR ") } else { sql };
        sql = sql.part(&single(facts, name, rest)?);
    }
    Ok(sql.text(")"))
}

fn single(facts: &TableFacts, name: &str, text: &str) -> Result<Sql, Problem> {
    let wrong = |reason: String| Problem::bad_request(format!("{name}: {reason}"));
    let column = Name::new(name).map_err(|reason| wrong(reason.clone()))?;
    if facts.column(name).is_none() {
        return Err(wrong("there is no such column, and no such parameter".to_owned()));
    }
    let (op, value) = text.split_once('.').unwrap_or((text, ""));
    let bound = |text: &str| bound(facts, name, text);
    let sql = Sql::new("(").name(&column);
    let comparison = match op {
        "eq" => " = ",
        "ne" => " <> ",
        "lt" => " < ",
        "lte" => " <= ",
        "gt" => " > ",
        "gte" => " >= ",
        "like" => {
            let pattern = Value::Text(value.to_owned());
            return Ok(sql.text(" LIKE ").value(pattern).text(")"));
        }
        "null" => {
            return Ok(match value {
                "" | "true" => sql.text(" IS NULL)"),
                "false" => sql.text(" IS NOT NULL)"),
                _ => return Err(wrong("null takes true or false".to_owned())),
            });
        }
        "in" => {
            let values = list(value).filter(|values| !values.is_empty());
            let values = values.ok_or_else(|| wrong("in takes (value,value)".to_owned()))?;
            let values: Vec<Value> = values.iter().map(|one| bound(one)).collect::<Result<_, _>>()?;
            return Ok(sql.text(" IN (").list(", ", values, Sql::value).text("))"));
        }
        "between" => {
            let ends = list(&format!("({value})")).unwrap_or_default();
            let [low, high] = ends.as_slice() else {
                return Err(wrong("between takes low,high".to_owned()));
            };
            return Ok(sql
                .text(" BETWEEN ")
                .value(bound(low)?)
                .text(" AND ")
                .value(bound(high)?)
                .text(")"));
        }
        "match" => {
            return Ok(Sql::new("MATCH (")
                .name(&column)
                .text(") AGAINST (")
                .value(Value::Text(value.to_owned()))
                .text(")"));
        }
        _ => {
            return Err(wrong(format!(
                "`{op}` is not known; it is eq, ne, lt, lte, gt, gte, in, like, null, between or match"
            )));
        }
    };
    Ok(sql.text(comparison).value(bound(value)?).text(")"))
}

/// What a text in a filter or a path is compared with, where it is written as the column's values are shown. Numbers are
/// bound as numbers for columns that hold numbers: a text would be compared as a float.
pub fn bound(facts: &TableFacts, name: &str, text: &str) -> Result<Value, Problem> {
    let as_text = Value::Text(text.to_owned());
    let Some(column) = facts.column(name) else {
        return Ok(as_text);
    };
    if column.binary {
        return STANDARD.decode(text).map(Value::Bytes).map_err(|_| {
            Problem::bad_request(format!(
                "{name}: `{text}` is not base64, as binary values are shown; in a URL `+` is written %2B and `/` %2F"
            ))
        });
    }
    let kind = column.kind.split(['(', ' ']).next().unwrap_or_default();
    let number = match kind {
        "int" | "tinyint" | "smallint" | "mediumint" | "bigint" | "decimal" | "double" | "year" | "bit" => {
            Value::number(text)
        }
        "float" => text.parse().ok().map(|number| held(column, number)),
        _ => None,
    };
    Ok(number.unwrap_or(as_text))
}

/// `(a,"b,c",d)`; nested parentheses stay together.
fn list(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let (mut all, mut one) = (Vec::new(), String::new());
    let (mut quoted, mut depth) = (false, 0_u32);
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quoted => one.push(letters.next()?),
            // Inside of nested parentheses the quotes are read by the inner list.
            '"' if depth == 0 => quoted = !quoted,
            '(' if !quoted => {
                depth += 1;
                one.push(letter);
            }
            ')' if !quoted => {
                depth = depth.checked_sub(1)?;
                one.push(letter);
            }
            ',' if !quoted && depth == 0 => all.push(std::mem::take(&mut one)),
            _ => one.push(letter),
        }
    }
    all.push(one);
    (!quoted && depth == 0).then_some(all)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::table::ColumnFacts;

    fn facts() -> TableFacts {
        let column = ColumnFacts::ordinary;
        TableFacts {
            columns: vec![
                column("id", "bigint unsigned"),
                column("name", "varchar(20)"),
                column("code", "varbinary(8)"),
                column("part", "float"),
            ],
            key: vec!["id".to_owned()],
        }
    }

    /// The condition of these filters for a table with the columns `id` and `name`.
    pub fn of_a_test_table(pairs: &[(String, String)]) -> Result<Sql, Problem> {
        Ok(condition(&facts(), pairs)?.unwrap_or_default())
    }

    fn read(pairs: &[(&str, &str)]) -> Result<(String, Vec<Value>), Problem> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        Ok(condition(&facts(), &pairs)?.unwrap_or_default().into_parts())
    }

    #[test]
    fn filters_become_bound_conditions() {
        let (sql, values) = read(&[
            ("id", "in.(1,2)"),
            ("or", "(name.eq.\"a,b\",id.gt.5,name.in.(\"x\",y))"),
            ("limit", "5"),
            ("name", "null.false"),
        ])
        .unwrap();
        assert_eq!(
            sql,
            "(`id` IN (?, ?)) AND ((`name` = ?) OR (`id` > ?) OR (`name` IN (?, ?))) AND (`name` IS NOT NULL)"
        );
        assert_eq!(values[2], Value::Text("a,b".to_owned()));
        assert_eq!(values[4], Value::Text("x".to_owned()));
    }

    #[test]
    fn values_are_written_as_they_are_shown() {
        let (_, values) = read(&[
            ("code", "eq.AP8="),
            ("or", "(code.in.(AP8=,/+8=),name.eq.x)"),
            ("code", "between.,AP8="),
            ("code", "like.a%"),
            ("part", "eq.0.1"),
        ])
        .unwrap();
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        assert_eq!(
            values,
            [
                bytes(&[0, 0xff]),
                bytes(&[0, 0xff]),
                bytes(&[0xff, 0xef]),
                Value::Text("x".to_owned()),
                bytes(&[]),
                bytes(&[0, 0xff]),
                Value::Text("a%".to_owned()),
                Value::Float(f64::from(0.1_f32)),
            ]
        );
        for text in ["eq.AP8", "eq.AP 8", "in.(AP8=,x)", "between.x,AP8="] {
            let refused = read(&[("code", text)]).unwrap_err();
            assert!(refused.detail.contains("base64"), "{text}: {refused:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_named() {
        for (name, text) in [
            ("colour", "eq.red"),
            ("id", "is.5"),
            ("id", "in.5"),
            ("id", "between.5"),
            ("or", "id.eq.5"),
            ("or", "(id)"),
            ("or", "(id.in.(1)"),
            ("or", "()"),
        ] {
            assert!(read(&[(name, text)]).is_err(), "{name}={text}");
        }
    }
}
