//! `GET /v1/audit`

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    access::Role,
    audit::Record,
    call::Call,
    engine::Engine,
    input::Query,
    problem::{Problem, Problems},
    reply::Reply,
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only of this token.
    who: Option<String>,
    /// Only what touches this database, or `database.table`.
    object: Option<String>,
    /// Only with this outcome: applied, not-applied or unknown.
    outcome: Option<String>,
    /// Only this request.
    request: Option<String>,
    /// Only what was slow, or only what was not.
    slow: Option<bool>,
    /// Only from this moment on.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<jiff::Timestamp>,
    /// How many at most.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
struct Records {
    /// The node whose records these are; each node keeps what it carried out.
    node: String,
    /// The records, newest first.
    records: Vec<Record>,
}

/// What was changed, refused or slow on the node that was asked, newest first
#[utoipa::path(get, path = "/v1/audit", tag = "audit",
    extensions(("x-role" = json!("admin"))), params(Filter),
    responses((status = 200, body = inline(Records)), Problems))]
pub async fn list(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(filter): Query<Filter>,
) -> Result<Reply, Problem> {
    call.require(Role::Admin)?;
    let limit = engine.page(filter.limit)?;
    let wanted = |record: &Record| {
        filter.who.as_ref().is_none_or(|who| *who == record.who)
            && filter
                .outcome
                .as_ref()
                .is_none_or(|outcome| *outcome == record.outcome)
            && filter
                .request
                .as_ref()
                .is_none_or(|request| *request == record.request)
            && filter.slow.is_none_or(|slow| record.slow == slow)
            && filter.since.is_none_or(|since| record.time >= since)
            && filter.object.as_ref().is_none_or(|object| {
                record.object == *object || record.object.split('.').next() == Some(object.as_str())
            })
            && record
                .object
                .split('.')
                .next()
                .is_none_or(|database| database.is_empty() || call.caller().reaches(database))
    };
    let mut records = engine.audit.newest(limit, wanted).await;
    for record in &mut records {
        // A statement of one's own words may name databases besides the record's.
        let is_of_others = call.caller().databases.is_some() && record.operation.ends_with("/v1/sql");
        if record.values && (is_of_others || !call.caller().reads) {
            record.statement.clear();
        }
    }
    Reply::ok(&Records {
        node: engine.node.clone(),
        records,
    })
}
