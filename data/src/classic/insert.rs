//! `POST /insert`

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::InsertBody;
use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    fragment,
    input::Json,
    load::{Insert, Objects, OnConflict},
    mysql::{Done, Transaction},
    problem::{Problem, Problems},
    reply::Reply,
    sql::Sql,
};

/// What was inserted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClassicInserted)]
pub struct Inserted {
    ok: bool,
    /// How many rows.
    rows: u64,
    /// The key that MySQL made for the first row; null where it made none.
    id: Option<u64>,
}

/// Inserts rows
#[utoipa::path(post, path = "/insert", tag = "classic",
    extensions(("x-role" = json!("writer"))), request_body = InsertBody,
    responses((status = 200, body = Inserted), Problems))]
pub async fn insert(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<InsertBody>,
) -> Result<Reply, Problem> {
    carry_out(&engine, &call, body).await
}

pub async fn carry_out(engine: &Engine, call: &Call, body: InsertBody) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    let InsertBody {
        dbname,
        table,
        values,
        data,
    } = body;
    call.reach_table(&dbname, &table)?;
    match (values, data) {
        (Some(values), None) => {
            let sql = Sql::new("INSERT INTO ")
                .table(&dbname, &table)
                .text(" VALUES (")
                .list(", ", &fragment::values(&values)?, Sql::part)
                .text(")");
            engine.change_rows(call, sql, answer).await
        }
        (None, Some(data)) => {
            let facts = engine.table(call, &dbname, &table).await?;
            let insert = Insert::new(&dbname, &table, &facts, OnConflict::Error)?;
            let objects = Objects::read("data", &data, &facts)?;
            let work = async |transaction: &mut Transaction| insert.each(transaction, &objects).await;
            engine.change_by(call, work, answer).await
        }
        _ => Err(Problem::bad_request("give either `values` or `data`")),
    }
}

fn answer(done: Done) -> Result<Reply, Problem> {
    Reply::ok(&Inserted {
        ok: true,
        rows: done.rows,
        id: done.made_key(),
    })
}
