//! `return=representation`: the rows of a change as they are after it, read in the change's own transaction.

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    key::{self, Change, Target},
    remove_many::Bounds,
};
use crate::{
    call::Call,
    engine::Engine,
    load::{Insert, Objects},
    mysql::{Cell, Rows, Transaction},
    problem::{Kind, Problem},
    reply::Reply,
    rows::{self, Object},
    sql::{Name, Sql, Value},
    table::{ColumnFacts, TableFacts},
};

/// What a change answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Return {
    /// How many rows.
    #[default]
    Minimal,
    /// And the rows themselves.
    Representation,
}

/// The parameters of a change of one row.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Options {
    /// What is answered.
    #[serde(default)]
    #[param(inline)]
    pub r#return: Return,
}

/// The rows after the change.
#[derive(Serialize)]
struct Shown {
    /// Rows that were reached.
    rows: u64,
    /// The rows as they are now.
    representation: Vec<Box<RawValue>>,
}

/// Inserts rows one by one and shows each as it is then, with all that MySQL made.
pub async fn insert(
    engine: &Engine,
    call: &Call,
    (database, table): (&Name, &Name),
    facts: &TableFacts,
    objects: &Objects<'_>,
    insert: &Insert,
) -> Result<Reply, Problem> {
    if objects.count() > engine.limits.most_rows {
        return Err(Problem::bad_request(format!(
            "return=representation: at most {} rows at a time",
            engine.limits.most_rows
        )));
    }
    let work = async |transaction: &mut Transaction| {
        let (mut count, mut shown) = (0, Vec::with_capacity(objects.count()));
        for object in objects.unpacked() {
            let object = object?;
            let done = insert.one(transaction, rows::values(facts, &object)?).await?;
            count += done.rows;
            // A row that was there already has another key than MySQL would have made.
            let made = done.made_key().filter(|_| !insert.passes_conflicts());
            let condition = inserted(facts, &object, made)?;
            shown.push(read(transaction, database, table, &condition, 1).await?);
        }
        call.note().rows = Some(count);
        Reply::created(&flat(count, &shown)?)
    };
    engine.change(call, work).await
}

/// What names a row that was just inserted.
fn inserted(facts: &TableFacts, object: &Object, made: Option<u64>) -> Result<Sql, Problem> {
    let names = facts.key_names();
    if names.is_empty() {
        return Err(Problem::new(
            Kind::Conflict,
            "return=representation: the table has no primary key, so an inserted row cannot be found again",
        ));
    }
    let mut sql = Sql::new("(");
    for (at, name) in names.iter().enumerate() {
        let given = given(object, name).filter(|raw| raw.get() != "null");
        let counts = facts.column(name.as_str()).is_some_and(ColumnFacts::counts_up);
        let value = match (given, made) {
            // MySQL counts on where it is given 0.
            (Some(raw), made) if !(counts && made.is_some()) => rows::value(facts, name, raw)?,
            (_, Some(made)) if counts => Value::Unsigned(made),
            _ => {
                return Err(Problem::bad_request(format!(
                    "return=representation: MySQL makes {} and does not tell it; give it in the row",
                    name.as_str()
                )));
            }
        };
        sql = if at > 0 { sql.text(" AND ") } else { sql };
        sql = sql.name(name).text(" = ").value(value);
    }
    Ok(sql.text(")"))
}

/// What an object says of a column.
pub fn given<'o>(object: &'o Object, name: &Name) -> Option<&'o RawValue> {
    object
        .iter()
        .find(|(column, _)| column.as_str().eq_ignore_ascii_case(name.as_str()))
        .map(|(_, raw)| &**raw)
}

/// Refuses a change of the key: the row would be another one afterwards.
pub fn keeps_key(facts: &TableFacts, object: &Object) -> Result<(), Problem> {
    match facts
        .key_names()
        .iter()
        .find(|name| given(object, name).is_some())
    {
        None => Ok(()),
        Some(name) => Err(Problem::bad_request(format!(
            "return=representation: {} is part of the key, and a row with another key is not found again; leave \
             return out",
            name.as_str()
        ))),
    }
}

impl Target<'_> {
    /// Changes the row and shows it as it is then.
    pub async fn change_and_show(&self, headers: &HeaderMap, change: Change) -> Result<Reply, Problem> {
        let work = async |transaction: &mut Transaction| {
            let done = self.carry_out(transaction, headers, change).await?;
            self.call.note().rows = Some(done.rows);
            let row = read(transaction, self.database, self.table, &self.condition, 1).await?;
            if row.is_empty() {
                return Err(key::missing());
            }
            let tag = key::etag(&row);
            let shown = flat(done.rows, &[row])?;
            Ok(Reply::ok(&shown)?.header(axum::http::header::ETAG, &tag))
        };
        self.engine.change(self.call, work).await
    }
}

/// Changes all rows that a filter reaches and shows them as they are then.
pub async fn change_many(
    engine: &Engine,
    call: &Call,
    (database, table): (&Name, &Name),
    facts: &TableFacts,
    bounds: &Bounds,
    sql: Sql,
) -> Result<Reply, Problem> {
    let names = facts.key_names();
    if names.is_empty() {
        return Err(Problem::new(
            Kind::Conflict,
            "return=representation: the table has no primary key, so changed rows cannot be found again",
        ));
    }
    let most = engine.limits.most_rows;
    let work = async |transaction: &mut Transaction| {
        // They stay locked, so that these and no others are changed.
        let keys = Sql::new("SELECT ")
            .list(", ", &names, Sql::name)
            .text(" FROM ")
            .table(database, table)
            .text(" WHERE ")
            .part(&bounds.condition)
            .text(" FOR UPDATE");
        let keys = transaction.rows(keys, most).await?;
        if keys.more {
            return Err(Problem::bad_request(format!(
                "return=representation: at most {most} rows at a time"
            )));
        }
        bounds.run(call, transaction, sql).await?;
        let count = call.note().rows.unwrap_or_default();
        if keys.is_empty() {
            return Reply::ok(&flat(count, &[])?);
        }
        let mut condition = Sql::new("(");
        for (at, cells) in keys.cells.iter().enumerate() {
            condition = condition.text(if at > 0 { " OR (" } else { "(" });
            for (part, (name, cell)) in names.iter().zip(cells).enumerate() {
                condition = if part > 0 {
                    condition.text(" AND ")
                } else {
                    condition
                };
                condition = condition.name(name).text(" = ").value(again(facts, name, cell)?);
            }
            condition = condition.text(")");
        }
        let rows = read(transaction, database, table, &condition.text(")"), most).await?;
        Reply::ok(&flat(count, &[rows])?)
    };
    engine.change(call, work).await
}

/// A value that MySQL answered, on its way back.
fn again(facts: &TableFacts, name: &Name, cell: &Cell) -> Result<Value, Problem> {
    let raw =
        serde_json::value::to_raw_value(cell).map_err(|error| Problem::bad_request(error.to_string()))?;
    rows::value(facts, name, &raw)
}

async fn read(
    transaction: &mut Transaction,
    database: &Name,
    table: &Name,
    condition: &Sql,
    most: usize,
) -> Result<Rows, Problem> {
    let sql = Sql::new("SELECT * FROM ")
        .table(database, table)
        .text(" WHERE ")
        .part(condition);
    transaction.rows(sql, most).await
}

/// The reply's body: one list of all rows.
fn flat(rows: u64, shown: &[Rows]) -> Result<Shown, Problem> {
    let internal = |error: serde_json::Error| {
        tracing::error!(%error, "a row could not be written");
        Problem::new(Kind::Internal, "the node could not write the rows")
    };
    let mut representation = Vec::new();
    for part in shown {
        let raw = serde_json::value::to_raw_value(part).map_err(internal)?;
        let each: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).map_err(internal)?;
        representation.extend(each);
    }
    Ok(Shown { rows, representation })
}
