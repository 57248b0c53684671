//! Which tables are followed: `tables=shop.users,stock`.

use crate::{
    access::Caller,
    call::Call,
    problem::{Kind, Problem},
    sql::{Name, is_system},
};

/// The tables of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever the token reaches.
    All(Option<Vec<String>>),
    /// These.
    Some(Vec<(Name, Option<Name>)>),
}

impl Wanted {
    /// Reads the parameter, and refuses what the caller does not reach.
    pub fn of(call: &Call, tables: Option<&str>) -> Result<Self, Problem> {
        if !call.caller().reads {
            return Err(Problem::new(
                Kind::Forbidden,
                format!("the role {} may not read rows", call.caller().named),
            ));
        }
        let Some(tables) = tables else {
            return Ok(Self::all(call.caller()));
        };
        let wanted = parse(tables)?;
        for (database, table) in &wanted {
            match table {
                Some(table) => call.reach_table(database, table)?,
                None => call.reach(database)?,
            }
        }
        tables.clone_into(&mut call.note().object);
        Ok(Self::Some(wanted))
    }

    fn all(caller: &Caller) -> Self {
        Self::All(caller.databases.clone())
    }

    /// True for a table that is followed.
    pub fn has(&self, database: &str, table: &str) -> bool {
        match self {
            Self::All(_) => self.has_some_of(database),
            Self::Some(wanted) => wanted.iter().any(|(one, of)| {
                one.as_str() == database && of.as_ref().is_none_or(|one| one.as_str() == table)
            }),
        }
    }

    /// True for a database of which something is followed.
    pub fn has_some_of(&self, database: &str) -> bool {
        if is_system(database) {
            return false;
        }
        match self {
            Self::All(databases) => databases
                .as_ref()
                .is_none_or(|all| all.iter().any(|one| one == database)),
            Self::Some(wanted) => wanted.iter().any(|(one, _)| one.as_str() == database),
        }
    }
}

fn parse(tables: &str) -> Result<Vec<(Name, Option<Name>)>, Problem> {
    let refuse = |why: String| Problem::bad_request(format!("tables: {why}"));
    let name = |text: &str| Name::new(text).map_err(refuse);
    tables
        .split(',')
        .map(|one| match one.trim().split_once('.') {
            None => Ok((name(one.trim())?, None)),
            Some((database, "*")) => Ok((name(database)?, None)),
            Some((_, table)) if table.contains('.') => Err(refuse(format!(
                "`{one}` has more than one point; name its whole database"
            ))),
            Some((database, table)) => Ok((name(database)?, Some(name(table)?))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(tables: &str) -> Wanted {
        Wanted::Some(parse(tables).unwrap())
    }

    #[test]
    fn tables_and_whole_databases_are_named() {
        for all in ["shop", "shop.*", " shop.* , stock.x"] {
            let wanted = wanted(all);
            assert!(
                wanted.has("shop", "users") && !wanted.has("other", "users"),
                "{all}"
            );
            assert!(!wanted.has("stock", "y"), "{all}");
        }
        let one = wanted("shop.users");
        assert!(one.has("shop", "users") && !one.has("shop", "orders"));
        assert!(one.has_some_of("shop") && !one.has_some_of("stock"));
    }

    #[test]
    fn what_names_no_table_is_refused() {
        for wrong in ["", "shop,", ".x", "shop.", "a.b.c", "shop.users,,stock"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn without_names_it_is_all_that_the_token_reaches_and_nothing_of_the_system() {
        let all = Wanted::All(None);
        assert!(all.has("shop", "users") && !all.has("mysql", "user") && !all.has("ddb", "beat"));
        let limited = Wanted::All(Some(vec!["shop".to_owned()]));
        assert!(limited.has("shop", "users") && !limited.has("stock", "users"));
    }
}
