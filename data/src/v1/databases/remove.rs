//! `DELETE /v1/databases/{db}`

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;

use crate::{
    call::Call,
    classic::{self, body::DatabaseReply},
    engine::Engine,
    input::{Path, Query},
    problem::{Problem, Problems},
    reply::Reply,
    sql::Name,
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Confirm {
    /// The database's name once more.
    confirm: Option<String>,
}

/// Drops a database with all that is in it
#[utoipa::path(delete, path = "/v1/databases/{db}", tag = "databases",
    extensions(("x-role" = json!("admin"))), params(("db" = inline(Name), Path, example = "shop"), Confirm),
    responses((status = 200, body = DatabaseReply), Problems))]
pub async fn remove(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path(database): Path<Name>,
    Query(query): Query<Confirm>,
) -> Result<Reply, Problem> {
    if query.confirm.as_deref() != Some(database.as_str()) {
        return Err(Problem::bad_request(format!(
            "this deletes all data of the database: add ?confirm={}",
            database.as_str()
        )));
    }
    classic::dropdb::drop(&engine, &call, &database).await
}
