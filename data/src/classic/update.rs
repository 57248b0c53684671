//! `POST /update`

use std::sync::Arc;

use axum::extract::State;

use super::body::{RowsReply, UpdateBody, condition};
use crate::{
    call::Call,
    engine::Engine,
    fragment,
    input::Json,
    problem::{Problem, Problems},
    reply::Reply,
    rows,
    sql::Sql,
};

/// Changes the rows that a condition names
#[utoipa::path(post, path = "/update", tag = "classic",
    extensions(("x-role" = json!("writer"))), request_body = UpdateBody,
    responses((status = 200, body = RowsReply), Problems))]
pub async fn update(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<UpdateBody>,
) -> Result<Reply, Problem> {
    carry_out(&engine, &call, body).await
}

pub async fn carry_out(engine: &Engine, call: &Call, body: UpdateBody) -> Result<Reply, Problem> {
    let UpdateBody {
        dbname,
        table,
        set,
        data,
        r#where,
        condition: object,
    } = body;
    let facts = engine.changed_table(call, &dbname, &table).await?;
    let assignments = match (set, data) {
        (Some(set), None) => {
            Sql::default().list(", ", &fragment::assignments(&set)?, |sql, (column, value)| {
                sql.name(column).text(" = ").part(value)
            })
        }
        (None, Some(data)) => rows::assignments(&facts, &rows::object("data", &data)?)?,
        _ => return Err(Problem::bad_request("give either `set` or `data`")),
    };
    let condition = condition(&facts, r#where.as_deref(), object.as_deref())?;
    let sql = rows::update(&dbname, &table, &assignments, &condition);
    engine.change_rows(call, sql, RowsReply::of).await
}
