//! `POST /v1/databases/{db}/tables`

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    call::Call,
    classic::{body::TableReply, createtable},
    engine::Engine,
    input::{Json, Path},
    problem::{Problem, Problems},
    reply::Reply,
    shapes::Columns,
    sql::Name,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTable {
    /// Its name.
    name: Name,
    /// `[{"name":"age","type":"int"}]` or `{"age":"int"}`.
    #[schema(value_type = Option<Columns>)]
    columns: Option<Box<RawValue>>,
    /// The columns and keys as in MySQL, in place of `columns`.
    schema: Option<String>,
}

/// Makes a table
#[utoipa::path(post, path = "/v1/databases/{db}/tables", tag = "tables",
    extensions(("x-role" = json!("writer"))), params(("db" = inline(Name), Path, example = "shop")),
    request_body = NewTable, responses((status = 201, body = TableReply), Problems))]
pub async fn create(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path(database): Path<Name>,
    Json(body): Json<NewTable>,
) -> Result<Reply, Problem> {
    let NewTable {
        name,
        columns,
        schema,
    } = body;
    let schema = createtable::schema(columns.as_deref(), schema.as_deref())?;
    let made = createtable::create(&engine, &call, &database, &name, schema).await?;
    Ok(Reply {
        status: StatusCode::CREATED.as_u16(),
        ..made
    })
}
