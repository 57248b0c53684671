//! `DELETE /v1/databases/{db}/tables/{table}/rows`

use std::sync::Arc;

use axum::extract::State;

use super::{change::Affected, filter};
use crate::{
    call::Call,
    engine::Engine,
    input::{Pairs, Path},
    mysql::Transaction,
    problem::{Kind, Problem, Problems},
    reply::Reply,
    rows,
    sql::{Name, Sql},
    table::TableFacts,
};

/// Rows that one request may reach where it says nothing.
const MOST: u64 = 1000;

/// Which rows a change may reach, and how many.
pub struct Bounds {
    /// The filter.
    pub condition: Sql,
    most: u64,
}

impl Bounds {
    /// Reads filter, `all` and `maxAffected`.
    pub fn of(facts: &TableFacts, pairs: &Pairs) -> Result<Self, Problem> {
        let all = match pairs.get("all") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Problem::bad_request("all: must be true or false")),
        };
        let condition = match filter::condition(facts, &pairs.0)? {
            Some(condition) => condition,
            None if all => Sql::new("TRUE"),
            None => {
                return Err(Problem::bad_request(
                    "without a filter this would reach every row; say which, or all=true",
                ));
            }
        };
        let most = match pairs.get("maxAffected") {
            None => MOST,
            Some(text) => text
                .parse()
                .map_err(|_| Problem::bad_request("maxAffected: must be a number"))?,
        };
        Ok(Self { condition, most })
    }

    /// Runs the change, and refuses it where it reached more rows than it may.
    pub async fn run(&self, call: &Call, transaction: &mut Transaction, sql: Sql) -> Result<Reply, Problem> {
        let done = transaction.run(sql).await?;
        if done.rows > self.most {
            return Err(Problem::new(
                Kind::TooManyRows,
                format!(
                    "it would reach {} rows, and may {}; nothing was changed. Narrow the filter, or say maxAffected={}",
                    done.rows, self.most, done.rows
                ),
            ));
        }
        call.note().rows = Some(done.rows);
        Reply::ok(&Affected { rows: done.rows })
    }
}

/// Deletes all rows that a filter reaches
///
/// An empty filter is refused unless `all=true`; more rows than `maxAffected` (1000) are left as they are.
#[utoipa::path(delete, path = "/v1/databases/{db}/tables/{table}/rows", tag = "rows",
    extensions(("x-role" = json!("writer"))),
    params(("db" = inline(Name), Path, example = "shop"), ("table" = inline(Name), Path, example = "users"),
        ("all" = Option<bool>, Query),
        ("maxAffected" = Option<u64>, Query)),
    responses((status = 200, body = Affected), Problems))]
pub async fn remove_many(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    pairs: Pairs,
) -> Result<Reply, Problem> {
    let facts = engine.changed_table(&call, &database, &table).await?;
    let bounds = Bounds::of(&facts, &pairs)?;
    let sql = rows::delete(&database, &table, &bounds.condition);
    engine
        .change(&call, async |transaction| {
            bounds.run(&call, transaction, sql).await
        })
        .await
}
