//! `values`, `set` and `where`.

use sqlparser::ast::{Assignment, AssignmentTarget, Expr, ObjectName, ObjectNamePart, Spanned as _};

use super::{expression, reader::Reader};
use crate::{
    problem::Problem,
    sql::{Name, Sql},
};

/// `NULL, "John Doe", 30`: each value, ready for a value list.
pub fn values(text: &str) -> Result<Vec<Sql>, Problem> {
    let mut reader = Reader::new("values", text)?;
    let list = reader.list(sqlparser::parser::Parser::parse_expr)?;
    list.iter()
        .map(|one| {
            // A name would be a column of the row that is being made.
            if matches!(one, Expr::Identifier(ident) if ident.value.eq_ignore_ascii_case("default")) {
                return Ok(Sql::new("DEFAULT"));
            }
            expression::write(&reader, Sql::default(), one)
        })
        .collect()
}

/// `name = "Jane", age = age + 1`: each column with its new value.
pub fn assignments(text: &str) -> Result<Vec<(Name, Sql)>, Problem> {
    let mut reader = Reader::new("set", text)?;
    let list = reader.list(sqlparser::parser::Parser::parse_assignment)?;
    list.iter()
        .map(|Assignment { target, value }| {
            let AssignmentTarget::ColumnName(ObjectName(parts)) = target else {
                return Err(reader.refused("one column stands before each `=`", value.span()));
            };
            let [ObjectNamePart::Identifier(column)] = parts.as_slice() else {
                return Err(reader.refused("a column is named without its table", value.span()));
            };
            let column = expression::name(&reader, column)?;
            if matches!(value, Expr::Identifier(ident) if ident.value.eq_ignore_ascii_case("default")) {
                return Ok((column, Sql::new("DEFAULT")));
            }
            Ok((column, expression::write(&reader, Sql::default(), value)?))
        })
        .collect()
}

/// `Id = 1 AND name LIKE "J%"`: a condition.
pub fn condition(text: &str) -> Result<Sql, Problem> {
    let mut reader = Reader::new("where", text)?;
    let parsed = reader.read(sqlparser::parser::Parser::parse_expr)?;
    reader.end()?;
    expression::write(&reader, Sql::default(), &parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Value;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn the_contracts_examples_become_bound_values() {
        let all = values("NULL, \"John Doe\", \"john@example.com\", 30").unwrap();
        let bound: Vec<Value> = all.into_iter().flat_map(|one| one.into_parts().1).collect();
        assert_eq!(
            bound,
            [
                Value::Null,
                text("John Doe"),
                text("john@example.com"),
                Value::Int(30)
            ]
        );
        let set = assignments("name = \"Jane\", age = age + 1").unwrap();
        assert_eq!(set[0].1, Sql::default().value(text("Jane")));
        assert_eq!(set[1].1.as_text(), "(`age` + ?)");
        let (sql, bound) = condition("Id = 1 AND NOT (name LIKE 'J%' OR age BETWEEN 1 AND -2.5)")
            .unwrap()
            .into_parts();
        assert_eq!(
            sql,
            "((`Id` = ?) AND NOT ((((`name` LIKE ?) OR (`age` BETWEEN ? AND CAST(? AS DECIMAL(2,1)))))))"
        );
        assert_eq!(bound.len(), 4);
    }

    #[test]
    fn what_does_not_parse_is_refused_with_its_position() {
        let problem = condition("Id = 1; DROP TABLE x").unwrap_err();
        assert_eq!(problem.position, Some(7), "{problem:?}");
        let problem = condition("Id = ").unwrap_err();
        assert_eq!(problem.position, Some(6), "{problem:?}");
        let problem = condition("Id = (SELECT 1)").unwrap_err();
        assert!(problem.detail.contains("SELECT"), "{problem:?}");
    }
}
