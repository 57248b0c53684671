//! A whole statement, for `/v1/sql`. It is parsed to know what it does and which databases it names; MySQL then gets
//! the parser's own words, with every unqualified table put into the named database. What the parser does not
//! understand is refused.

use std::{collections::BTreeSet, ops::ControlFlow};

use sqlparser::{
    ast::{
        Expr, Ident, ObjectName, ObjectNamePart, Query, SetExpr, Statement, TableFactor, Value as Literal,
        VisitMut, VisitorMut,
    },
    tokenizer::Span,
};

use super::reader::Reader;
use crate::{
    problem::Problem,
    sql::{Name, Sql, Value},
};

/// What is known of a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Understood {
    /// The statement.
    pub sql: Sql,
    /// The databases that it names.
    pub databases: Vec<Name>,
    /// It changes rows.
    pub writes: bool,
}

/// Functions that wait, lock, read files or tell of the server.
const REFUSED: [&str; 22] = [
    "SLEEP",
    "BENCHMARK",
    "GET_LOCK",
    "RELEASE_LOCK",
    "RELEASE_ALL_LOCKS",
    "IS_FREE_LOCK",
    "IS_USED_LOCK",
    "LOAD_FILE",
    "WAIT_FOR_EXECUTED_GTID_SET",
    "SOURCE_POS_WAIT",
    "MASTER_POS_WAIT",
    "USER",
    "CURRENT_USER",
    "SESSION_USER",
    "SYSTEM_USER",
    "CONNECTION_ID",
    "PS_CURRENT_THREAD_ID",
    "PS_THREAD_ID",
    "ASYNCHRONOUS_CONNECTION_FAILOVER_ADD_SOURCE",
    "ASYNCHRONOUS_CONNECTION_FAILOVER_RESET",
    "GROUP_REPLICATION_SET_AS_PRIMARY",
    "ICU_VERSION",
];

/// Understands one statement.
pub fn statement(
    text: &str,
    database: &Name,
    values: Vec<Value>,
    explain: bool,
) -> Result<Understood, Problem> {
    let mut reader = Reader::statement("statement", text)?;
    let mut parsed = reader.read(sqlparser::parser::Parser::parse_statement)?;
    reader.end()?;
    let writes = match &parsed {
        Statement::Query(query) if reads(query) => false,
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => true,
        _ => {
            return Err(Problem::fragment(
                "statement: one SELECT, INSERT, UPDATE, DELETE or REPLACE; definitions have paths of their own",
                Some(1),
            ));
        }
    };
    let mut names = Names {
        database,
        found: BTreeSet::new(),
        aliases: BTreeSet::new(),
        placeholders: 0,
    };
    if let ControlFlow::Break(reason) = parsed.visit(&mut Aliases(&mut names.aliases)) {
        return Err(Problem::fragment(format!("statement: {reason}"), None));
    }
    if let ControlFlow::Break((reason, span)) = parsed.visit(&mut names) {
        return Err(reader.refused(&reason, span));
    }
    if names.placeholders != values.len() {
        return Err(Problem::bad_request(format!(
            "the statement has {} `?`, and there are {} values",
            names.placeholders,
            values.len()
        )));
    }
    let words = parsed.to_string();
    if !says_the_same(&words, &parsed) {
        return Err(Problem::fragment(
            "statement: it cannot be written anew as it was read; bind its values with `?`",
            None,
        ));
    }
    Ok(Understood {
        sql: Sql::checked(
            if explain {
                format!("EXPLAIN {words}")
            } else {
                words
            },
            values,
        ),
        databases: names.found.into_iter().collect(),
        writes,
    })
}

/// Whether the parser's own words are read as what they were written from. MySQL gets the words, and all that was checked
/// is what they came from: a sign that the parser forgets to escape must not make a difference.
fn says_the_same(words: &str, meant: &Statement) -> bool {
    let again = Reader::statement("statement", words).and_then(|mut reader| {
        let again = reader.read(sqlparser::parser::Parser::parse_statement)?;
        reader.end().map(|()| again)
    });
    again.is_ok_and(|again| again == *meant)
}

fn reads(query: &Query) -> bool {
    query.locks.is_empty()
        && matches!(
            query.body.as_ref(),
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_)
        )
}

/// Refuses what the visits below do not look into: `TABLE name` is kept as bare text, and INTO writes elsewhere.
fn plain(body: &SetExpr) -> Result<(), &'static str> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => Err("INTO is not allowed"),
        // A query within is looked at by itself.
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => Ok(()),
        SetExpr::SetOperation { left, right, .. } => plain(left).and_then(|()| plain(right)),
        SetExpr::Table(_) => Err("`TABLE name` is not allowed; write SELECT * FROM name"),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err("a query does not change rows")
        }
    }
}

/// Names that a WITH gives to its queries; they are no tables.
struct Aliases<'a>(&'a mut BTreeSet<String>);

impl VisitorMut for Aliases<'_> {
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        for one in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.0.insert(one.alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }
}

struct Names<'a> {
    database: &'a Name,
    found: BTreeSet<Name>,
    aliases: BTreeSet<String>,
    placeholders: usize,
}

impl VisitorMut for Names<'_> {
    type Break = (String, Span);

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Self::Break> {
        let refuse = |what: &str, span| ControlFlow::Break((what.to_owned(), span));
        let mut parts = Vec::new();
        for part in &relation.0 {
            let ObjectNamePart::Identifier(ident) = part else {
                return refuse("a table is named plainly", Span::empty());
            };
            parts.push(ident.clone());
        }
        let (database, table) = match parts.as_slice() {
            [table] if table.quote_style.is_none() && table.value.eq_ignore_ascii_case("dual") => {
                return ControlFlow::Continue(());
            }
            [table] if self.aliases.contains(&table.value.to_lowercase()) => return ControlFlow::Continue(()),
            [table] => (Ok(self.database.clone()), table),
            [database, table] => (Name::new(database.value.clone()), table),
            _ => return refuse("a table is named by its database and its name", Span::empty()),
        };
        let (Ok(database), Ok(name)) = (database, Name::new(table.value.clone())) else {
            return refuse("this is no name of a table", table.span);
        };
        let quoted = |name: &Name| ObjectNamePart::Identifier(Ident::with_quote('`', name.as_str()));
        if name.as_str().contains('`') || database.as_str().contains('`') {
            return refuse("names with backticks are not allowed here", table.span);
        }
        relation.0 = vec![quoted(&database), quoted(&name)];
        self.found.insert(database);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            other => ControlFlow::Break((format!("`{other}` is not allowed here"), Span::empty())),
        }
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if let Err(what) = plain(&query.body) {
            return ControlFlow::Break((what.to_owned(), Span::empty()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Self::Break> {
        match expression {
            Expr::Value(value) => {
                if let Literal::Placeholder(mark) = &value.value {
                    if mark != "?" {
                        return ControlFlow::Break((
                            format!("`{mark}` is not allowed; bound values are `?`"),
                            value.span,
                        ));
                    }
                    self.placeholders += 1;
                }
            }
            // MySQL takes it for the function; other functions need their parentheses.
            Expr::Identifier(name)
                if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("current_user") =>
            {
                return ControlFlow::Break((format!("the function `{name}` is not allowed"), name.span));
            }
            Expr::Function(function) => {
                let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
                    return ControlFlow::Break((
                        "functions of a schema are not allowed".to_owned(),
                        Span::empty(),
                    ));
                };
                if REFUSED
                    .iter()
                    .any(|refused| refused.eq_ignore_ascii_case(&name.value))
                {
                    return ControlFlow::Break((format!("the function `{name}` is not allowed"), name.span));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Understood, Problem> {
        statement(text, &Name::new("shop").expect("a name"), Vec::new(), false)
    }

    #[test]
    fn what_is_not_looked_at_is_refused() {
        for text in [
            "SELECT * FROM (TABLE other.secret) x",
            "SELECT a FROM t UNION TABLE other.secret",
            "SELECT a FROM t UNION SELECT 1 UNION (TABLE other.secret)",
            "WITH c AS (TABLE other.secret) SELECT * FROM c",
            "SELECT 1 FROM t WHERE 1 IN (TABLE other.x)",
            "INSERT INTO t TABLE other.secret",
            "SELECT a FROM t UNION TABLE information_schema.processlist",
            "SELECT DISTINCT@@datadir",
            "SELECT NOT@x:=5",
            "SELECT a FROM t INTO@x",
            "SELECT 1 UNION SELECT 2 INTO @x",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "SELECT @@version",
            "SELECT t.@x FROM t",
            "SELECT CURRENT_USER",
            "SELECT x'41'' FROM t'",
            "SELECT SLEEP(1)",
            "SELECT 1; SELECT 2",
            "TABLE t",
        ] {
            assert!(read(text).is_err(), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn every_database_that_is_read_is_named() {
        let databases = |text: &str| -> Vec<String> {
            let understood = read(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}"));
            let names = understood.databases.iter();
            names.map(|name| name.as_str().to_owned()).collect()
        };
        for text in [
            "SELECT * FROM (SELECT * FROM other.secret) x, t",
            "SELECT a FROM t UNION SELECT b FROM other.secret",
            "WITH c AS (SELECT * FROM other.secret) SELECT * FROM c JOIN t",
            "SELECT 1 FROM t WHERE 1 IN (SELECT x FROM other.x)",
            "INSERT INTO t SELECT * FROM other.secret",
            "UPDATE t SET a = (SELECT 1 FROM other.x)",
            "DELETE FROM t WHERE a = (SELECT 1 FROM other.x)",
        ] {
            assert_eq!(databases(text), ["other", "shop"], "{text}");
        }
        let quoted = read("SELECT `a@b`, 'x@y', user FROM t").expect("names with such signs are names");
        assert_eq!(quoted.sql.as_text(), "SELECT `a@b`, 'x@y', user FROM `shop`.`t`");
    }
}
