//! `PUT /v1/databases/{db}/tables/{table}/rows/{key}`

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, http::HeaderMap};
use serde_json::value::RawValue;

use super::{
    filter::bound,
    insert::Inserted,
    key::{Change, Target},
    representation::{Options, Return, given},
};
use crate::{
    call::Call,
    engine::Engine,
    input::{Json, Path, Query},
    mysql::{DUPLICATE, Done, Transaction},
    problem::{Problem, Problems},
    reply::Reply,
    rows::{self, Object},
    sql::{Name, Sql, Value},
    table::TableFacts,
};

/// Puts a row at its key: inserts it, or gives all its columns the new values
///
/// With `return=representation` the reply has the row in the list `representation`.
#[utoipa::path(put, path = "/v1/databases/{db}/tables/{table}/rows/{key}", tag = "rows",
    extensions(("x-role" = json!("writer"))),
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("key" = String, Path, example = "1"), Options),
    request_body(content = Object, example = json!({"name": "Jane", "age": 31})),
    responses((status = 200, body = Inserted), Problems))]
pub async fn put(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table, key)): Path<(Name, Name, String)>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    Json(body): Json<Box<RawValue>>,
) -> Result<Reply, Problem> {
    let target = Target::of(&engine, &call, &database, &table, &key).await?;
    let values = values(&target, &rows::object("body", &body)?)?;
    let change = Change::Put(Whole::of(&target.facts, values)?);
    if options.r#return == Return::Representation {
        return target.change_and_show(&headers, change).await;
    }
    let reply = |done: Done| {
        Reply::ok(&Inserted {
            rows: done.rows,
            id: None,
        })
    };
    target.change(&headers, change, reply).await
}

/// A column that users write, with what the row gets in it.
struct Column {
    name: Name,
    value: Sql,
    /// MySQL counts it up, and no number is given.
    counts: bool,
}

/// All columns of a row that users write.
pub struct Whole {
    columns: Vec<Column>,
    /// MySQL would take another number than the one that is given.
    is_counted_anew: bool,
}

impl Whole {
    /// Of a row with these values, by the columns' places. What is not among them gets its default: a PUT says the
    /// whole row.
    fn of(facts: &TableFacts, mut values: BTreeMap<usize, Value>) -> Result<Self, Problem> {
        let mut columns = Vec::with_capacity(facts.columns.len());
        let mut is_counted_anew = false;
        for (at, column) in facts.columns.iter().enumerate() {
            if column.is_generated() {
                continue;
            }
            let counts = column.counts_up();
            is_counted_anew |= counts && values.get(&at) == Some(&Value::Int(0));
            let value = match values.remove(&at) {
                Some(value) => Sql::default().value(value),
                None => Sql::new("DEFAULT"),
            };
            columns.push(Column {
                name: column.sql_name()?,
                counts: counts && value.is_made_by_server(),
                value,
            });
        }
        Ok(Self {
            columns,
            is_counted_anew,
        })
    }
}

impl Target<'_> {
    /// Gives the row all its values, be it there or not. No `INSERT … ON DUPLICATE KEY UPDATE`: that takes any row that
    /// has one of the values that must be unique.
    pub(super) async fn put(&self, transaction: &mut Transaction, row: &Whole) -> Result<Done, Problem> {
        // Without a lock: where there is no row, MySQL locks the gap, and two who insert into it wait for each other.
        let look = Sql::new("SELECT 1 FROM ")
            .table(self.database, self.table)
            .text(" WHERE ")
            .part(&self.condition);
        if !transaction.rows(look, 1).await?.is_empty()
            && let Some(done) = self.replace(transaction, row).await?
        {
            return Ok(done);
        }
        if row.is_counted_anew {
            return Err(Problem::bad_request(
                "there is no row 0, and MySQL counts on where it is given 0; POST makes a row with the next number",
            ));
        }
        match transaction.run(self.insert(row)).await {
            // The row came in between, or another one has a value that must be unique.
            Err(problem) if problem.code == Some(DUPLICATE) => {
                self.replace(transaction, row).await?.ok_or(problem)
            }
            inserted => inserted,
        }
    }

    /// `None` where there is no row.
    async fn replace(&self, transaction: &mut Transaction, row: &Whole) -> Result<Option<Done>, Problem> {
        // MySQL counts for new rows only; one that is there keeps its number.
        let assigned = row.columns.iter().filter(|column| !column.counts);
        let assignments = Sql::default().list(", ", assigned, |sql, column| {
            sql.name(&column.name).text(" = ").part(&column.value)
        });
        let sql = rows::update(self.database, self.table, &assignments, &self.condition);
        let done = transaction.run(sql).await?;
        // It counts twice, like a row that an insert merges.
        Ok((done.rows > 0).then_some(Done { rows: 2, ..done }))
    }

    fn insert(&self, row: &Whole) -> Sql {
        Sql::new("INSERT INTO ")
            .table(self.database, self.table)
            .text(" (")
            .list(", ", &row.columns, |sql, column| sql.name(&column.name))
            .text(") VALUES (")
            .list(", ", &row.columns, |sql, column| sql.part(&column.value))
            .text(")")
    }
}

/// What body and path say of the columns, by their places in the table.
fn values(target: &Target<'_>, body: &Object) -> Result<BTreeMap<usize, Value>, Problem> {
    let facts = &target.facts;
    let mut values: BTreeMap<usize, Value> = rows::values(facts, body)?.into_iter().collect();
    let (_, key) = target.condition.clone().into_parts();
    for (name, value) in facts.key_names().iter().zip(key) {
        if let Some(raw) = given(body, name)
            && !is_same(facts, name, raw, &value)?
        {
            return Err(Problem::bad_request(format!(
                "{}: the body and the path name different keys",
                name.as_str()
            )));
        }
        values.extend(facts.place(name.as_str()).map(|at| (at, value)));
    }
    Ok(values)
}

/// Whether a value of the body is the one that the path says, where a key may be a number there and a text here.
fn is_same(facts: &TableFacts, name: &Name, raw: &RawValue, value: &Value) -> Result<bool, Problem> {
    let text = match Value::from_json(raw) {
        Ok(Value::Text(text)) => text,
        Ok(Value::Null) | Err(_) => return Ok(false),
        Ok(_) => raw.get().to_owned(),
    };
    Ok(bound(facts, name.as_str(), &text)? == *value)
}
