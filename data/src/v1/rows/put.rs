//! `PUT /v1/databases/{db}/tables/{table}/rows/{key}`

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};
use serde_json::value::RawValue;

use super::{
    insert::Inserted,
    key::Target,
    representation::{Options, Return},
};
use crate::{
    call::Call,
    engine::Engine,
    input::{Json, Path, Query},
    load::merged,
    mysql::Done,
    problem::{Problem, Problems},
    reply::Reply,
    rows,
    sql::{Name, Value},
};

/// Puts a row at its key: inserts it, or gives all its columns the new values
///
/// With `return=representation` the reply has the row in the list `representation`.
#[utoipa::path(put, path = "/v1/databases/{db}/tables/{table}/rows/{key}", tag = "rows",
    extensions(("x-role" = json!("writer"))),
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("key" = String, Path, example = "1"), Options),
    request_body(content = Object, example = json!({"name": "Jane", "age": 31})),
    responses((status = 200, body = Inserted), Problems))]
pub async fn put(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table, key)): Path<(Name, Name, String)>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    Json(body): Json<Box<RawValue>>,
) -> Result<Reply, Problem> {
    let target = Target::of(&engine, &call, &database, &table, &key).await?;
    let facts = &target.facts;
    let mut row = rows::object("body", &body)?;
    let names = facts.key_names();
    let (_, values) = target.condition.clone().into_parts();
    for (name, value) in names.iter().zip(values) {
        let text = match value {
            Value::Text(text) => serde_json::to_string(&text).unwrap_or_default(),
            Value::Int(number) => number.to_string(),
            Value::Unsigned(number) => number.to_string(),
            Value::Decimal(digits) => digits,
            _ => {
                return Err(Problem::bad_request(
                    "this key cannot stand in a path; insert the row instead",
                ));
            }
        };
        let raw = RawValue::from_string(text).map_err(|error| Problem::bad_request(error.to_string()))?;
        match row.get(name) {
            Some(given) if given.get() != raw.get() => {
                return Err(Problem::bad_request(format!(
                    "{}: the body and the path name different keys",
                    name.as_str()
                )));
            }
            _ => row.insert(name.clone(), raw),
        };
    }
    // What the body does not name gets its default: a PUT says the whole row.
    let all: Vec<Name> = facts
        .columns
        .iter()
        .filter(|column| !column.is_generated())
        .filter_map(|column| column.sql_name().ok())
        .collect();
    let columns: Vec<&Name> = all.iter().collect();
    let sql = merged(
        rows::insert_columns(&database, &table, facts, &columns, &[row])?,
        all.iter(),
    );
    if options.r#return == Return::Representation {
        return target.change_and_show(&headers, sql).await;
    }
    let reply = |done: Done| {
        Reply::ok(&Inserted {
            rows: done.rows,
            id: None,
        })
    };
    target.change(&headers, sql, reply).await
}
