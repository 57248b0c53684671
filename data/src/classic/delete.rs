//! `POST /delete`

use std::sync::Arc;

use axum::extract::State;

use super::body::{DeleteBody, RowsReply, condition};
use crate::{
    call::Call,
    engine::Engine,
    input::Json,
    problem::{Problem, Problems},
    reply::Reply,
    rows,
};

/// Deletes the rows that a condition names
#[utoipa::path(post, path = "/delete", tag = "classic",
    extensions(("x-role" = json!("writer"))), request_body = DeleteBody,
    responses((status = 200, body = RowsReply), Problems))]
pub async fn delete(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<DeleteBody>,
) -> Result<Reply, Problem> {
    carry_out(&engine, &call, body).await
}

pub async fn carry_out(engine: &Engine, call: &Call, body: DeleteBody) -> Result<Reply, Problem> {
    let DeleteBody {
        dbname,
        table,
        r#where,
        condition: object,
    } = body;
    let facts = engine.changed_table(call, &dbname, &table).await?;
    let condition = condition(&facts, r#where.as_deref(), object.as_deref())?;
    let sql = rows::delete(&dbname, &table, &condition);
    engine.change_rows(call, sql, RowsReply::of).await
}
