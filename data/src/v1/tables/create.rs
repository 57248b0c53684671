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
    fragment::{self, Schema},
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
    name: Option<Name>,
    /// `[{"name":"age","type":"int"}]` or `{"age":"int"}`.
    #[schema(value_type = Option<Columns>)]
    columns: Option<Box<RawValue>>,
    /// The columns and keys as in MySQL, in place of `columns`.
    schema: Option<String>,
    /// A whole `CREATE TABLE`, in place of all others, as `SHOW CREATE TABLE` and dumps have it. It is made as it is
    /// written, without a primary key of ours.
    statement: Option<String>,
}

impl NewTable {
    /// The table's name, and what is in it.
    fn read(self, database: &Name) -> Result<(Name, Schema), Problem> {
        let Self {
            name,
            columns,
            schema,
            statement,
        } = self;
        let Some(statement) = statement else {
            let name =
                name.ok_or_else(|| Problem::bad_request("give the table's `name`, or a `statement`"))?;
            return Ok((name, createtable::schema(columns.as_deref(), schema.as_deref())?));
        };
        let made = fragment::definition(&statement)?;
        if columns.is_some() || schema.is_some() || name.is_some_and(|name| name != made.table) {
            return Err(Problem::bad_request(
                "`statement` says it all; leave out the others",
            ));
        }
        if made.database.is_some_and(|named| named != *database) {
            return Err(Problem::bad_request(format!(
                "the statement names another database than the path, which is `{}`",
                database.as_str()
            )));
        }
        Ok((made.table, made.schema))
    }
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
    let (name, schema) = body.read(&database)?;
    let made = createtable::create(&engine, &call, &database, &name, schema).await?;
    Ok(Reply {
        status: StatusCode::CREATED.as_u16(),
        ..made
    })
}
