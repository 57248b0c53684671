//! One client's feed: reads the log, holds back what is not certain, and tells the rest.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use failover::GtidSet;
use tokio::{sync::watch, time::sleep};

use super::{gate::Place, position, shown::shown, tell, wanted::Wanted};
use crate::{
    call::Call,
    clock,
    engine::Engine,
    metrics::Open,
    mysql::binlog::{Begin, Dump, Error, Event, Reader, Statement, Table, kind},
    problem::Kind,
    routing,
    view::View,
};

/// A part goes out at the latest when it has this many bytes.
const PART: usize = 64 << 10;
/// A sign of life after so long without one, and a position where there is a new one.
const QUIET: Duration = Duration::from_secs(10);
/// The pause before it is asked again whether a transaction is certain, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The mark of a prepared transaction that is committed with that.
const ONE_PHASE: u8 = 1;

/// Why a feed ends.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// Another master leads, or will; or the node ends.
    #[error("the node leads no more in this term, or ends")]
    Over,
    /// The token is not worth what it was.
    #[error("the token does not allow it any more")]
    Forbidden,
    #[error(transparent)]
    Log(#[from] Error),
    #[error("an event could not be written: {0}")]
    Written(#[from] std::io::Error),
    #[error("the log has a transaction without a name")]
    Nameless,
}

/// A transaction while it is read.
struct Current {
    begin: Begin,
    /// More than one event belongs to it.
    is_long: bool,
    /// Its rows are prepared, and not committed with it.
    is_two_phase: bool,
    /// Something of it was told.
    told: bool,
}

/// A transaction that is not certain yet.
struct Held {
    begin: Begin,
    pause: Duration,
}

/// The feed.
pub struct Feed {
    engine: Arc<Engine>,
    call: Call,
    views: watch::Receiver<View>,
    stop: watch::Receiver<bool>,
    term: u64,
    wanted: Wanted,
    dump: Dump,
    reader: Reader,
    /// Everything up to here was told, or was nothing to be told.
    position: GtidSet,
    /// The client does not know the position.
    is_behind: bool,
    quiet_since: Instant,
    /// When the token was looked at last.
    allowed_at: Instant,
    held: Option<Held>,
    current: Option<Current>,
    /// The tables of the transaction; `None` for those that are not wanted.
    tables: BTreeMap<u64, Option<Table>>,
    out: Vec<u8>,
    _place: Place,
    _open: Open,
}

impl Feed {
    /// From a position on; the position is what it tells first.
    pub fn new(
        engine: Arc<Engine>,
        call: Call,
        place: Place,
        term: u64,
        wanted: Wanted,
        begin: GtidSet,
        dump: Dump,
    ) -> Self {
        Self {
            views: engine.view.clone(),
            stop: engine.stop.subscribe(),
            _open: engine.metrics.feed(),
            engine,
            call,
            term,
            wanted,
            dump,
            reader: Reader::default(),
            position: begin,
            is_behind: true,
            quiet_since: clock::now(),
            allowed_at: clock::now(),
            held: None,
            current: None,
            tables: BTreeMap::new(),
            out: tell::RETRY.as_bytes().to_vec(),
            _place: place,
        }
    }

    /// What goes out next; `None` when the feed is over. Given up in the middle, nothing is lost but the feed.
    pub async fn part(&mut self) -> Option<Bytes> {
        match self.next().await {
            Ok(part) => Some(part),
            Err(End::Over) => None,
            Err(end) => {
                tracing::info!(%end, request = self.call.id(), "a change feed ends");
                None
            }
        }
    }

    async fn next(&mut self) -> Result<Bytes, End> {
        loop {
            if is_over(&self.views.borrow(), self.term) || *self.stop.borrow() {
                return Err(End::Over);
            }
            if clock::since(self.allowed_at) >= QUIET {
                self.still_allowed().await?;
            }
            if self.is_first() || clock::since(self.quiet_since) >= QUIET {
                self.sign_of_life()?;
            }
            if self.out.len() >= PART {
                return Ok(self.flush());
            }
            if self.held.is_some() {
                if self.release().await? {
                    continue;
                }
                if !self.out.is_empty() {
                    return Ok(self.flush());
                }
                self.wait().await?;
            } else if let Some(event) = self.dump.at_hand()? {
                self.take(&event).await?;
            } else if !self.out.is_empty() {
                return Ok(self.flush());
            } else {
                self.read().await?;
            }
        }
    }

    fn flush(&mut self) -> Bytes {
        self.quiet_since = clock::now();
        std::mem::take(&mut self.out).into()
    }

    /// Nothing was told yet, not even the position.
    fn is_first(&self) -> bool {
        self.out.len() == tell::RETRY.len() && self.out == tell::RETRY.as_bytes()
    }

    /// The position where there is a new one; never between the rows of a transaction and its end.
    fn sign_of_life(&mut self) -> Result<(), End> {
        self.quiet_since = clock::now();
        if self.is_behind && self.current.as_ref().is_none_or(|current| !current.told) {
            tell::position(&mut self.out, &position::id(self.term, &self.position))?;
            self.is_behind = false;
        } else {
            self.out.extend_from_slice(tell::ALIVE.as_bytes());
        }
        Ok(())
    }

    /// A feed lasts for hours, in which a token may be taken away or be given other rights.
    async fn still_allowed(&mut self) -> Result<(), End> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, self.call.authorization());
        let judged = tokio::select! {
            () = over(&mut self.views, &mut self.stop, self.term) => return Err(End::Over),
            judged = routing::caller(&self.engine, &headers) => judged,
        };
        self.allowed_at = clock::now();
        match judged {
            Ok(caller) if *caller == *self.call.caller() => Ok(()),
            // Where nobody can say, nobody has said no.
            Err(problem) if problem.kind() != Kind::Unauthorized => Ok(()),
            _ => Err(End::Forbidden),
        }
    }

    /// Reads on, no longer than until something else is to be done.
    async fn read(&mut self) -> Result<(), End> {
        let quiet = QUIET.saturating_sub(clock::since(self.quiet_since));
        tokio::select! {
            () = over(&mut self.views, &mut self.stop, self.term) => Err(End::Over),
            read = self.dump.read() => Ok(read?),
            () = sleep(quiet) => Ok(()),
        }
    }

    /// Lets the transaction pass that is held back, where it is certain by now.
    async fn release(&mut self) -> Result<bool, End> {
        let Some(held) = &self.held else { return Ok(true) };
        let feeds = &self.engine.feeds;
        let set = &held.begin.set;
        if !feeds.knows(self.term, set) {
            // What is certain goes out before it is waited for more.
            if !self.out.is_empty() {
                return Ok(false);
            }
            let asked = tokio::select! {
                () = over(&mut self.views, &mut self.stop, self.term) => return Err(End::Over),
                asked = feeds.has(&self.engine, self.term, set) => asked,
            };
            match asked {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(problem) => {
                    tracing::debug!(detail = problem.detail, "it is not known what is committed");
                    return Ok(false);
                }
            }
            // The answer may have taken long.
            if is_over(&self.views.borrow(), self.term) {
                return Err(End::Over);
            }
        }
        if let Some(held) = self.held.take() {
            self.current = Some(Current {
                begin: held.begin,
                is_long: false,
                is_two_phase: false,
                told: false,
            });
        }
        Ok(true)
    }

    /// A pause before it is asked again.
    async fn wait(&mut self) -> Result<(), End> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let pause = held.pause;
        held.pause = (pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = over(&mut self.views, &mut self.stop, self.term) => Err(End::Over),
            () = sleep(pause) => Ok(()),
        }
    }

    async fn take(&mut self, event: &Event) -> Result<(), End> {
        match event.kind() {
            kind::GTID | kind::TAGGED_GTID => {
                self.finish()?;
                self.held = Some(Held {
                    begin: self.reader.begin(event)?,
                    pause: FIRST_PAUSE,
                });
            }
            kind::QUERY => {
                let statement = self.reader.statement(event)?;
                self.statement(&statement)?;
            }
            kind::TABLE_MAP => {
                let wanted = &self.wanted;
                let read = self
                    .reader
                    .table(event, |database, table| wanted.has(database, table));
                match read {
                    Ok((number, table)) => _ = self.tables.insert(number, table),
                    Err(error) => {
                        // It would be the same each time, and nothing behind it could be told.
                        tracing::error!(%error, "a table's description in the log cannot be read");
                        self.skip("the node cannot read a table's description in the log")?;
                    }
                }
            }
            kind::XA_PREPARE if event.data().first() == Some(&ONE_PHASE) => {
                self.skip("a transaction of XA was committed in one phase, whose rows are not told")?;
                self.finish()?;
            }
            kind::XID | kind::XA_PREPARE => self.finish()?,
            _ if event.is_rows() => self.rows(event).await?,
            _ => {}
        }
        Ok(())
    }

    /// Says that something of the transaction is not told.
    fn skip(&mut self, why: &str) -> Result<(), End> {
        if let Some(current) = &mut self.current {
            current.told = true;
            tell::skipped(&mut self.out, None, why)?;
        }
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), End> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        match statement.text.as_str() {
            "BEGIN" => current.is_long = true,
            "COMMIT" | "ROLLBACK" => return self.finish(),
            text if text.starts_with("XA START") => {
                current.is_long = true;
                current.is_two_phase = true;
            }
            text if text.starts_with("XA COMMIT") => {
                current.told = true;
                let why = "a transaction of two phases (XA) was committed, whose changes are in no one place of the log";
                tell::skipped(&mut self.out, None, why)?;
                return self.finish();
            }
            text if text.starts_with("XA ")
                || text.starts_with("SAVEPOINT")
                || text.starts_with("ROLLBACK TO") => {}
            text => {
                let ends = !current.is_long && !text.ends_with("START TRANSACTION");
                current.is_long = true;
                let wanted = &self.wanted;
                let changed = statement.databases.iter();
                for database in changed.filter(|database| wanted.has_some_of(database)) {
                    tell::schema(&mut self.out, database)?;
                    current.told = true;
                }
                if ends {
                    return self.finish();
                }
            }
        }
        Ok(())
    }

    async fn rows(&mut self, event: &Event) -> Result<(), End> {
        let Some(current) = &mut self.current else {
            return Err(End::Nameless);
        };
        let table = event.table_number().and_then(|number| self.tables.get(&number));
        let Some(Some(table)) = table else { return Ok(()) };
        if current.is_two_phase {
            return Ok(());
        }
        current.told = true;
        if !table.is_named {
            let why = "the log does not name the columns: the change was written by an older version";
            tell::skipped(&mut self.out, Some(table), why)?;
            return Ok(());
        }
        match shown(&self.engine, table, event, &mut self.out).await {
            Ok(()) => Ok(()),
            Err(End::Log(error)) => {
                // It would be the same each time, and nothing behind it could be told.
                tracing::error!(%error, table = table.name, "rows of the log cannot be read");
                tell::skipped(
                    &mut self.out,
                    Some(table),
                    "the node cannot read these rows in the log",
                )?;
                Ok(())
            }
            Err(end) => Err(end),
        }
    }

    /// The end of the transaction.
    fn finish(&mut self) -> Result<(), End> {
        self.tables.clear();
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        self.position = self.position.union(&current.begin.set);
        self.is_behind = !current.told;
        if current.told {
            let id = position::id(self.term, &self.position);
            tell::commit(&mut self.out, &id, &current.begin)?;
        }
        Ok(())
    }
}

/// Another master leads, or this one leads anew: what its log has behind this moment is for others to judge. A server that
/// has not answered for a moment tells nothing, and so ends nothing; one that is fenced is so in a new term.
fn is_over(view: &View, term: u64) -> bool {
    view.term != term || (view.role.is_some() && !view.leads())
}

async fn over(views: &mut watch::Receiver<View>, stop: &mut watch::Receiver<bool>, term: u64) {
    tokio::select! {
        _ = views.wait_for(|view| is_over(view, term)) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
