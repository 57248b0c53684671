//! Requests that are known again: key, fingerprint and reply are stored in the transaction of the change itself, so
//! that a repeated request finds either all of it or nothing, on whichever node leads by then.

use crate::{
    call::Call,
    mysql::{Cell, DUPLICATE, Transaction},
    problem::{Kind, Outcome, Problem},
    reply::{REPLAYED, Reply},
    sql::{Sql, Value},
};

/// The longest key, in bytes.
pub const LONGEST: usize = 200;
/// MySQL's number for a lock that was waited for too long.
const LOCK_WAIT: u16 = 1205;
/// Larger replies are not stored; the repeated request is told so.
const LARGEST_REPLY: usize = 1 << 20;

/// The table. It is the agent's own; roles may add, read and complete rows, nothing else.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS ddb.api_keys (\
    token VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
    name VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
    fingerprint BINARY(32) NOT NULL, status SMALLINT UNSIGNED NULL, reply LONGBLOB NULL, \
    at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
    PRIMARY KEY (token, name), KEY (at))";

/// What is known of a request's key.
pub enum Claim {
    /// Nothing was begun, or it was refused; the key is this transaction's now.
    New,
    /// The request was begun; a definition may have been changed already.
    Begun,
    /// The request was carried out.
    Done(Reply),
}

/// Takes the key for this transaction. Another request with the same key waits until this one has ended.
pub async fn claim(transaction: &mut Transaction, call: &Call, key: &str) -> Result<Claim, Problem> {
    let sql = Sql::new("INSERT INTO ddb.api_keys (token, name, fingerprint) VALUES (")
        .value(Value::Text(call.caller().id.clone()))
        .text(", ")
        .value(Value::Text(key.to_owned()))
        .text(", ")
        .value(Value::Bytes(call.fingerprint().to_vec()))
        .text(")");
    match transaction.quietly(sql).await {
        Ok(_) => Ok(Claim::New),
        Err(problem) if problem.code == Some(DUPLICATE) => known(transaction, call, key).await,
        // The first request with the key is still under way.
        Err(problem) if problem.code == Some(LOCK_WAIT) || problem.kind() == Kind::Timeout => {
            Err(problem.with_outcome(Outcome::Unknown).retryable())
        }
        Err(problem) => Err(problem),
    }
}

async fn known(transaction: &mut Transaction, call: &Call, key: &str) -> Result<Claim, Problem> {
    let sql = Sql::new("SELECT fingerprint = ")
        .value(Value::Bytes(call.fingerprint().to_vec()))
        .text(", status, CAST(reply AS CHAR CHARACTER SET utf8mb4) FROM ddb.api_keys WHERE token = ")
        .value(Value::Text(call.caller().id.clone()))
        .text(" AND name = ")
        .value(Value::Text(key.to_owned()));
    let rows = transaction.quiet_rows(sql).await?;
    let Some([same, status, reply]) = rows.cells.first().map(Vec::as_slice) else {
        return Err(Problem::new(Kind::Conflict, "the key was just forgotten; try again").retryable());
    };
    if same.as_unsigned() != Some(1) {
        return Err(Problem::new(
            Kind::KeyReused,
            "the Idempotency-Key was used for another request; take a new key for each change",
        ));
    }
    match (status.as_unsigned(), reply) {
        (Some(status), Cell::Text(body)) => Ok(Claim::Done(
            Reply {
                status: u16::try_from(status).unwrap_or(200),
                body: body.as_bytes().to_vec(),
                headers: Vec::new(),
            }
            .header(REPLAYED, "true"),
        )),
        (None, Cell::Text(_)) => {
            // As if it were not known yet: what it comes to now may remain unknown.
            let sql = Sql::new("UPDATE ddb.api_keys SET reply = IF(status IS NULL, NULL, reply)");
            complete(transaction, call, key, sql).await?;
            Ok(Claim::New)
        }
        _ => Ok(Claim::Begun),
    }
}

/// Notes that the definition was refused, so that nobody takes what stood in its way for its work.
pub async fn refuse(transaction: &mut Transaction, call: &Call, key: &str) -> Result<(), Problem> {
    let sql = Sql::new("UPDATE ddb.api_keys SET reply = IF(status IS NULL, '', reply)");
    complete(transaction, call, key, sql).await
}

/// Stores the reply with the key.
pub async fn store(
    transaction: &mut Transaction,
    call: &Call,
    key: &str,
    reply: &Reply,
) -> Result<(), Problem> {
    let body = if reply.body.len() > LARGEST_REPLY {
        br#"{"ok":true,"note":"the request was carried out; its reply was too large to be kept"}"#.to_vec()
    } else {
        reply.body.clone()
    };
    let sql = Sql::new("UPDATE ddb.api_keys SET status = ")
        .number(u64::from(reply.status))
        .text(", reply = ")
        .value(Value::Bytes(body));
    complete(transaction, call, key, sql).await
}

async fn complete(transaction: &mut Transaction, call: &Call, key: &str, set: Sql) -> Result<(), Problem> {
    let sql = set
        .text(" WHERE token = ")
        .value(Value::Text(call.caller().id.clone()))
        .text(" AND name = ")
        .value(Value::Text(key.to_owned()));
    transaction.quietly(sql).await?;
    Ok(())
}
