//! What several classic endpoints take and answer.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    fragment,
    mysql::Done,
    problem::Problem,
    reply::Reply,
    rows,
    shapes::Rows,
    sql::{Name, Sql},
    table::TableFacts,
};

/// A database by its name.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DatabaseQuery {
    /// The database.
    #[param(inline, example = "shop")]
    pub name: Name,
}

/// A table by its name.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TableQuery {
    /// The database.
    #[param(inline, example = "shop")]
    pub dbname: Name,
    /// The table.
    #[param(inline, example = "users")]
    pub table: Name,
}

/// Rows to be inserted: `values` as MySQL, or `data` as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InsertBody {
    /// The database.
    #[schema(example = "shop")]
    pub dbname: Name,
    /// The table.
    #[schema(example = "users")]
    pub table: Name,
    /// One value for each column, as in MySQL.
    #[schema(example = "NULL, \"John Doe\", \"john@example.com\", 30")]
    pub values: Option<String>,
    /// One object of columns with their values, or an array of such objects.
    #[schema(value_type = Option<Rows>)]
    pub data: Option<Box<RawValue>>,
}

/// What is to be changed, and where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateBody {
    /// The database.
    #[schema(example = "shop")]
    pub dbname: Name,
    /// The table.
    #[schema(example = "users")]
    pub table: Name,
    /// Assignments, as in MySQL.
    #[schema(example = "name = \"Jane\", age = 31")]
    pub set: Option<String>,
    /// The same as an object of columns with their new values.
    #[schema(value_type = Option<Object>, example = json!({"age": 31}))]
    pub data: Option<Box<RawValue>>,
    /// A condition, as in MySQL.
    #[schema(example = "Id = 1")]
    pub r#where: Option<String>,
    /// The same as an object of columns with the values that they must have.
    #[schema(value_type = Option<Object>, example = json!({"Id": 1}))]
    pub condition: Option<Box<RawValue>>,
}

/// Which rows are to be deleted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteBody {
    /// The database.
    #[schema(example = "shop")]
    pub dbname: Name,
    /// The table.
    #[schema(example = "users")]
    pub table: Name,
    /// A condition, as in MySQL.
    #[schema(example = "Id = 1")]
    pub r#where: Option<String>,
    /// The same as an object of columns with the values that they must have.
    #[schema(value_type = Option<Object>, example = json!({"Id": 1}))]
    pub condition: Option<Box<RawValue>>,
}

/// A database that was made or dropped.
#[derive(Debug, Serialize, ToSchema)]
pub struct DatabaseReply {
    /// Always true.
    pub ok: bool,
    /// The database.
    pub database: String,
}

impl DatabaseReply {
    /// The reply that names the database.
    pub fn of(database: &Name) -> Result<Reply, Problem> {
        Reply::ok(&Self {
            ok: true,
            database: database.as_str().to_owned(),
        })
    }
}

/// A table that was made or dropped.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableReply {
    /// Always true.
    pub ok: bool,
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
}

impl TableReply {
    /// The reply that names the table.
    pub fn of(database: &Name, table: &Name) -> Result<Reply, Problem> {
        Reply::ok(&Self {
            ok: true,
            database: database.as_str().to_owned(),
            table: table.as_str().to_owned(),
        })
    }
}

/// Rows that were changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowsReply {
    /// Always true.
    pub ok: bool,
    /// How many rows were reached.
    pub rows: u64,
}

impl RowsReply {
    /// The reply to a statement that changed rows.
    pub fn of(done: Done) -> Result<Reply, Problem> {
        Reply::ok(&Self {
            ok: true,
            rows: done.rows,
        })
    }
}

/// The condition of a request; without one, nothing is changed.
pub fn condition(
    facts: &TableFacts,
    fragment: Option<&str>,
    object: Option<&RawValue>,
) -> Result<Sql, Problem> {
    match (fragment, object) {
        (Some(text), None) => fragment::condition(text),
        (None, Some(object)) => rows::condition(facts, object),
        (Some(_), Some(_)) => Err(Problem::bad_request(
            "give either `where` or `condition`, not both",
        )),
        (None, None) => Err(Problem::bad_request(
            "give `where` or `condition`; for every row write \"where\": \"true\"",
        )),
    }
}
