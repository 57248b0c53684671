//! The work of an import: rows are collected, inserted, and settled, a chunk at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    Import, LISTED, Refused, State,
    record::{self, Known, Record, Seen},
};
use crate::{
    call::Call,
    clock,
    engine::Engine,
    load::{Cells, Chunk, Insert, OnConflict, Reader},
    mysql::Transaction,
    problem::{Kind, Outcome, Problem},
    reply::Reply,
    sql::Name,
    table::TableFacts,
};

/// How long a chunk is tried whose transaction other transactions, or slaves that do not answer, are in the way of.
pub const SETTLE: Duration = Duration::from_mins(1);
/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Rows of a chunk at most: as many statements may be needed to find out which of them are refused.
const ROWS: usize = 1000;
/// A chunk takes no further row from this time on.
const TIME: Duration = Duration::from_secs(2);

/// An import that is carried out.
pub struct Job {
    engine: Arc<Engine>,
    call: Call,
    facts: Arc<TableFacts>,
    insert: Insert,
    record: Record,
}

/// Rows that are settled together.
#[derive(Default)]
struct Part {
    chunk: Chunk,
    /// Of each row of the chunk.
    lines: Vec<u64>,
    refused: Vec<Refused>,
    read: usize,
    line: u64,
    prefix: String,
    is_last: bool,
}

/// What to do with the request.
pub enum Begun {
    /// Carry it out.
    Job(Box<Job>),
    /// It was carried out already.
    Done(Reply),
}

impl Job {
    /// Begins an import, or goes on with the one that the request's key names.
    pub async fn begin(
        engine: &Arc<Engine>,
        call: &Call,
        (database, table): (&Name, &Name),
        conflict: OnConflict,
    ) -> Result<Begun, Problem> {
        let facts = engine.table(call, database, table).await?;
        let insert = Insert::new(database, table, &facts, conflict)?;
        let now = clock::timestamp();
        let run = uuid::Uuid::new_v4().to_string();
        let import = Import {
            id: call
                .key()
                .map_or_else(|| format!("{}{run}", record::UNNAMED), str::to_owned),
            database: database.as_str().to_owned(),
            table: table.as_str().to_owned(),
            state: State::Running,
            reason: None,
            line: 0,
            read: 0,
            rows: 0,
            refused: 0,
            list: Vec::new(),
            node: engine.node.clone(),
            term: engine.view.borrow().term,
            begun: now,
            changed: now,
        };
        let new = Record {
            import,
            run,
            prefix: String::new(),
        };
        let mut transaction = Transaction::begin(&engine.pools, call.caller().account, true).await?;
        match record::claim(&mut transaction, call, (database, table), new).await {
            Ok(Known::Open(record)) => {
                transaction.commit().await?;
                Ok(Begun::Job(Box::new(Self {
                    engine: Arc::clone(engine),
                    call: call.clone(),
                    facts,
                    insert,
                    record: *record,
                })))
            }
            Ok(Known::Done(reply)) => {
                transaction.rollback().await;
                Ok(Begun::Done(reply))
            }
            Err(problem) => {
                transaction.rollback().await;
                Err(problem)
            }
        }
    }

    /// The table's definition.
    pub fn facts(&self) -> Arc<TableFacts> {
        Arc::clone(&self.facts)
    }

    /// Takes all rows and answers; an error says how far it came.
    pub async fn run(mut self, reader: &mut Reader, most_refused: u64) -> Result<Reply, Problem> {
        let before = self.record.import.rows;
        let taken = self.take(reader, most_refused).await;
        self.call.note().rows = Some(self.record.import.rows - before);
        let ended = match taken {
            Ok(()) => self.complete().await,
            Err(problem) => Err(problem),
        };
        match ended {
            Ok(reply) => Ok(reply),
            Err(problem) => Err(self.stop(problem).await),
        }
    }

    async fn take(&mut self, reader: &mut Reader, most_refused: u64) -> Result<(), Problem> {
        self.pass_over(reader).await?;
        loop {
            let part = self.collect(reader).await?;
            if part.read > 0 {
                self.settle(&part).await?;
            }
            if self.record.import.refused > most_refused {
                return Err(Problem::new(
                    Kind::BadValue,
                    format!("more than {most_refused} rows are refused (maxRefused)"),
                ));
            }
            if part.is_last {
                return Ok(());
            }
        }
    }

    /// Reads what was settled earlier; it must be the same.
    async fn pass_over(&self, reader: &mut Reader) -> Result<(), Problem> {
        let other = || {
            Problem::new(
                Kind::KeyReused,
                "this is another body than that of the import: what is settled of it is not what this one begins with",
            )
        };
        while reader.rows() < self.record.import.read {
            if reader.next().await?.is_none() {
                return Err(other());
            }
        }
        if self.record.import.read > 0 && hex(reader) != self.record.prefix {
            return Err(other());
        }
        Ok(())
    }

    /// The rows of one chunk.
    async fn collect(&self, reader: &mut Reader) -> Result<Part, Problem> {
        let mut part = Part::default();
        let mut begun = None;
        while let Some(row) = reader.next().await? {
            let since: Instant = *begun.get_or_insert_with(clock::now);
            part.read += 1;
            part.line = row.line;
            match row.cells {
                Ok(cells) => {
                    part.lines.push(row.line);
                    part.chunk.push(cells, row.size);
                }
                Err(reason) => part.refused.push(Refused::new(row.line, &reason)),
            }
            if part.read >= ROWS || part.chunk.is_full(self.facts.columns.len()) || clock::since(since) > TIME
            {
                part.prefix = hex(reader);
                return Ok(part);
            }
        }
        part.is_last = true;
        part.prefix = hex(reader);
        Ok(part)
    }

    /// Inserts the rows of a chunk and stores that it was done, in one transaction.
    async fn settle(&mut self, part: &Part) -> Result<(), Problem> {
        let until = clock::now() + SETTLE;
        let read = self.record.import.read + part.read as u64;
        loop {
            let mut record = self.record.clone();
            let problem = match self.attempt(part, &mut record).await {
                Ok(()) => {
                    self.record = record;
                    return Ok(());
                }
                Err(problem) => problem,
            };
            match self.after(problem, until).await? {
                Seen::Open(seen) if seen.import.read == read => {
                    self.record = *seen;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Finds out what became of a transaction, where this node still leads and the cause may pass. Its row of the
    /// import stays locked until it has ended one way or the other.
    async fn after(&self, problem: Problem, until: Instant) -> Result<Seen, Problem> {
        let may_pass =
            |problem: &Problem| problem.retryable || problem.is_again() || problem.kind() == Kind::Timeout;
        let leads = || self.engine.view.borrow().leads();
        if !may_pass(&problem) {
            return Err(problem);
        }
        loop {
            if clock::left(until).is_zero() || !leads() {
                return Err(problem);
            }
            sleep(PAUSE).await;
            match record::look(&self.engine, &self.call, &self.record).await {
                Ok(seen) => return Ok(seen),
                Err(other) if may_pass(&other) => {}
                Err(other) => return Err(other),
            }
        }
    }

    async fn attempt(&self, part: &Part, record: &mut Record) -> Result<(), Problem> {
        let account = self.call.caller().account;
        let mut transaction = Transaction::begin(&self.engine.pools, account, true).await?;
        let done = self.fill(&mut transaction, part, record).await;
        self.call.note().statement = transaction.statements();
        if let Err(problem) = done {
            transaction.rollback().await;
            return Err(problem);
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn fill(
        &self,
        transaction: &mut Transaction,
        part: &Part,
        record: &mut Record,
    ) -> Result<(), Problem> {
        let mut refused = self.insert(transaction, part).await?;
        let import = &mut record.import;
        import.rows += (part.lines.len() - refused.len()) as u64;
        refused.extend_from_slice(&part.refused);
        refused.sort_by_key(|one| one.line);
        import.refused += refused.len() as u64;
        import.list.extend(refused);
        import.list.truncate(LISTED);
        import.line = part.line;
        import.read += part.read as u64;
        import.term = self.engine.view.borrow().term;
        import.changed = clock::timestamp();
        record.prefix.clone_from(&part.prefix);
        record::store(transaction, &self.call, record, self.record.import.read).await
    }

    /// Inserts as many rows at a time as MySQL takes; says which ones it refuses.
    async fn insert(&self, transaction: &mut Transaction, part: &Part) -> Result<Vec<Refused>, Problem> {
        let rows = part.chunk.rows();
        let mut refused = Vec::new();
        let mut left: Vec<&[Cells]> = rows
            .chunk_by(|one, other| self.insert.goes_with(one, other))
            .rev()
            .collect();
        let mut at = 0;
        while let Some(some) = left.pop() {
            match self.insert.run(transaction, some, false).await {
                Ok(_) => at += some.len(),
                Err(problem) if !is_of_a_row(&problem) => return Err(problem),
                Err(problem) if some.len() == 1 => {
                    refused.push(Refused::new(part.lines[at], &problem.detail));
                    at += 1;
                }
                // A refused statement changes nothing, so its halves can be tried.
                Err(_) => {
                    let (one, other) = some.split_at(some.len() / 2);
                    left.extend([other, one]);
                }
            }
        }
        Ok(refused)
    }

    async fn complete(&mut self) -> Result<Reply, Problem> {
        let import = &mut self.record.import;
        import.state = State::Complete;
        import.changed = clock::timestamp();
        let reply = Reply::ok(import)?;
        let until = clock::now() + SETTLE;
        loop {
            match self.close(&reply).await {
                Ok(set) => return Ok(self.engine.with_token(reply, set.as_deref())),
                Err(problem) => {
                    if let Seen::Done = self.after(problem, until).await? {
                        return Ok(reply);
                    }
                }
            }
        }
    }

    /// Stores that it is complete; names a state that contains it, where it can.
    async fn close(&self, reply: &Reply) -> Result<Option<String>, Problem> {
        let account = self.call.caller().account;
        let mut transaction = Transaction::begin(&self.engine.pools, account, true).await?;
        if let Err(problem) = record::complete(&mut transaction, &self.call, &self.record, reply).await {
            transaction.rollback().await;
            return Err(problem);
        }
        Ok(transaction.commit().await?.set)
    }

    /// Stores why it ended, where that is possible, and says how far it came, as far as this request knows.
    async fn stop(self, mut problem: Problem) -> Problem {
        if let Ok(mut transaction) =
            Transaction::begin(&self.engine.pools, self.call.caller().account, true).await
            && record::stop(&mut transaction, &self.call, &self.record, &problem.detail)
                .await
                .is_ok()
        {
            // Where it is not stored, the import is found to be interrupted.
            let _ = transaction.commit().await;
        }
        let Import {
            id,
            line,
            read,
            rows,
            refused,
            ..
        } = &self.record.import;
        problem.detail = format!(
            "{}. Up to line {line}, {rows} rows were taken and {refused} refused. /v1/import/{id} says how far the \
             import came; to go on behind that, send the same body with `Idempotency-Key: {id}`",
            problem.detail
        );
        if *read > 0 {
            problem.outcome = Outcome::Unknown;
            problem.retryable &= self.call.key().is_some();
        }
        problem
    }
}

/// MySQL refuses a value, and not the table, the account or the moment.
fn is_of_a_row(problem: &Problem) -> bool {
    problem.code.is_some()
        && !problem.retryable
        && matches!(problem.kind(), Kind::BadValue | Kind::Conflict | Kind::BadRequest)
}

fn hex(reader: &Reader) -> String {
    reader
        .hash()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
