//! One row by its key, and what it is known again by.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

use super::{filter::bound, put::Whole};
use crate::{
    call::Call,
    engine::Engine,
    mysql::{Done, Rows, Transaction},
    problem::{Kind, Problem},
    reply::Reply,
    sql::{Name, Sql, Value},
    table::TableFacts,
};

/// The condition that names one row. The parts of a composite key stand in order, with commas between them, each as the
/// column's values are shown.
pub fn condition(facts: &TableFacts, key: &str) -> Result<Sql, Problem> {
    let names = facts.key_names();
    if names.is_empty() {
        return Err(Problem::new(
            Kind::Conflict,
            "the table has no primary key, so its rows have no address; use a filter",
        ));
    }
    let parts: Vec<&str> = if names.len() == 1 {
        vec![key]
    } else {
        key.split(',').collect()
    };
    if parts.len() != names.len() {
        return Err(Problem::bad_request(format!(
            "the key has {} parts ({}), with commas between them",
            names.len(),
            facts.key.join(",")
        )));
    }
    let values: Vec<Value> = names
        .iter()
        .zip(parts)
        .map(|(name, part)| bound(facts, name.as_str(), part))
        .collect::<Result<_, _>>()?;
    Ok(
        Sql::default().list(" AND ", names.iter().zip(values), |sql, (name, value)| {
            sql.name(name).text(" = ").value(value)
        }),
    )
}

/// What is done with one row.
pub enum Change {
    /// One statement.
    Statement(Sql),
    /// The row gets all these values, be it there or not.
    Put(Whole),
}

/// One row that is to be changed.
pub struct Target<'a> {
    pub(super) engine: &'a Engine,
    pub(super) call: &'a Call,
    pub(super) database: &'a Name,
    pub(super) table: &'a Name,
    /// Its table.
    pub facts: Arc<TableFacts>,
    /// What names it.
    pub condition: Sql,
}

impl<'a> Target<'a> {
    /// The row that the path names, for a caller who may change it.
    pub async fn of(
        engine: &'a Engine,
        call: &'a Call,
        database: &'a Name,
        table: &'a Name,
        key: &str,
    ) -> Result<Self, Problem> {
        let facts = engine.changed_table(call, database, table).await?;
        let condition = condition(&facts, key)?;
        Ok(Self {
            engine,
            call,
            database,
            table,
            facts,
            condition,
        })
    }

    /// Changes the row where it is still the one that `If-Match` names.
    pub async fn change(
        &self,
        headers: &HeaderMap,
        change: Change,
        reply: impl FnOnce(Done) -> Result<Reply, Problem> + Send,
    ) -> Result<Reply, Problem> {
        let work = async |transaction: &mut Transaction| self.carry_out(transaction, headers, change).await;
        self.engine.change_by(self.call, work, reply).await
    }

    /// [`Target::change`] in a transaction.
    pub(super) async fn carry_out(
        &self,
        transaction: &mut Transaction,
        headers: &HeaderMap,
        change: Change,
    ) -> Result<Done, Problem> {
        check(transaction, headers, self.database, self.table, &self.condition).await?;
        match change {
            Change::Statement(sql) => transaction.run(sql).await,
            Change::Put(row) => self.put(transaction, &row).await,
        }
    }
}

/// There is no row of that key.
pub fn missing() -> Problem {
    Problem::not_found("there is no row with this key")
}

/// What a row is known again by: another value is another row content.
pub fn etag(rows: &Rows) -> String {
    let text = serde_json::to_vec(rows).unwrap_or_default();
    let hash = Sha256::digest(&text);
    let half = u128::from_be_bytes(*hash.first_chunk().unwrap_or(&[0; 16]));
    format!("\"{half:032x}\"")
}

/// Refuses where the row is not the one that `If-Match` names. The row stays locked until the transaction ends.
async fn check(
    transaction: &mut Transaction,
    headers: &HeaderMap,
    database: &Name,
    table: &Name,
    condition: &Sql,
) -> Result<(), Problem> {
    let Some(wanted) = headers.get(header::IF_MATCH) else {
        return Ok(());
    };
    let sql = Sql::new("SELECT * FROM ")
        .table(database, table)
        .text(" WHERE ")
        .part(condition)
        .text(" FOR UPDATE");
    let rows = transaction.rows(sql, 1).await?;
    let wanted = wanted.to_str().unwrap_or_default();
    let there = !rows.is_empty();
    let same = wanted == "*" || wanted.split(',').any(|one| one.trim() == etag(&rows));
    if there && same {
        return Ok(());
    }
    Err(Problem::new(
        Kind::PreconditionFailed,
        "the row was changed since it was read; read it again",
    ))
}
