//! `PATCH /v1/databases/{db}/tables/{table}/rows`

use std::sync::Arc;

use axum::extract::State;
use serde_json::value::RawValue;

use super::{change::Affected, remove_many::Bounds, representation};
use crate::{
    call::Call,
    engine::Engine,
    input::{Json, Pairs, Path},
    problem::{Problem, Problems},
    reply::Reply,
    rows,
    sql::Name,
};

/// Changes columns of all rows that a filter reaches
///
/// An empty filter is refused unless `all=true`; more rows than `maxAffected` (1000) are left as they are.
/// With `return=representation` the reply has the rows in the list `representation`.
#[utoipa::path(patch, path = "/v1/databases/{db}/tables/{table}/rows", tag = "rows",
    extensions(("x-role" = json!("writer"))),
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("all" = Option<bool>, Query),
        ("maxAffected" = Option<u64>, Query), ("return" = inline(Option<representation::Return>), Query)),
    request_body(content = Object, example = json!({"name": "Jane", "age": 31})),
    responses((status = 200, body = Affected), Problems))]
pub async fn change_many(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    pairs: Pairs,
    Json(body): Json<Box<RawValue>>,
) -> Result<Reply, Problem> {
    let facts = engine.changed_table(&call, &database, &table).await?;
    let bounds = Bounds::of(&facts, &pairs)?;
    let object = rows::object("body", &body)?;
    let assignments = rows::assignments(&facts, &object)?;
    let sql = rows::update(&database, &table, &assignments, &bounds.condition);
    match pairs.get("return") {
        None | Some("minimal") => {}
        Some("representation") => {
            representation::keeps_key(&facts, &object)?;
            let place = (&database, &table);
            return representation::change_many(&engine, &call, place, &facts, &bounds, sql).await;
        }
        Some(other) => {
            return Err(Problem::bad_request(format!(
                "return: `{other}` is not known; it is minimal or representation"
            )));
        }
    }
    engine
        .change(&call, async |transaction| {
            bounds.run(&call, transaction, sql).await
        })
        .await
}
