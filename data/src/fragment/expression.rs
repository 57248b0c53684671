//! Expressions: what is allowed, and how it is written anew.

use sqlparser::{
    ast::{
        BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
        Spanned as _, UnaryOperator, Value as Literal,
    },
    tokenizer::Span,
};

use super::reader::Reader;
use crate::{
    problem::Problem,
    sql::{Name, Sql, Value},
};

/// Functions that only compute; none reads data, waits, or reaches outside of the statement.
const FUNCTIONS: [&str; 66] = [
    "ABS",
    "ADDDATE",
    "CEIL",
    "CEILING",
    "CHAR_LENGTH",
    "CHARACTER_LENGTH",
    "COALESCE",
    "CONCAT",
    "CONCAT_WS",
    "CURDATE",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURTIME",
    "DATE",
    "DATEDIFF",
    "DATE_FORMAT",
    "DAY",
    "DAYOFMONTH",
    "DAYOFWEEK",
    "DAYOFYEAR",
    "FIELD",
    "FIND_IN_SET",
    "FLOOR",
    "FROM_UNIXTIME",
    "GREATEST",
    "HEX",
    "HOUR",
    "IF",
    "IFNULL",
    "INSTR",
    "JSON_EXTRACT",
    "JSON_SET",
    "JSON_REMOVE",
    "JSON_UNQUOTE",
    "LAST_DAY",
    "LEAST",
    "LEFT",
    "LENGTH",
    "LOCATE",
    "LOWER",
    "LPAD",
    "LTRIM",
    "MD5",
    "MINUTE",
    "MOD",
    "MONTH",
    "NOW",
    "NULLIF",
    "POW",
    "POWER",
    "QUARTER",
    "REPLACE",
    "REVERSE",
    "RIGHT",
    "ROUND",
    "RPAD",
    "RTRIM",
    "SECOND",
    "SIGN",
    "SUBSTR",
    "UNIX_TIMESTAMP",
    "UPPER",
    "UTC_TIMESTAMP",
    "UUID",
    "YEAR",
];

/// Writes an expression anew.
pub fn write(reader: &Reader<'_>, sql: Sql, expression: &Expr) -> Result<Sql, Problem> {
    let sub = |sql: Sql, part: &Expr| write(reader, sql, part);
    let not = |negated: bool| if negated { " NOT" } else { "" };
    match expression {
        Expr::Identifier(name) => Ok(sql.name(&self::name(reader, name)?)),
        Expr::CompoundIdentifier(parts) if parts.len() == 2 => Ok(sql
            .name(&name(reader, &parts[0])?)
            .text(".")
            .name(&name(reader, &parts[1])?)),
        Expr::Value(value) => Ok(sql.value(literal(reader, &value.value, value.span)?)),
        Expr::Nested(inner) => Ok(sub(sql.text("("), inner)?.text(")")),
        Expr::UnaryOp { op, expr } => {
            let sign = match op {
                UnaryOperator::Minus => {
                    // A negative number is one literal, so that the smallest one is not out of range.
                    if let Some(value) = negative(expr) {
                        return Ok(sql.value(value));
                    }
                    "-"
                }
                UnaryOperator::Plus => "+",
                UnaryOperator::Not => "NOT ",
                UnaryOperator::BitwiseNot => "~",
                _ => return Err(reader.refused("this operator is not allowed", expr.span())),
            };
            Ok(sub(sql.text(sign).text("("), expr)?.text(")"))
        }
        Expr::BinaryOp { left, op, right } => {
            let sign = operator(op).ok_or_else(|| {
                reader.refused(&format!("the operator `{op}` is not allowed"), right.span())
            })?;
            let sql = sub(sql.text("("), left)?.text(" ").text(sign).text(" ");
            Ok(sub(sql, right)?.text(")"))
        }
        Expr::IsNull(inner) => Ok(sub(sql.text("("), inner)?.text(" IS NULL)")),
        Expr::IsNotNull(inner) => Ok(sub(sql.text("("), inner)?.text(" IS NOT NULL)")),
        Expr::IsTrue(inner) => Ok(sub(sql.text("("), inner)?.text(" IS TRUE)")),
        Expr::IsNotTrue(inner) => Ok(sub(sql.text("("), inner)?.text(" IS NOT TRUE)")),
        Expr::IsFalse(inner) => Ok(sub(sql.text("("), inner)?.text(" IS FALSE)")),
        Expr::IsNotFalse(inner) => Ok(sub(sql.text("("), inner)?.text(" IS NOT FALSE)")),
        Expr::InList { expr, list, negated } => {
            let sql = sub(sql.text("("), expr)?.text(not(*negated)).text(" IN (");
            Ok(all(reader, sql, list)?.text("))"))
        }
        Expr::Between {
            expr,
            negated,
            low,
            high,
        } => {
            let sql = sub(sql.text("("), expr)?.text(not(*negated)).text(" BETWEEN ");
            let sql = sub(sql, low)?.text(" AND ");
            Ok(sub(sql, high)?.text(")"))
        }
        Expr::Like {
            negated,
            any: false,
            expr,
            pattern,
            escape_char,
        } => {
            let sql = sub(sql.text("("), expr)?.text(not(*negated)).text(" LIKE ");
            let sql = sub(sql, pattern)?;
            match escape_char {
                None => Ok(sql.text(")")),
                Some(escape) => Ok(sub(sql.text(" ESCAPE "), escape)?.text(")")),
            }
        }
        Expr::RLike {
            negated,
            expr,
            pattern,
            ..
        } => {
            let sql = sub(sql.text("("), expr)?.text(not(*negated)).text(" RLIKE ");
            Ok(sub(sql, pattern)?.text(")"))
        }
        Expr::Case {
            operand,
            conditions,
            else_result,
            ..
        } => case(
            reader,
            sql,
            operand.as_deref(),
            conditions,
            else_result.as_deref(),
        ),
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
            Err(reader.refused("a SELECT is not allowed here", expression.span()))
        }
        other => call_like(reader, sql, other),
    }
}

/// Calls, and what is written like one.
fn call_like(reader: &Reader<'_>, sql: Sql, expression: &Expr) -> Result<Sql, Problem> {
    let sub = |sql: Sql, part: &Expr| write(reader, sql, part);
    match expression {
        Expr::Function(function) => call(reader, sql, function),
        Expr::Trim {
            trim_where: None,
            trim_what: None,
            expr,
            trim_characters: None,
        } => Ok(sub(sql.text("TRIM("), expr)?.text(")")),
        Expr::Substring {
            expr,
            substring_from: Some(from),
            substring_for,
            ..
        } => {
            let sql = sub(sql.text("SUBSTRING("), expr)?.text(", ");
            let sql = sub(sql, from)?;
            match substring_for {
                None => Ok(sql.text(")")),
                Some(length) => Ok(sub(sql.text(", "), length)?.text(")")),
            }
        }
        Expr::Ceil { expr, .. } => Ok(sub(sql.text("CEIL("), expr)?.text(")")),
        Expr::Floor { expr, .. } => Ok(sub(sql.text("FLOOR("), expr)?.text(")")),
        other => Err(reader.refused(&format!("`{other}` is not allowed here"), other.span())),
    }
}

/// A name in the fragment.
pub fn name(reader: &Reader<'_>, ident: &Ident) -> Result<Name, Problem> {
    if !matches!(ident.quote_style, None | Some('`')) {
        return Err(reader.refused("a name is written plainly or between backticks", ident.span));
    }
    if ident.quote_style.is_none() && ident.value.starts_with('@') {
        return Err(reader.refused("variables are not allowed", ident.span));
    }
    Name::new(ident.value.clone()).map_err(|reason| reader.refused(&reason, ident.span))
}

/// A literal as the value to be bound.
pub fn literal(reader: &Reader<'_>, literal: &Literal, span: Span) -> Result<Value, Problem> {
    match literal {
        Literal::Null => Ok(Value::Null),
        Literal::Boolean(truth) => Ok(Value::Int(i64::from(*truth))),
        Literal::SingleQuotedString(text) | Literal::DoubleQuotedString(text) => {
            Ok(Value::Text(text.clone()))
        }
        Literal::Number(text, false) => {
            Value::number(text).ok_or_else(|| reader.refused(&format!("`{text}` is no number"), span))
        }
        Literal::HexStringLiteral(digits) => bytes(digits)
            .map(Value::Bytes)
            .ok_or_else(|| reader.refused("an odd number of digits", span)),
        other => Err(reader.refused(&format!("`{other}` is not allowed here"), span)),
    }
}

fn negative(expression: &Expr) -> Option<Value> {
    match expression {
        Expr::Value(value) => match &value.value {
            Literal::Number(text, false) if !text.starts_with('-') => Value::number(&format!("-{text}")),
            _ => None,
        },
        _ => None,
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn operator(operator: &BinaryOperator) -> Option<&'static str> {
    Some(match operator {
        BinaryOperator::Plus => "+",
        BinaryOperator::Minus => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::Modulo => "%",
        BinaryOperator::MyIntegerDivide => "DIV",
        BinaryOperator::Gt => ">",
        BinaryOperator::Lt => "<",
        BinaryOperator::GtEq => ">=",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::Eq => "=",
        BinaryOperator::NotEq => "<>",
        BinaryOperator::Spaceship => "<=>",
        BinaryOperator::And => "AND",
        BinaryOperator::Or => "OR",
        BinaryOperator::Xor => "XOR",
        BinaryOperator::BitwiseOr => "|",
        BinaryOperator::BitwiseAnd => "&",
        BinaryOperator::BitwiseXor => "^",
        _ => return None,
    })
}

fn all(reader: &Reader<'_>, mut sql: Sql, list: &[Expr]) -> Result<Sql, Problem> {
    for (at, one) in list.iter().enumerate() {
        if at > 0 {
            sql = sql.text(", ");
        }
        sql = write(reader, sql, one)?;
    }
    Ok(sql)
}

fn case(
    reader: &Reader<'_>,
    sql: Sql,
    operand: Option<&Expr>,
    conditions: &[CaseWhen],
    otherwise: Option<&Expr>,
) -> Result<Sql, Problem> {
    let mut sql = sql.text("(CASE");
    if let Some(operand) = operand {
        sql = write(reader, sql.text(" "), operand)?;
    }
    for CaseWhen { condition, result } in conditions {
        sql = write(reader, sql.text(" WHEN "), condition)?;
        sql = write(reader, sql.text(" THEN "), result)?;
    }
    if let Some(otherwise) = otherwise {
        sql = write(reader, sql.text(" ELSE "), otherwise)?;
    }
    Ok(sql.text(" END)"))
}

fn call(reader: &Reader<'_>, sql: Sql, function: &Function) -> Result<Sql, Problem> {
    let span = function.name.span();
    let refused = |what: &str| Err(reader.refused(what, span));
    let Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args,
        within_group,
        filter: None,
        null_treatment: None,
        over: None,
    } = function
    else {
        return refused("this form of a call is not allowed");
    };
    let [part] = name.0.as_slice() else {
        return refused("a function of another schema is not allowed");
    };
    let wanted = part
        .as_ident()
        .map(|ident| ident.value.to_ascii_uppercase())
        .unwrap_or_default();
    let Some(known) = FUNCTIONS.iter().find(|known| **known == wanted) else {
        return refused(&format!("the function `{name}` is not allowed"));
    };
    if !within_group.is_empty() {
        return refused("this form of a call is not allowed");
    }
    let arguments: &[FunctionArg] = match args {
        FunctionArguments::None => &[],
        FunctionArguments::List(list) if list.duplicate_treatment.is_none() && list.clauses.is_empty() => {
            &list.args
        }
        _ => return refused("this form of a call is not allowed"),
    };
    let mut sql = sql.text(known).text("(");
    for (at, argument) in arguments.iter().enumerate() {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
            return refused("this form of an argument is not allowed");
        };
        if at > 0 {
            sql = sql.text(", ");
        }
        // The digits of a fraction must be there when MySQL reads the statement, so they cannot be bound.
        if matches!(
            wanted.as_str(),
            "NOW" | "CURRENT_TIMESTAMP" | "CURTIME" | "CURRENT_TIME" | "UTC_TIMESTAMP"
        ) {
            let digits = match argument {
                Expr::Value(value) => match &value.value {
                    Literal::Number(text, false) => text.parse::<u64>().ok().filter(|digits| *digits <= 6),
                    _ => None,
                },
                _ => None,
            };
            let Some(digits) = digits else {
                return refused("takes a number of digits from 0 to 6");
            };
            sql = sql.number(digits);
        } else {
            sql = write(reader, sql, argument)?;
        }
    }
    Ok(sql.text(")"))
}
