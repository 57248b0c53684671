//! `GET` and `POST /createtable`

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::TableReply;
use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    fragment::{self, Schema},
    input::{Json, Query},
    problem::{Problem, Problems},
    reply::Reply,
    shapes::Columns,
    sql::{Name, Sql},
};

/// A table with its columns as in MySQL.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TableDefinition {
    /// The database.
    #[param(inline, example = "shop")]
    dbname: Name,
    /// The table.
    #[param(inline, example = "users")]
    table: Name,
    /// The columns, as between the parentheses of CREATE TABLE. Where they name no primary key, an auto-increment
    /// `Id` is put in front.
    #[param(example = "name VARCHAR(100), email VARCHAR(100), age INT")]
    schema: String,
}

/// A table with its columns as JSON, or as in MySQL.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TableBody {
    /// The database.
    dbname: Name,
    /// The table.
    table: Name,
    /// `[{"name":"age","type":"int"}]` or `{"age":"int"}`. Plain types are string, int, float, bool, date, datetime
    /// and json; MySQL's are taken too.
    #[schema(value_type = Option<Columns>)]
    columns: Option<Box<RawValue>>,
    /// The columns as in MySQL, in place of `columns`.
    schema: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    name: Name,
    #[serde(rename = "type")]
    kind: String,
}

/// Makes a table
#[utoipa::path(get, path = "/createtable", tag = "classic",
    extensions(("x-role" = json!("writer"))), params(TableDefinition),
    responses((status = 200, body = TableReply), Problems))]
pub async fn by_query(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(query): Query<TableDefinition>,
) -> Result<Reply, Problem> {
    let TableDefinition {
        dbname,
        table,
        schema,
    } = query;
    create(&engine, &call, &dbname, &table, fragment::schema(&schema)?).await
}

/// Makes a table
#[utoipa::path(post, path = "/createtable", tag = "classic",
    extensions(("x-role" = json!("writer"))), request_body = TableBody,
    responses((status = 200, body = TableReply), Problems))]
pub async fn by_body(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Json(body): Json<TableBody>,
) -> Result<Reply, Problem> {
    let TableBody {
        dbname,
        table,
        columns,
        schema,
    } = body;
    let schema = self::schema(columns.as_deref(), schema.as_deref())?;
    create(&engine, &call, &dbname, &table, schema).await
}

/// The columns and keys of a new table, however they are given.
pub fn schema(columns: Option<&RawValue>, schema: Option<&str>) -> Result<Schema, Problem> {
    match (columns, schema) {
        (Some(columns), None) => self::columns(columns),
        (None, Some(schema)) => fragment::schema(schema),
        _ => Err(Problem::bad_request("give either `columns` or `schema`")),
    }
}

/// Columns as an array or as an object.
pub fn columns(raw: &RawValue) -> Result<Schema, Problem> {
    let wrong = |error: serde_json::Error| Problem::bad_request(format!("columns: {error}"));
    if raw.get().trim_start().starts_with('[') {
        let all: Vec<Column> = serde_json::from_str(raw.get()).map_err(wrong)?;
        return fragment::columns(all.iter().map(|column| (&column.name, column.kind.as_str())));
    }
    let all: Ordered = serde_json::from_str(raw.get()).map_err(wrong)?;
    fragment::columns(all.0.iter().map(|(name, kind)| (name, kind.as_str())))
}

/// The members of an object in the order in which they were written.
struct Ordered(Vec<(Name, String)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Ordered;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object of names with types")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut all = Vec::new();
                let mut seen = BTreeMap::new();
                while let Some((name, kind)) = map.next_entry::<Name, String>()? {
                    if seen.insert(name.clone(), ()).is_some() {
                        return Err(serde::de::Error::custom(format!(
                            "{} stands twice",
                            name.as_str()
                        )));
                    }
                    all.push((name, kind));
                }
                Ok(Ordered(all))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

pub async fn create(
    engine: &Engine,
    call: &Call,
    database: &Name,
    table: &Name,
    schema: Schema,
) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    call.reach_table(database, table)?;
    let reply = TableReply::of(database, table)?;
    let sql = Sql::new("CREATE TABLE ")
        .table(database, table)
        .text(" ")
        .part(&schema.into_sql());
    engine
        .define(call, sql, |problem| problem.code == Some(1050), reply)
        .await
}
