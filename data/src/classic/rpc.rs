//! `POST /rpc`: the same by the operation's name.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    body::{DatabaseReply, DeleteBody, InsertBody, UpdateBody},
    createdb, createtable, delete, dropdb, insert, search, update,
};
use crate::{
    call::Call,
    engine::Engine,
    input::Json,
    problem::{Problem, Problems},
    reply::Reply,
    sql::Name,
};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    /// Makes a database.
    CreateDb,
    /// Makes a table; `data` holds its columns.
    CreateTable,
    /// Inserts `data`.
    Insert,
    /// Changes the rows of `condition` to `data`.
    Update,
    /// Deletes the rows of `condition`.
    Delete,
    /// Finds the rows of `condition`.
    Search,
    /// Drops a database.
    DropDb,
}

/// An operation by its name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcBody {
    /// What to do.
    operation: Operation,
    /// The database.
    #[schema(example = "shop")]
    database: Name,
    /// The table.
    #[schema(example = "users")]
    table: Option<Name>,
    /// Columns with values; with types for `CREATE_TABLE`.
    #[schema(value_type = Option<serde_json::Value>, example = json!({"age": 31}))]
    data: Option<Box<RawValue>>,
    /// Columns with the values that they must have.
    #[schema(value_type = Option<Object>, example = json!({"Id": 1}))]
    condition: Option<Box<RawValue>>,
}

/// True for a body that changes nothing.
pub fn only_reads(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Only {
        operation: Operation,
    }
    serde_json::from_slice::<Only>(body).is_ok_and(|only| only.operation == Operation::Search)
}

/// Carries out an operation
///
/// `SEARCH` is for every role, `DROP_DB` for `admin` only; the others need `writer`.
#[utoipa::path(post, path = "/rpc", tag = "classic", request_body = RpcBody,
    responses((status = 200, body = Object, description = "As the endpoint of that operation answers"), Problems))]
pub async fn rpc(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<RpcBody>,
) -> Result<Reply, Problem> {
    let RpcBody {
        operation,
        database,
        table,
        data,
        condition,
    } = body;
    let needed = || Problem::bad_request("table: must be given");
    match operation {
        Operation::CreateDb => {
            let reply = DatabaseReply::of(&database)?;
            createdb::create(&engine, &call, &database, reply).await
        }
        Operation::DropDb => dropdb::drop(&engine, &call, &database).await,
        Operation::CreateTable => {
            let data =
                data.ok_or_else(|| Problem::bad_request("data: must hold the columns with their types"))?;
            let schema = createtable::columns(&data)?;
            createtable::create(&engine, &call, &database, &table.ok_or_else(needed)?, schema).await
        }
        Operation::Insert => {
            let body = InsertBody {
                dbname: database,
                table: table.ok_or_else(needed)?,
                values: None,
                data,
            };
            insert::carry_out(&engine, &call, body).await
        }
        Operation::Update => {
            let body = UpdateBody {
                dbname: database,
                table: table.ok_or_else(needed)?,
                set: None,
                data,
                r#where: None,
                condition,
            };
            update::carry_out(&engine, &call, body).await
        }
        Operation::Delete => {
            let body = DeleteBody {
                dbname: database,
                table: table.ok_or_else(needed)?,
                r#where: None,
                condition,
            };
            delete::carry_out(&engine, &call, body).await
        }
        Operation::Search => {
            let query = search::SearchQuery {
                dbname: Some(database),
                table: Some(table.ok_or_else(needed)?),
                column: None,
                value: None,
                condition: condition.map(|raw| raw.get().to_owned()),
                limit: None,
            };
            search::carry_out(&engine, &call, query).await
        }
    }
}
