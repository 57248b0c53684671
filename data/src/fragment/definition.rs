//! A whole `CREATE TABLE`, as `SHOW CREATE TABLE` and dumps write it.

use sqlparser::{
    ast::Ident,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use super::{
    expression,
    reader::Reader,
    schema::{self, Schema},
};
use crate::{
    problem::Problem,
    sql::{Name, literal},
};

/// What a statement makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The database, where the statement names one.
    pub database: Option<Name>,
    /// The table.
    pub table: Name,
    /// The rest. A table without a primary key gets none.
    pub schema: Schema,
}

enum TableOption {
    Engine(Ident),
    CharacterSet(Ident),
    Collation(Ident),
    RowFormat(Ident),
    Comment(String),
    AutoIncrement(u64),
}

/// `CREATE TABLE name (…) ENGINE=InnoDB …`
pub fn definition(text: &str) -> Result<Definition, Problem> {
    let mut reader = Reader::new("statement", text)?;
    let (database, table) = reader.read(name)?;
    let database = database
        .map(|name| expression::name(&reader, &name))
        .transpose()?;
    let table = expression::name(&reader, &table)?;
    reader.read(|parser| parser.expect_token(&Token::LParen))?;
    let parts = reader.items(schema::part)?;
    reader.read(|parser| parser.expect_token(&Token::RParen))?;
    let options = reader.read(options)?;
    reader.end()?;
    let mut schema = Schema::of(&reader, &parts)?;
    schema.whole = true;
    for option in &options {
        schema.options.push(' ');
        schema.options.push_str(&self::option(&reader, option)?);
    }
    Ok(Definition {
        database,
        table,
        schema,
    })
}

fn name(parser: &mut Parser<'static>) -> Result<(Option<Ident>, Ident), ParserError> {
    parser.expect_keywords(&[Keyword::CREATE, Keyword::TABLE])?;
    let first = parser.parse_identifier()?;
    if parser.consume_token(&Token::Period) {
        return Ok((Some(first), parser.parse_identifier()?));
    }
    Ok((None, first))
}

fn options(parser: &mut Parser<'static>) -> Result<Vec<TableOption>, ParserError> {
    let mut all = Vec::new();
    loop {
        let is_default = parser.parse_keyword(Keyword::DEFAULT);
        let is_set = parser.parse_keyword(Keyword::CHARSET)
            || parser.parse_keywords(&[Keyword::CHARACTER, Keyword::SET]);
        if is_set || parser.parse_keyword(Keyword::COLLATE) {
            let _ = parser.consume_token(&Token::Eq);
            let name = parser.parse_identifier()?;
            all.push(if is_set {
                TableOption::CharacterSet(name)
            } else {
                TableOption::Collation(name)
            });
            continue;
        }
        if is_default {
            return parser.expected("CHARSET or COLLATE", parser.peek_token());
        }
        let Some(keyword) = parser.parse_one_of_keywords(&[
            Keyword::ENGINE,
            Keyword::ROW_FORMAT,
            Keyword::COMMENT,
            Keyword::AUTO_INCREMENT,
        ]) else {
            let _ = parser.consume_token(&Token::SemiColon);
            return Ok(all);
        };
        let _ = parser.consume_token(&Token::Eq);
        all.push(match keyword {
            Keyword::ENGINE => TableOption::Engine(parser.parse_identifier()?),
            Keyword::ROW_FORMAT => TableOption::RowFormat(parser.parse_identifier()?),
            Keyword::COMMENT => TableOption::Comment(parser.parse_literal_string()?),
            _ => TableOption::AutoIncrement(parser.parse_literal_uint()?),
        });
    }
}

fn option(reader: &Reader<'_>, option: &TableOption) -> Result<String, Problem> {
    match option {
        // Others lose data when a server is killed.
        TableOption::Engine(name) if name.value.eq_ignore_ascii_case("innodb") => {
            Ok("ENGINE=InnoDB".to_owned())
        }
        TableOption::Engine(name) => Err(reader.refused("the engine is InnoDB", name.span)),
        TableOption::CharacterSet(name) => Ok(format!("CHARACTER SET={}", literal(&name.value))),
        TableOption::Collation(name) => Ok(format!("COLLATE={}", literal(&name.value))),
        TableOption::RowFormat(name) => {
            const KNOWN: [&str; 4] = ["DYNAMIC", "COMPACT", "REDUNDANT", "COMPRESSED"];
            let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(&name.value));
            let known = known.ok_or_else(|| reader.refused("no row format of InnoDB", name.span))?;
            Ok(format!("ROW_FORMAT={known}"))
        }
        TableOption::Comment(text) => Ok(format!("COMMENT={}", literal(text))),
        TableOption::AutoIncrement(next) => Ok(format!("AUTO_INCREMENT={next}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_show_create_table_says_is_taken() {
        let text = "CREATE TABLE `shop`.`users` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  \
            `email` varchar(100) COLLATE utf8mb4_bin DEFAULT NULL,\n  PRIMARY KEY (`id`),\n  \
            UNIQUE KEY `email` (`email`(20)) USING BTREE,\n  KEY `both` (`email`,`id` DESC),\n  CONSTRAINT `own` FOREIGN KEY (`id`) \
            REFERENCES `people` (`id`) ON DELETE CASCADE\n) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4 \
            COLLATE=utf8mb4_0900_ai_ci ROW_FORMAT=DYNAMIC COMMENT='it''s'";
        let made = definition(text).unwrap();
        assert_eq!(made.database, Some(Name::new("shop").unwrap()));
        assert_eq!(made.table, Name::new("users").unwrap());
        insta::assert_snapshot!(made.schema.into_sql().as_text().replace(", `", ",\n`"));
    }

    #[test]
    fn a_whole_statement_gets_no_key_of_ours() {
        let made = definition("create table t (a INT);").unwrap();
        assert_eq!(
            (made.database, made.schema.into_sql().as_text()),
            (None, "(`a` INT)")
        );
    }

    #[test]
    fn nothing_else_gets_into_a_statement() {
        for text in [
            "CREATE TABLE t (a INT) ENGINE=MyISAM",
            "CREATE TABLE t (a INT); DROP TABLE t",
            "CREATE TABLE t (a INT) AS SELECT 1",
            "CREATE TABLE t (a INT) SELECT * FROM mysql.user",
            "CREATE TABLE t LIKE mysql.user",
            "CREATE TABLE IF NOT EXISTS t (a INT)",
            "CREATE TEMPORARY TABLE t (a INT)",
            "CREATE TABLE t (a INT) DATA DIRECTORY='/tmp'",
            "CREATE TABLE t (a INT) TABLESPACE mysql",
            "CREATE TABLE t (a INT) ROW_FORMAT=x",
            "CREATE TABLE t (a INT) DEFAULT",
            "CREATE TABLE t (a INT, KEY k (a) COMMENT 'x')",
            "CREATE TABLE t (a INT, KEY k (ABS(a)))",
            "CREATE TABLE t (a INT, KEY k (a(x)))",
            "CREATE TABLE t (a INT) PARTITION BY HASH (a)",
            "CREATE TABLE a.b.c (a INT)",
            "CREATE TABLE t ()",
            "DROP TABLE t",
        ] {
            assert!(definition(text).is_err(), "{text}");
        }
    }
}
