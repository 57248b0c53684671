//! `schema`: a column list, and the columns of a JSON body.

use std::fmt::Write as _;

use sqlparser::ast::{
    ColumnDef, ColumnOption, DataType, EnumMember, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, IndexColumn, IndexOption, IndexType, ObjectNamePart, OrderBySort, ReferentialAction, Spanned as _,
    TableConstraint, Value as Literal,
};
use sqlparser::{parser::Parser, tokenizer::Token};

use super::{expression, reader::Reader};
use crate::{
    problem::Problem,
    sql::{Name, Sql, literal},
};

/// The parts of a table definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Each a column or a key, written anew.
    parts: Vec<String>,
    columns: Vec<Name>,
    has_key: bool,
    /// A table without a primary key is meant to have none.
    pub(super) whole: bool,
    /// What follows the parentheses, written anew.
    pub(super) options: String,
}

pub(super) enum Part {
    Column(ColumnDef),
    Constraint(TableConstraint),
}

impl Schema {
    /// The columns that it names.
    pub fn columns(&self) -> &[Name] {
        &self.columns
    }

    /// What follows the name in `CREATE TABLE`. Where a column list names no primary key, `Id` is put in front.
    pub fn into_sql(self) -> Sql {
        let mut text = "(".to_owned();
        if !self.has_key && !self.whole {
            text.push_str("`Id` BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY");
        }
        for part in &self.parts {
            if text.len() > 1 {
                text.push_str(", ");
            }
            text.push_str(part);
        }
        text.push(')');
        text.push_str(&self.options);
        Sql::checked(text, Vec::new())
    }

    /// Of parts that were read.
    pub(super) fn of(reader: &Reader<'_>, parts: &[Part]) -> Result<Self, Problem> {
        let mut all = Self::default();
        for part in parts {
            match part {
                Part::Column(column) => {
                    let text = self::column(reader, column, &mut all.has_key)?;
                    all.parts.push(text);
                    all.columns.push(expression::name(reader, &column.name)?);
                }
                Part::Constraint(constraint) => {
                    let text = self::constraint(reader, constraint, &mut all.has_key)?;
                    all.parts.push(text);
                }
            }
        }
        Ok(all)
    }
}

/// `name VARCHAR(100), age INT`, as in `CREATE TABLE`.
pub fn schema(text: &str) -> Result<Schema, Problem> {
    let mut reader = Reader::new("schema", text)?;
    let parts = reader.list(part)?;
    Schema::of(&reader, &parts)
}

/// Columns of a JSON body: each a name and a type, plain or MySQL's.
pub fn columns<'c>(columns: impl IntoIterator<Item = (&'c Name, &'c str)>) -> Result<Schema, Problem> {
    let mut all = Schema::default();
    for (name, kind) in columns {
        let kind = plain_type(kind).unwrap_or(kind);
        let text = if name.as_str().eq_ignore_ascii_case("id") && !kind.to_ascii_uppercase().contains("KEY") {
            // A column of this name is the key, as it would be were it left out.
            format!(
                "{name} {kind} NOT NULL {}PRIMARY KEY",
                if is_whole(kind) { "AUTO_INCREMENT " } else { "" }
            )
        } else {
            format!("{name} {kind}")
        };
        let one = schema(&text)?;
        all.has_key |= one.has_key;
        all.parts.extend(one.parts);
        all.columns.extend(one.columns);
    }
    if all.parts.is_empty() {
        return Err(Problem::bad_request("columns: there must be one at least"));
    }
    Ok(all)
}

/// MySQL's type for a plain one.
pub fn plain_type(kind: &str) -> Option<&'static str> {
    Some(match kind.to_ascii_lowercase().as_str() {
        "int" | "integer" | "number" => "BIGINT",
        "string" | "text" => "VARCHAR(255)",
        "float" | "double" => "DOUBLE",
        "bool" | "boolean" => "BOOLEAN",
        "date" => "DATE",
        "datetime" => "DATETIME(6)",
        "json" => "JSON",
        _ => return None,
    })
}

fn is_whole(kind: &str) -> bool {
    ["INT", "BIGINT", "SMALLINT", "TINYINT", "MEDIUMINT", "INTEGER"]
        .iter()
        .any(|whole| kind.to_ascii_uppercase().split([' ', '(']).next() == Some(whole))
}

pub(super) fn part(parser: &mut Parser<'static>) -> Result<Part, sqlparser::parser::ParserError> {
    if let Some(constraint) = parser.parse_optional_table_constraint()? {
        return Ok(Part::Constraint(constraint));
    }
    Ok(Part::Column(parser.parse_column_def()?))
}

fn column(reader: &Reader<'_>, column: &ColumnDef, has_key: &mut bool) -> Result<String, Problem> {
    let ColumnDef {
        name,
        data_type,
        options,
    } = column;
    let mut text = format!(
        "{} {}",
        expression::name(reader, name)?,
        data_type_text(data_type).ok_or_else(|| reader.refused(
            &format!("the type `{data_type}` is not known; use MySQL's names"),
            name.span
        ))?
    );
    for option in options {
        if option.name.is_some() {
            return Err(reader.refused("a column's option has no name", name.span));
        }
        text.push(' ');
        text.push_str(&self::option(reader, &option.option, name.span, has_key)?);
    }
    Ok(text)
}

fn option(
    reader: &Reader<'_>,
    option: &ColumnOption,
    span: sqlparser::tokenizer::Span,
    has_key: &mut bool,
) -> Result<String, Problem> {
    let refused = || reader.refused(&format!("`{option}` is not allowed here"), span);
    Ok(match option {
        ColumnOption::Null => "NULL".to_owned(),
        ColumnOption::NotNull => "NOT NULL".to_owned(),
        ColumnOption::PrimaryKey(key) if key.columns.is_empty() => {
            *has_key = true;
            "PRIMARY KEY".to_owned()
        }
        ColumnOption::Unique(_) => "UNIQUE".to_owned(),
        ColumnOption::Comment(text) => format!("COMMENT {}", literal(text)),
        ColumnOption::Default(value) => format!("DEFAULT {}", default(reader, value)?),
        ColumnOption::OnUpdate(value) => format!("ON UPDATE {}", default(reader, value)?),
        ColumnOption::DialectSpecific(tokens) => match tokens.as_slice() {
            [Token::Word(word)] if word.value.eq_ignore_ascii_case("AUTO_INCREMENT") => {
                "AUTO_INCREMENT".to_owned()
            }
            _ => return Err(refused()),
        },
        ColumnOption::CharacterSet(name) | ColumnOption::Collation(name) => {
            let text = name.to_string();
            if !is_plain(&text) {
                return Err(refused());
            }
            let what = if matches!(option, ColumnOption::Collation(_)) {
                "COLLATE"
            } else {
                "CHARACTER SET"
            };
            format!("{what} {}", literal(&text))
        }
        ColumnOption::Invisible => "INVISIBLE".to_owned(),
        _ => return Err(refused()),
    })
}

/// True of the names of character sets and collations.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A default: a literal, or the current time.
fn default(reader: &Reader<'_>, value: &Expr) -> Result<String, Problem> {
    match value {
        Expr::Value(value) => constant(reader, &value.value, value.span),
        Expr::UnaryOp {
            op: sqlparser::ast::UnaryOperator::Minus,
            expr,
        } => match expr.as_ref() {
            Expr::Value(inner) if matches!(inner.value, Literal::Number(..)) => {
                Ok(format!("-{}", constant(reader, &inner.value, inner.span)?))
            }
            _ => Err(reader.refused("a default is a literal", value.span())),
        },
        Expr::Function(_) => {
            let (text, bound) = expression::write(reader, Sql::default(), value)?.into_parts();
            let current = ["NOW(", "CURRENT_TIMESTAMP("]
                .iter()
                .any(|known| text.starts_with(known));
            if current && bound.is_empty() {
                return Ok(text);
            }
            if text == "UUID()" {
                return Ok("(UUID())".to_owned());
            }
            Err(reader.refused(
                "a default is a literal, CURRENT_TIMESTAMP or UUID()",
                value.span(),
            ))
        }
        Expr::Identifier(name) if name.value.eq_ignore_ascii_case("CURRENT_TIMESTAMP") => {
            Ok("CURRENT_TIMESTAMP".to_owned())
        }
        other => Err(reader.refused(
            "a default is a literal, CURRENT_TIMESTAMP or UUID()",
            other.span(),
        )),
    }
}

fn constant(
    reader: &Reader<'_>,
    value: &Literal,
    span: sqlparser::tokenizer::Span,
) -> Result<String, Problem> {
    use crate::sql::Value;
    Ok(match expression::literal(reader, value, span)? {
        Value::Null => "NULL".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Unsigned(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        // Digits and a point, as was checked when the number was read.
        Value::Decimal(digits) => digits,
        Value::Text(text) => literal(&text),
        Value::Bytes(_) | Value::Json(_) => return Err(reader.refused("a default is a plain literal", span)),
    })
}

fn constraint(
    reader: &Reader<'_>,
    constraint: &TableConstraint,
    has_key: &mut bool,
) -> Result<String, Problem> {
    let columns = |list: &[IndexColumn]| -> Result<String, Problem> {
        let mut all = Vec::with_capacity(list.len());
        for column in list {
            let order = &column.column;
            let (ident, length) = key_part(&order.expr)
                .ok_or_else(|| reader.refused("a key is made of columns", order.expr.span()))?;
            let name = format!("{}{length}", expression::name(reader, ident)?);
            match order.options.sort {
                None | Some(OrderBySort::Asc) => all.push(name),
                Some(OrderBySort::Desc) => all.push(format!("{name} DESC")),
                Some(OrderBySort::Using(_)) => return Err(reader.refused("ASC or DESC", ident.span)),
            }
        }
        Ok(all.join(", "))
    };
    // With the blank behind it.
    let named = |name: &Option<Ident>| -> Result<String, Problem> {
        let name = name
            .as_ref()
            .map(|name| expression::name(reader, name))
            .transpose()?;
        Ok(name.map(|name| format!("{name} ")).unwrap_or_default())
    };
    let (kind, options) = match constraint {
        TableConstraint::PrimaryKey(key) => (&key.index_type, key.index_options.as_slice()),
        TableConstraint::Unique(key) => (&key.index_type, key.index_options.as_slice()),
        TableConstraint::Index(key) => (&key.index_type, key.index_options.as_slice()),
        _ => (&None, [].as_slice()),
    };
    let is_usual = |kind: &IndexType| *kind == IndexType::BTree;
    let options_usual = options
        .iter()
        .all(|option| matches!(option, IndexOption::Using(kind) if is_usual(kind)));
    if !kind.as_ref().is_none_or(is_usual) || !options_usual {
        return Err(reader.refused("a key has no options but USING BTREE", constraint.span()));
    }
    Ok(match constraint {
        TableConstraint::PrimaryKey(key) => {
            *has_key = true;
            format!("PRIMARY KEY ({})", columns(&key.columns)?)
        }
        TableConstraint::Unique(key) => {
            let name = if key.index_name.is_some() {
                &key.index_name
            } else {
                &key.name
            };
            format!("UNIQUE KEY {}({})", named(name)?, columns(&key.columns)?)
        }
        TableConstraint::Index(key) => format!("KEY {}({})", named(&key.name)?, columns(&key.columns)?),
        TableConstraint::FulltextOrSpatial(key) => {
            let kind = if key.fulltext { "FULLTEXT" } else { "SPATIAL" };
            format!(
                "{kind} KEY {}({})",
                named(&key.opt_index_name)?,
                columns(&key.columns)?
            )
        }
        TableConstraint::ForeignKey(key) => {
            let plain = |list: &[Ident]| -> Result<String, Problem> {
                let all: Result<Vec<_>, _> = list.iter().map(|one| expression::name(reader, one)).collect();
                Ok(all?.iter().map(Name::to_string).collect::<Vec<_>>().join(", "))
            };
            let [table] = key.foreign_table.0.as_slice() else {
                return Err(reader.refused(
                    "a foreign key refers to a table of the same database",
                    constraint.span(),
                ));
            };
            let Some(table) = table.as_ident() else {
                return Err(reader.refused("a foreign key refers to a table", constraint.span()));
            };
            let name = named(&key.name)?;
            let mut text = format!(
                "{}{name}FOREIGN KEY ({}) REFERENCES {} ({})",
                if name.is_empty() { "" } else { "CONSTRAINT " },
                plain(&key.columns)?,
                expression::name(reader, table)?,
                plain(&key.referred_columns)?
            );
            for (what, action) in [("DELETE", &key.on_delete), ("UPDATE", &key.on_update)] {
                if let Some(action) = action {
                    // Writing to a String cannot fail.
                    let _ = write!(text, " ON {what} {}", self::action(*action));
                }
            }
            text
        }
        other => return Err(reader.refused(&format!("`{other}` is not allowed here"), other.span())),
    })
}

/// A column of a key, or so many of its first letters: `body`, `body(20)`.
fn key_part(expression: &Expr) -> Option<(&Ident, String)> {
    match expression {
        Expr::Identifier(name) => Some((name, String::new())),
        Expr::Function(function) => {
            let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
                return None;
            };
            let FunctionArguments::List(list) = &function.args else {
                return None;
            };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_slice()
            else {
                return None;
            };
            let Literal::Number(digits, _) = &value.value else {
                return None;
            };
            let length: u32 = digits.parse().ok()?;
            Some((name, format!("({length})")))
        }
        _ => None,
    }
}

fn action(action: ReferentialAction) -> &'static str {
    match action {
        ReferentialAction::Restrict => "RESTRICT",
        ReferentialAction::Cascade => "CASCADE",
        ReferentialAction::SetNull => "SET NULL",
        ReferentialAction::NoAction => "NO ACTION",
        ReferentialAction::SetDefault => "SET DEFAULT",
    }
}

/// Types that MySQL knows; what they hold besides their name are numbers and texts.
fn data_type_text(kind: &DataType) -> Option<String> {
    let texts = |texts: Vec<&String>| {
        texts
            .into_iter()
            .map(|text| literal(text))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match kind {
        DataType::Enum(members, None) => {
            let names: Option<Vec<&String>> = members
                .iter()
                .map(|member| match member {
                    EnumMember::Name(name) => Some(name),
                    EnumMember::NamedValue(..) => None,
                })
                .collect();
            Some(format!("ENUM({})", texts(names?)))
        }
        DataType::Set(members) => Some(format!("SET({})", texts(members.iter().collect()))),
        DataType::Custom(name, arguments) => custom(&name.to_string(), arguments),
        DataType::Char(_)
        | DataType::Character(_)
        | DataType::Varchar(_)
        | DataType::Binary(_)
        | DataType::Varbinary(_)
        | DataType::Blob(_)
        | DataType::TinyBlob
        | DataType::MediumBlob
        | DataType::LongBlob
        | DataType::Text
        | DataType::TinyText
        | DataType::MediumText
        | DataType::LongText
        | DataType::Numeric(_)
        | DataType::Decimal(_)
        | DataType::DecimalUnsigned(_)
        | DataType::Dec(_)
        | DataType::Float(_)
        | DataType::FloatUnsigned(_)
        | DataType::Double(_)
        | DataType::DoubleUnsigned(_)
        | DataType::DoublePrecision
        | DataType::Real
        | DataType::TinyInt(_)
        | DataType::TinyIntUnsigned(_)
        | DataType::SmallInt(_)
        | DataType::SmallIntUnsigned(_)
        | DataType::MediumInt(_)
        | DataType::MediumIntUnsigned(_)
        | DataType::Int(_)
        | DataType::IntUnsigned(_)
        | DataType::Integer(_)
        | DataType::IntegerUnsigned(_)
        | DataType::BigInt(_)
        | DataType::BigIntUnsigned(_)
        | DataType::Bool
        | DataType::Boolean
        | DataType::Date
        | DataType::Time(_, sqlparser::ast::TimezoneInfo::None)
        | DataType::Datetime(_)
        | DataType::Timestamp(_, sqlparser::ast::TimezoneInfo::None)
        | DataType::JSON
        | DataType::Bit(_) => Some(kind.to_string()),
        _ => None,
    }
}

/// Types that the parser has no form of its own for.
fn custom(name: &str, arguments: &[String]) -> Option<String> {
    const KNOWN: [&str; 9] = [
        "YEAR",
        "GEOMETRY",
        "POINT",
        "LINESTRING",
        "POLYGON",
        "MULTIPOINT",
        "MULTILINESTRING",
        "MULTIPOLYGON",
        "GEOMETRYCOLLECTION",
    ];
    let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name))?;
    arguments.is_empty().then(|| (*known).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_example_gets_a_key_in_front() {
        let schema = schema("name VARCHAR(100), email VARCHAR(100), age INT").unwrap();
        assert_eq!(
            schema.into_sql().as_text(),
            "(`Id` BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
             `name` VARCHAR(100), `email` VARCHAR(100), `age` INT)"
        );
    }

    #[test]
    fn every_type_and_option_that_people_use_is_understood() {
        let text = "id INT UNSIGNED AUTO_INCREMENT, kind ENUM('a','b''c') NOT NULL DEFAULT 'a', tags SET('x','y'), \
            price DECIMAL(65,30), at DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), \
            flag BIT(8), doc JSON, raw VARBINARY(16), born YEAR, place POINT, b TINYINT(1) DEFAULT -1 COMMENT 'it''s', \
            PRIMARY KEY (id), UNIQUE KEY (kind), INDEX (b), FOREIGN KEY (b) REFERENCES other (id) ON DELETE CASCADE";
        insta::assert_snapshot!(schema(text).unwrap().into_sql().as_text().replace(", `", ",\n`"));
    }

    #[test]
    fn nothing_else_gets_into_a_definition() {
        for text in [
            "a INT) ENGINE=MEMORY",
            "a INT; DROP TABLE x",
            "a INT DEFAULT (SELECT 1)",
            "a INT GENERATED ALWAYS AS (SLEEP(9))",
            "a INT CHECK (SLEEP(9))",
            "a INT /*!50000 PRIMARY KEY */",
            "a INT -- x",
            "a SERIAL",
            "a INT REFERENCES mysql.user (a)",
            "FOREIGN KEY (a) REFERENCES mysql.user (a)",
            "",
        ] {
            assert!(schema(text).is_err(), "{text}");
        }
    }
}
