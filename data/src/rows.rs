//! Rows as JSON objects on their way into a table.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use crate::{
    problem::Problem,
    sql::{Name, Sql, Value},
    table::{ColumnFacts, TableFacts},
};

/// An object of columns with their values.
pub type Object = BTreeMap<Name, Box<RawValue>>;

/// Reads one object.
pub fn object(field: &str, raw: &RawValue) -> Result<Object, Problem> {
    serde_json::from_str(raw.get()).map_err(|error| {
        Problem::bad_request(format!(
            "{field}: must be an object of columns with values: {error}"
        ))
    })
}

/// The value that is bound for a column.
pub fn value(facts: &TableFacts, name: &Name, raw: &RawValue) -> Result<Value, Problem> {
    let column = facts.column(name.as_str()).ok_or_else(|| {
        let known: Vec<&str> = facts.columns.iter().map(|column| column.name.as_str()).collect();
        Problem::bad_request(format!(
            "there is no column `{}`; there are {}",
            name.as_str(),
            known.join(", ")
        ))
    })?;
    bind(column, raw).map_err(|reason| Problem::bad_request(format!("{}: {reason}", name.as_str())))
}

/// The values of an object by their columns' places. Each column is named once, however its name is spelled.
pub fn values(facts: &TableFacts, object: &Object) -> Result<Vec<(usize, Value)>, Problem> {
    let mut values: Vec<(usize, Value)> = Vec::with_capacity(object.len());
    for (name, raw) in object {
        let value = value(facts, name, raw)?;
        let Some(at) = facts.place(name.as_str()) else {
            continue;
        };
        if values.iter().any(|(known, _)| *known == at) {
            return Err(Problem::bad_request(format!(
                "the column `{}` is named twice",
                name.as_str()
            )));
        }
        values.push((at, value));
    }
    Ok(values)
}

fn bind(column: &ColumnFacts, raw: &RawValue) -> Result<Value, String> {
    let value = Value::from_json(raw)?;
    Ok(match value {
        Value::Null => Value::Null,
        _ if column.kind == "json" => Value::Json(raw.get().to_owned()),
        Value::Text(text) if column.binary => Value::Bytes(
            STANDARD
                .decode(text)
                .map_err(|_| "binary values are base64 text".to_owned())?,
        ),
        // A decimal on the way to a float would lose the sign of zero.
        Value::Decimal(text) if column.kind.starts_with("double") || column.kind.starts_with("float") => text
            .parse()
            .ok()
            .filter(|float: &f64| float.is_finite())
            .map_or(Value::Decimal(text), |float| held(column, float)),
        Value::Float(float) => held(column, float),
        other => other,
    })
}

/// What a column holds of a number. A FLOAT is compared in double precision, in which 0.1 is another number than the one
/// that it holds.
pub fn held(column: &ColumnFacts, number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "that is what a FLOAT does")]
    let single = number as f32;
    if column.kind.starts_with("float") && single.is_finite() {
        Value::Float(f64::from(single))
    } else {
        Value::Float(number)
    }
}

/// `UPDATE` of the rows that a condition names.
pub fn update(database: &Name, table: &Name, assignments: &Sql, condition: &Sql) -> Sql {
    Sql::new("UPDATE ")
        .table(database, table)
        .text(" SET ")
        .part(assignments)
        .text(" WHERE ")
        .part(condition)
}

/// `DELETE` of the rows that a condition names.
pub fn delete(database: &Name, table: &Name, condition: &Sql) -> Sql {
    Sql::new("DELETE FROM ")
        .table(database, table)
        .text(" WHERE ")
        .part(condition)
}

/// The assignments of an `UPDATE`.
pub fn assignments(facts: &TableFacts, object: &Object) -> Result<Sql, Problem> {
    if object.is_empty() {
        return Err(Problem::bad_request("data: there must be one column at least"));
    }
    let mut sql = Sql::default();
    for (place, (at, value)) in values(facts, object)?.into_iter().enumerate() {
        if place > 0 {
            sql = sql.text(", ");
        }
        let name = facts.columns[at].sql_name()?;
        sql = sql.name(&name).text(" = ").value(value);
    }
    Ok(sql)
}

/// A condition: every column has the value that the object says.
pub fn condition(facts: &TableFacts, raw: &RawValue) -> Result<Sql, Problem> {
    let object = object("condition", raw)?;
    if object.is_empty() {
        return Err(Problem::bad_request(
            "condition: there must be one column at least; for every row write \"where\": \"true\"",
        ));
    }
    equal(facts, &object)
}

/// Every column has the value that the object says.
pub fn equal(facts: &TableFacts, object: &Object) -> Result<Sql, Problem> {
    let mut sql = Sql::new("(");
    for (at, (name, raw)) in object.iter().enumerate() {
        if at > 0 {
            sql = sql.text(" AND ");
        }
        sql = match value(facts, name, raw)? {
            Value::Null => sql.name(name).text(" IS NULL"),
            value => sql.name(name).text(" = ").value(value),
        };
    }
    Ok(sql.text(")"))
}
