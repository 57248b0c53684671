//! What is stored of an import: it lives in the table of keys, as the reply of a request that is not complete.

use serde::{Deserialize, Serialize};

use super::{Import, State, job::SETTLE};
use crate::{
    call::{Call, fingerprint},
    engine::Engine,
    load::PATIENCE,
    mysql::{Cell, DUPLICATE, Transaction},
    problem::{Kind, Problem},
    reply::{REPLAYED, Reply},
    sql::{Name, Sql, Value},
};

/// Imports of one list.
const LIST: usize = 100;
/// What the ids of imports without a key begin with.
pub const UNNAMED: &str = "import-";

/// An import and what is nobody else's business.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// What may be told.
    pub import: Import,
    /// The request that goes on with it; one that takes it over has another.
    pub run: String,
    /// The hash of the body up to the last settled row, in hexadecimal.
    pub prefix: String,
}

/// What is known of an import when its request comes.
pub enum Known {
    /// It is begun, or goes on.
    Open(Box<Record>),
    /// It was completed earlier.
    Done(Reply),
}

/// What is stored of an import while it is carried out.
pub enum Seen {
    /// How far it is.
    Open(Box<Record>),
    /// It is complete.
    Done,
}

/// The table is part of what makes it the same import; how many rows may be refused is not.
fn mark(database: &Name, table: &Name) -> Value {
    let path = format!("/v1/import/{database}/{table}");
    Value::Bytes(fingerprint("POST", &path, &[]).to_vec())
}

fn of(call: &Call, id: &str, sql: Sql) -> Sql {
    sql.text(" WHERE token = ")
        .value(Value::Text(call.caller().id.clone()))
        .text(" AND name = ")
        .value(Value::Text(id.to_owned()))
}

fn json(record: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_vec(record).map(Value::Bytes).map_err(|error| {
        tracing::error!(%error, "an import could not be written");
        Problem::new(Kind::Internal, "the node could not write down the import")
    })
}

/// Stores a new import, or finds the one that its id names and takes it over.
pub async fn claim(
    transaction: &mut Transaction,
    call: &Call,
    (database, table): (&Name, &Name),
    new: Record,
) -> Result<Known, Problem> {
    let id = new.import.id.clone();
    let sql = Sql::new("INSERT INTO ddb.api_keys (token, name, fingerprint, reply) VALUES (")
        .value(Value::Text(call.caller().id.clone()))
        .text(", ")
        .value(Value::Text(id.clone()))
        .text(", ")
        .value(mark(database, table))
        .text(", ")
        .value(json(&new)?)
        .text(")");
    match transaction.quietly(sql).await {
        Ok(_) => return Ok(Known::Open(Box::new(new))),
        Err(problem) if problem.code == Some(DUPLICATE) => {}
        Err(problem) => return Err(problem),
    }
    let sql = Sql::new("SELECT fingerprint = ")
        .value(mark(database, table))
        .text(", status, CAST(reply AS CHAR CHARACTER SET utf8mb4) FROM ddb.api_keys");
    let rows = transaction
        .quiet_rows(of(call, &id, sql).text(" FOR UPDATE"))
        .await?;
    let Some([same, status, Cell::Text(reply)]) = rows.cells.first().map(Vec::as_slice) else {
        return Err(Problem::new(
            Kind::Conflict,
            "the key belongs to a request that is not an import",
        )
        .retryable());
    };
    if same.as_unsigned() != Some(1) {
        return Err(Problem::new(
            Kind::KeyReused,
            "the Idempotency-Key was used for another request; take a new key for each import",
        ));
    }
    if status.as_unsigned().is_some() {
        let reply = Reply {
            status: 200,
            body: reply.as_bytes().to_vec(),
            headers: Vec::new(),
        };
        return Ok(Known::Done(reply.header(REPLAYED, "true")));
    }
    let old: Record = serde_json::from_str(reply).map_err(|_| {
        Problem::new(
            Kind::Conflict,
            "the import was begun by another version; begin a new one",
        )
    })?;
    let import = Import {
        state: State::Running,
        reason: None,
        node: new.import.node,
        term: new.import.term,
        changed: new.import.changed,
        ..old.import
    };
    let record = Record {
        import,
        run: new.run,
        prefix: old.prefix,
    };
    // The row was locked when it was read, so that the position is the last one.
    let sql = Sql::new("UPDATE ddb.api_keys SET at = NOW(), reply = ").value(json(&record)?);
    transaction.quietly(of(call, &id, sql)).await?;
    Ok(Known::Open(Box::new(record)))
}

/// What is stored of an import by now, once no transaction changes it any more.
pub async fn look(engine: &Engine, call: &Call, own: &Record) -> Result<Seen, Problem> {
    let mut transaction = Transaction::begin(&engine.pools, call.caller().account, true).await?;
    let sql = Sql::new("SELECT status, CAST(reply AS CHAR CHARACTER SET utf8mb4) FROM ddb.api_keys");
    let rows = transaction
        .quiet_rows(of(call, &own.import.id, sql).text(" FOR UPDATE"))
        .await;
    transaction.rollback().await;
    let rows = rows?;
    let Some([status, reply]) = rows.cells.first().map(Vec::as_slice) else {
        return Err(taken_over());
    };
    if status.as_unsigned().is_some() {
        return Ok(Seen::Done);
    }
    serde_json::from_str::<Record>(reply.as_text())
        .ok()
        .filter(|record| record.run == own.run)
        .map(|record| Seen::Open(Box::new(record)))
        .ok_or_else(taken_over)
}

fn taken_over() -> Problem {
    Problem::new(
        Kind::Conflict,
        "another request goes on with this import; nothing more is taken from this one",
    )
}

/// Stores how far it is, in the transaction of what was done; `read` rows were settled before.
pub async fn store(
    transaction: &mut Transaction,
    call: &Call,
    record: &Record,
    read: u64,
) -> Result<(), Problem> {
    let sql = Sql::new("UPDATE ddb.api_keys SET at = NOW(), reply = ").value(json(record)?);
    let sql = own(call, record, sql);
    update(transaction, settled(sql, read)).await
}

/// Stores why it ended, and nothing else. A transaction whose end was not waited for may take it further until this
/// very moment: with an older position over its own, its rows would be inserted once more.
pub async fn stop(
    transaction: &mut Transaction,
    call: &Call,
    record: &Record,
    reason: &str,
) -> Result<(), Problem> {
    let sql = Sql::new(
        "UPDATE ddb.api_keys SET at = NOW(), reply = JSON_SET(CAST(reply AS CHAR CHARACTER SET utf8mb4), \
         '$.import.state', 'stopped', '$.import.reason', ",
    )
    .value(Value::Text(reason.to_owned()))
    .text(")");
    update(transaction, own(call, record, sql)).await
}

/// Stores that it is complete, as far as the record says.
pub async fn complete(
    transaction: &mut Transaction,
    call: &Call,
    record: &Record,
    reply: &Reply,
) -> Result<(), Problem> {
    let sql = Sql::new("UPDATE ddb.api_keys SET at = NOW(), status = 200, reply = ")
        .value(Value::Bytes(reply.body.clone()));
    let sql = own(call, record, sql);
    update(transaction, settled(sql, record.import.read)).await
}

/// Where this request still goes on with it.
fn own(call: &Call, record: &Record, sql: Sql) -> Sql {
    of(call, &record.import.id, sql)
        .text(" AND status IS NULL AND JSON_VALUE(CAST(reply AS CHAR CHARACTER SET utf8mb4), '$.run') = ")
        .value(Value::Text(record.run.clone()))
}

/// Where so many rows are settled, so that nothing takes it back to where it was.
fn settled(sql: Sql, read: u64) -> Sql {
    sql.text(
        " AND JSON_VALUE(CAST(reply AS CHAR CHARACTER SET utf8mb4), '$.import.read' RETURNING UNSIGNED) = ",
    )
    .value(Value::Unsigned(read))
}

async fn update(transaction: &mut Transaction, sql: Sql) -> Result<(), Problem> {
    if transaction.quietly(sql).await?.rows == 1 {
        return Ok(());
    }
    Err(taken_over())
}

/// An import of the caller, as of now.
pub async fn find(engine: &Engine, call: &Call, id: &str) -> Result<Import, Problem> {
    let sql = of(call, id, known());
    let found = imports(engine, call, sql, 1).await?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| Problem::not_found("there is no import of this id and token; they are kept for a day"))
}

/// The caller's imports that no key names.
pub async fn list(engine: &Engine, call: &Call) -> Result<Vec<Import>, Problem> {
    let sql = known()
        .text(" WHERE token = ")
        .value(Value::Text(call.caller().id.clone()))
        .text(" AND name LIKE ")
        .value(Value::Text(format!("{UNNAMED}%")))
        .text(" ORDER BY at DESC LIMIT ")
        .number(LIST as u64);
    imports(engine, call, sql, LIST).await
}

fn known() -> Sql {
    Sql::new(
        "SELECT status, CAST(reply AS CHAR CHARACTER SET utf8mb4), CAST(TIMESTAMPDIFF(SECOND, at, NOW()) AS SIGNED) \
         FROM ddb.api_keys",
    )
}

async fn imports(engine: &Engine, call: &Call, sql: Sql, limit: usize) -> Result<Vec<Import>, Problem> {
    let rows = engine.rows(call, sql, limit).await?;
    let term = engine.view.borrow().term;
    // Every chunk comes and is stored within this time, however often it is tried.
    let patience = PATIENCE + SETTLE + 3 * engine.limits.statement;
    let imports = rows.cells.iter().filter_map(|row| {
        let [status, reply, age] = row.as_slice() else {
            return None;
        };
        if status.as_unsigned().is_some() {
            return serde_json::from_str(reply.as_text()).ok();
        }
        let Record { mut import, .. } = serde_json::from_str(reply.as_text()).ok()?;
        let is_old = age.as_unsigned().is_some_and(|age| age > patience.as_secs());
        if import.state == State::Running && (import.term < term || is_old) {
            import.state = State::Interrupted;
        }
        Some(import)
    });
    Ok(imports.collect())
}
