//! `POST /v1/transactions`

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    input::Json,
    load::{Insert, Objects, OnConflict},
    mysql::{Done, Transaction},
    problem::{Kind, Problem, Problems},
    reply::Reply,
    rows,
    shapes::Rows,
    sql::Name,
    table::TableFacts,
};

/// Steps of one transaction at most.
const MOST: usize = 1000;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Do {
    /// Inserts `data`.
    Insert,
    /// Changes the rows of `condition` to `data`.
    Update,
    /// Deletes the rows of `condition`.
    Delete,
}

/// What must be so after a step, or nothing is changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// So many rows were reached.
    affected: u64,
}

/// One change. In `data` and `condition`, `{"$from":"name.id"}` stands for the key that the step `name` made, and
/// `{"$from":"name.rows"}` for the rows that it reached.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TransactionStep)]
pub struct Step {
    /// What it does.
    r#do: Do,
    /// The table.
    #[schema(example = "users")]
    table: Name,
    /// Columns with values.
    #[schema(value_type = Option<Rows>)]
    data: Option<Box<RawValue>>,
    /// Columns with the values that they must have.
    #[schema(value_type = Option<Object>, example = json!({"Id": 1}))]
    condition: Option<Box<RawValue>>,
    /// A name for later steps to refer to.
    r#as: Option<String>,
    /// What must be so afterwards.
    expect: Option<Expect>,
}

/// Several changes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionBody {
    /// The database.
    #[schema(example = "shop")]
    database: Name,
    /// The changes, in order.
    #[schema(min_items = 1, max_items = 1000)]
    steps: Vec<Step>,
}

#[derive(Serialize, ToSchema)]
struct Came {
    /// Rows that were reached.
    rows: u64,
    /// The key that MySQL made.
    id: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct Ran {
    /// What each step did, in order.
    steps: Vec<Came>,
}

/// Carries out several changes, all or nothing
#[utoipa::path(post, path = "/v1/transactions", tag = "transactions",
    extensions(("x-role" = json!("writer"))), request_body = TransactionBody,
    responses((status = 200, body = inline(Ran)), Problems))]
pub async fn run(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<TransactionBody>,
) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    let TransactionBody { database, steps } = body;
    call.reach(&database)?;
    if steps.is_empty() || steps.len() > MOST {
        return Err(Problem::bad_request(format!("steps: from 1 to {MOST}")));
    }
    let mut tables: BTreeMap<Name, Arc<TableFacts>> = BTreeMap::new();
    for step in &steps {
        if !tables.contains_key(&step.table) {
            tables.insert(
                step.table.clone(),
                engine.table(&call, &database, &step.table).await?,
            );
        }
    }
    call.reach(&database)?;
    engine
        .change(&call, async |transaction| {
            let mut known: BTreeMap<String, Done> = BTreeMap::new();
            let mut results = Vec::with_capacity(steps.len());
            for (at, step) in steps.iter().enumerate() {
                let named = |mut problem: Problem| {
                    problem.detail = format!("step {at}: {}", problem.detail);
                    problem
                };
                let facts = &tables[&step.table];
                let done = carry_out(transaction, &database, step, facts, &known);
                let done = done.await.map_err(named)?;
                if let Some(Expect { affected }) = &step.expect
                    && done.rows != *affected
                {
                    return Err(Problem::new(
                        Kind::Conflict,
                        format!(
                            "step {at} reached {} rows instead of {affected}; nothing was changed",
                            done.rows
                        ),
                    ));
                }
                if let Some(name) = &step.r#as {
                    known.insert(name.clone(), done);
                }
                results.push(Came {
                    rows: done.rows,
                    id: done.made_key(),
                });
            }
            call.note().rows = Some(results.iter().map(|result| result.rows).sum());
            Reply::ok(&Ran { steps: results })
        })
        .await
}

async fn carry_out(
    transaction: &mut Transaction,
    database: &Name,
    step: &Step,
    facts: &TableFacts,
    known: &BTreeMap<String, Done>,
) -> Result<Done, Problem> {
    let Step {
        r#do,
        table,
        data,
        condition,
        ..
    } = step;
    let resolve = |object: &mut rows::Object| resolve(object, known);
    let data = || match data {
        Some(data) => Objects::changed("data", data, facts, &resolve),
        None => Err(Problem::bad_request("data: must be given")),
    };
    let condition = || match condition {
        Some(condition) => {
            let mut object = rows::object("condition", condition)?;
            resolve(&mut object)?;
            if object.is_empty() {
                return Err(Problem::bad_request(
                    "condition: there must be one column at least",
                ));
            }
            rows::equal(facts, &object)
        }
        None => Err(Problem::bad_request("condition: must be given")),
    };
    let sql = match r#do {
        Do::Insert => {
            let insert = Insert::new(database, table, facts, OnConflict::Error)?;
            return insert.each(transaction, &data()?).await;
        }
        Do::Update => {
            let objects = data()?;
            let one = objects.unpacked().next().filter(|_| objects.count() == 1);
            let mut one = one.ok_or_else(|| Problem::bad_request("data: must be one object"))??;
            resolve(&mut one)?;
            let assignments = rows::assignments(facts, &one)?;
            rows::update(database, table, &assignments, &condition()?)
        }
        Do::Delete => rows::delete(database, table, &condition()?),
    };
    transaction.run(sql).await
}

/// Puts in the place of references what they stand for.
fn resolve(object: &mut rows::Object, known: &BTreeMap<String, Done>) -> Result<(), Problem> {
    for value in object.values_mut() {
        if let Some(number) = reference(value, known)? {
            *value = RawValue::from_string(number.to_string())
                .map_err(|error| Problem::bad_request(error.to_string()))?;
        }
    }
    Ok(())
}

/// `{"$from":"name.id"}`: what it stands for.
fn reference(raw: &RawValue, known: &BTreeMap<String, Done>) -> Result<Option<u64>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct From {
        #[serde(rename = "$from")]
        from: String,
    }
    if !raw.get().starts_with('{') {
        return Ok(None);
    }
    let Ok(From { from }) = serde_json::from_str(raw.get()) else {
        return Ok(None);
    };
    let found = from
        .rsplit_once('.')
        .and_then(|(name, what)| Some((known.get(name)?, what)))
        .and_then(|(done, what)| match what {
            "id" => Some(done.key),
            "rows" => Some(done.rows),
            _ => None,
        });
    found.map(Some).ok_or_else(|| {
        Problem::bad_request(format!(
            "$from: `{from}` is not known; it is name.id or name.rows of an earlier step"
        ))
    })
}
