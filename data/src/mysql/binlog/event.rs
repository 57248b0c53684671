//! What events say, as far as the feed needs it.

use failover::GtidSet;
use mysql_common::{
    binlog::{
        BinlogCtx,
        consts::{BinlogVersion, EventType, StatusVarKey},
        events::{FormatDescriptionEvent, GtidEvent, QueryEvent, StatusVarVal, TableMapEvent},
    },
    io::ParseBuf,
    proto::MyDeserialize,
};

use sqlparser::{
    dialect::MySqlDialect,
    keywords::Keyword,
    tokenizer::{Token, Tokenizer},
};

use super::{
    Error, Event, Table,
    wire::{HEADER, kind},
};

/// Reads events whose checksums were taken off, of servers that know only one form of them.
#[derive(Debug)]
pub struct Reader {
    format: FormatDescriptionEvent<'static>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            format: FormatDescriptionEvent::new(BinlogVersion::Version4),
        }
    }
}

/// A transaction that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Its name.
    pub name: String,
    /// The set that it is alone in.
    pub set: GtidSet,
    /// When it was committed at first, in microseconds since 1970; 0 where that is not known.
    pub micros: u64,
}

/// A statement in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its text.
    pub text: String,
    /// The databases that it changes, as far as the log names them.
    pub databases: Vec<String>,
}

impl Reader {
    fn parse<'e, T: MyDeserialize<'e, Ctx = BinlogCtx<'e>>>(&'e self, event: &'e Event) -> Result<T, Error> {
        let context = BinlogCtx::new(HEADER + event.data().len(), &self.format, event.kind());
        Ok(ParseBuf(event.data()).parse(context)?)
    }

    /// A transaction's name.
    pub fn begin(&self, event: &Event) -> Result<Begin, Error> {
        let gtid: GtidEvent = self.parse(event)?;
        let server = uuid::Uuid::from_bytes(gtid.sid());
        let tag = gtid.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let name = format!("{server}{tag}:{}", gtid.gno());
        let set = name
            .parse()
            .map_err(|_| Error::Malformed("a transaction without a usable name"))?;
        Ok(Begin {
            name,
            set,
            micros: gtid.original_commit_timestamp(),
        })
    }

    /// A statement.
    pub fn statement(&self, event: &Event) -> Result<Statement, Error> {
        let query: QueryEvent<'_> = self.parse(event)?;
        let updated = query.status_vars().get_status_var(StatusVarKey::UpdatedDbNames);
        let databases = updated.as_ref().and_then(|names| match names.get_value() {
            Ok(StatusVarVal::UpdatedDbNames(names)) => {
                Some(names.iter().map(|name| name.as_str().into_owned()).collect())
            }
            _ => None,
        });
        let text = query.query().into_owned();
        let databases = match databases {
            Some(databases) => databases,
            None => database_of(&text, &query.schema()).into_iter().collect(),
        };
        Ok(Statement { text, databases })
    }

    /// The number by which rows name a table, with its database and its name; enough to know whether it is wanted.
    pub fn table(
        &self,
        event: &Event,
        wanted: impl FnOnce(&str, &str) -> bool,
    ) -> Result<(u64, Option<Table>), Error> {
        let map: TableMapEvent<'_> = self.parse(event)?;
        let is_wanted = wanted(&map.database_name(), &map.table_name());
        let table = if is_wanted { Some(Table::read(&map)?) } else { None };
        Ok((map.table_id(), table))
    }
}

/// The log names no database beside `TRUNCATE` and `CREATE TABLE … SELECT`: they begin with their table.
fn database_of(text: &str, default: &str) -> Option<String> {
    let tokens = Tokenizer::new(&MySqlDialect {}, text).tokenize().ok()?;
    let mut tokens = tokens
        .into_iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .peekable();
    let keyword = |token: &Token, all: &[Keyword]| matches!(token, Token::Word(word) if word.quote_style.is_none() && all.contains(&word.keyword));
    if tokens
        .next_if(|token| keyword(token, &[Keyword::TRUNCATE]))
        .is_none()
    {
        tokens.next_if(|token| keyword(token, &[Keyword::CREATE]))?;
        tokens.next_if(|token| keyword(token, &[Keyword::TABLE]))?;
    }
    let between = [Keyword::TABLE, Keyword::IF, Keyword::NOT, Keyword::EXISTS];
    while tokens.next_if(|token| keyword(token, &between)).is_some() {}
    let Some(Token::Word(first)) = tokens.next() else {
        return None;
    };
    match tokens.next() {
        Some(Token::Period) => Some(first.value),
        _ => Some(default.to_owned()).filter(|name| !name.is_empty()),
    }
}

impl Event {
    /// True for rows, whatever became of them.
    pub fn is_rows(&self) -> bool {
        matches!(
            self.kind(),
            kind::WRITE_ROWS | kind::UPDATE_ROWS | kind::DELETE_ROWS | kind::PARTIAL_ROWS
        )
    }

    /// The number of the table that rows are of.
    pub fn table_number(&self) -> Option<u64> {
        let mut wide = [0; 8];
        wide[..6].copy_from_slice(self.data().get(..6)?);
        Some(u64::from_le_bytes(wide))
    }
}

// Both are numbered by MySQL.
const _: () = assert!(EventType::TRANSACTION_PAYLOAD_EVENT as u8 == kind::PAYLOAD);
const _: () = assert!(EventType::GTID_EVENT as u8 == kind::GTID);
const _: () = assert!(EventType::WRITE_ROWS_EVENT as u8 == kind::WRITE_ROWS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_names_no_database_begins_with_its_table() {
        let of = |text: &str| database_of(text, "shop");
        let is = |name: &str| Some(name.to_owned());
        assert_eq!(of("TRUNCATE feed.alt"), is("feed"));
        assert_eq!(of("/* why */ truncate table `fe``ed` . `t`"), is("fe`ed"));
        assert_eq!(of("TRUNCATE `table`"), is("shop"));
        assert_eq!(
            of("CREATE TABLE IF NOT EXISTS `a`.`b` (n INT) START TRANSACTION"),
            is("a")
        );
        assert_eq!(of("GRANT SELECT ON *.* TO x"), None);
        assert_eq!(of("CREATE USER x"), None);
        assert_eq!(database_of("TRUNCATE alt", ""), None);
        assert_eq!(of("TRUNCATE '"), None);
    }
}
