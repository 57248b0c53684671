//! `/replicate/*`: MySQL itself replicates. Each call is an acknowledged barrier: it answers when this slave has
//! applied all that the master had committed when the call came, and looks whether the described object is then as
//! described. It never writes.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::{DatabaseQuery, DeleteBody, InsertBody, UpdateBody, condition};
use crate::{
    call::Call,
    engine::Engine,
    fragment,
    input::{Json, Query},
    load::Objects,
    problem::{Kind, Problem, Problems},
    reply::Reply,
    rows,
    sql::{Name, Sql},
    table::TableFacts,
};

/// How long a call waits for the slave.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReplicatedTable {
    /// The database.
    #[param(inline, example = "shop")]
    dbname: Name,
    /// The table.
    #[param(inline, example = "users")]
    table: Name,
    /// Its columns, as in MySQL; each must be there.
    schema: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Replicated {
    ok: bool,
    /// This node.
    node: String,
    /// What it has applied at least.
    set: String,
}

/// Answers when this slave has the database
#[utoipa::path(get, path = "/replicate/db", tag = "classic", params(DatabaseQuery),
    responses((status = 200, body = Replicated), Problems))]
pub async fn db(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<DatabaseQuery>,
) -> Result<Reply, Problem> {
    database(&engine, &call, &query.name, true).await
}

/// Answers when this slave has dropped the database
#[utoipa::path(get, path = "/replicate/dropdb", tag = "classic", params(DatabaseQuery),
    responses((status = 200, body = Replicated), Problems))]
pub async fn dropdb(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<DatabaseQuery>,
) -> Result<Reply, Problem> {
    database(&engine, &call, &query.name, false).await
}

/// Answers when this slave has the table
#[utoipa::path(get, path = "/replicate/table", tag = "classic", params(ReplicatedTable),
    responses((status = 200, body = Replicated), Problems))]
pub async fn table(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<ReplicatedTable>,
) -> Result<Reply, Problem> {
    let ReplicatedTable {
        dbname,
        table,
        schema,
    } = query;
    let wanted = schema.as_deref().map(fragment::schema).transpose()?;
    call.reach_table(&dbname, &table)?;
    let reply = barrier(&engine, &call).await?;
    engine.tables.forget();
    let facts = engine.table(&call, &dbname, &table).await.map_err(missing)?;
    for column in wanted.iter().flat_map(fragment::Schema::columns) {
        there(facts.column(column.as_str()).is_some(), true, column.as_str())?;
    }
    Ok(reply)
}

/// Answers when this slave has the row
#[utoipa::path(post, path = "/replicate/insert", tag = "classic", request_body = InsertBody,
    responses((status = 200, body = Replicated), Problems))]
pub async fn insert(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<InsertBody>,
) -> Result<Reply, Problem> {
    let InsertBody {
        dbname,
        table,
        values,
        data,
    } = body;
    let (reply, facts) = rows_of(&engine, &call, &dbname, &table).await?;
    let here = async |condition: &Sql| {
        let found = any(&engine, &call, &dbname, &table, condition).await?;
        there(found, true, "the row")
    };
    match (values, data) {
        (Some(values), None) => {
            // NULL and DEFAULT are made by MySQL, so they say nothing of the row.
            let columns = facts.columns.iter().filter_map(|column| column.sql_name().ok());
            let pairs = columns
                .zip(fragment::values(&values)?)
                .filter(|(_, value)| !value.is_made_by_server());
            let condition = Sql::new("TRUE").list("", pairs, |sql, (column, value)| {
                sql.text(" AND ").name(&column).text(" = ").part(&value)
            });
            here(&condition).await?;
        }
        (None, Some(data)) => {
            let objects = Objects::read("data", &data, &facts)?;
            objects.columns()?;
            for object in objects.unpacked() {
                here(&rows::equal(&facts, &object?)?).await?;
            }
        }
        _ => return Err(Problem::bad_request("give either `values` or `data`")),
    }
    Ok(reply)
}

/// Answers when this slave has the change
#[utoipa::path(post, path = "/replicate/update", tag = "classic", request_body = UpdateBody,
    responses((status = 200, body = Replicated), Problems))]
pub async fn update(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<UpdateBody>,
) -> Result<Reply, Problem> {
    let UpdateBody {
        dbname,
        table,
        set,
        data,
        r#where,
        condition: object,
    } = body;
    let (reply, facts) = rows_of(&engine, &call, &dbname, &table).await?;
    let mut wanted = condition(&facts, r#where.as_deref(), object.as_deref())?;
    if let Some(set) = &set {
        // Only what the new value says by itself can be looked for: `age = age + 1` cannot.
        for (column, value) in fragment::assignments(set)? {
            if value.is_one_value() {
                wanted = wanted.text(" AND ").name(&column).text(" <=> ").part(&value);
            }
        }
    }
    if let Some(data) = &data {
        wanted = wanted
            .text(" AND ")
            .part(&rows::equal(&facts, &rows::object("data", data)?)?);
    }
    there(
        any(&engine, &call, &dbname, &table, &wanted).await?,
        true,
        "the changed row",
    )?;
    Ok(reply)
}

/// Answers when this slave has deleted the rows
#[utoipa::path(post, path = "/replicate/delete", tag = "classic", request_body = DeleteBody,
    responses((status = 200, body = Replicated), Problems))]
pub async fn delete(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<DeleteBody>,
) -> Result<Reply, Problem> {
    let DeleteBody {
        dbname,
        table,
        r#where,
        condition: object,
    } = body;
    let (reply, facts) = rows_of(&engine, &call, &dbname, &table).await?;
    let wanted = self::condition(&facts, r#where.as_deref(), object.as_deref() as Option<&RawValue>)?;
    there(
        any(&engine, &call, &dbname, &table, &wanted).await?,
        false,
        "such a row",
    )?;
    Ok(reply)
}

/// Answers when the database is there, or is not.
async fn database(engine: &Engine, call: &Call, name: &Name, wanted: bool) -> Result<Reply, Problem> {
    call.reach(name)?;
    let reply = barrier(engine, call).await?;
    let all = super::databases::list(engine, call).await?;
    there(all.iter().any(|one| one == name.as_str()), wanted, "the database")?;
    Ok(reply)
}

/// What to answer of rows of this table, and what the table is, once this slave has all.
async fn rows_of(
    engine: &Engine,
    call: &Call,
    database: &Name,
    table: &Name,
) -> Result<(Reply, Arc<TableFacts>), Problem> {
    call.reach_table(database, table)?;
    let reply = barrier(engine, call).await?;
    let facts = engine.table(call, database, table).await.map_err(missing)?;
    Ok((reply, facts))
}

/// Waits until this slave has all that the master had when the call came.
async fn barrier(engine: &Engine, call: &Call) -> Result<Reply, Problem> {
    engine.require_slave()?;
    let master = engine.masters_position(call).await?;
    if !engine.catch_up(call, &master.set, PATIENCE).await? {
        return Err(Problem::new(
            Kind::Timeout,
            "this slave has not applied yet what the master had when the call came; try again",
        )
        .retryable());
    }
    Reply::ok(&Replicated {
        ok: true,
        node: engine.node.clone(),
        set: master.set.to_string(),
    })
}

fn there(is: bool, wanted: bool, what: &str) -> Result<(), Problem> {
    if is == wanted {
        return Ok(());
    }
    let how = if wanted { "is not" } else { "is still" };
    Err(Problem::new(
        Kind::Conflict,
        format!("this slave has all that the master had, and {what} {how} there"),
    ))
}

fn missing(problem: Problem) -> Problem {
    match problem.kind() {
        Kind::NotFound => Problem::new(
            Kind::Conflict,
            format!("this slave has all that the master had, and {}", problem.detail),
        ),
        _ => problem,
    }
}

async fn any(
    engine: &Engine,
    call: &Call,
    database: &Name,
    table: &Name,
    condition: &Sql,
) -> Result<bool, Problem> {
    let sql = Sql::new("SELECT 1 FROM ")
        .table(database, table)
        .text(" WHERE ")
        .part(condition)
        .text(" LIMIT 1");
    Ok(!engine.rows(call, sql, 1).await?.is_empty())
}
