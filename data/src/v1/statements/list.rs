//! `GET /v1/statements`

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    call::Call,
    engine::Engine,
    host::Digest,
    input::Query,
    problem::{Problem, Problems},
    reply::Reply,
    sql::is_system,
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only of this database.
    database: Option<String>,
    /// How many at most.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
struct Found {
    /// The node whose statements these are; each counts what it carried out since its server began.
    node: String,
    /// The server collects them.
    collected: bool,
    /// What to do where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<&'static str>,
    /// The forms, those first that took most time together.
    statements: Vec<Digest>,
}

/// Lists the forms of statements that the asked node spends its time on
///
/// All clients' statements count, not only those of this API. Values are not shown: `?` stands for each.
#[utoipa::path(get, path = "/v1/statements", tag = "cluster", params(Filter),
    responses((status = 200, body = inline(Found)), Problems))]
pub async fn list(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Query(filter): Query<Filter>,
) -> Result<Reply, Problem> {
    let limit = engine.page(filter.limit)?;
    // What the caller does not reach is left out afterwards, so all that the server keeps is asked for.
    let found = engine.host.statements(engine.limits.most_rows).await?;
    let collected = found.is_some();
    let statements = found.unwrap_or_default().into_iter().filter(|digest| {
        let database = digest.database.as_deref();
        let reached = match database {
            Some(database) => !is_system(database) && call.caller().reaches(database),
            None => call.caller().databases.is_none(),
        };
        reached && (filter.database.is_none() || filter.database.as_deref() == database)
    });
    Reply::ok(&Found {
        node: engine.node.clone(),
        collected,
        mend: (!collected).then_some(
            "to save memory the server does not collect statements; set in spec.mysql.config: \
             performance_schema_digests_size: \"500\", performance_schema_max_statement_classes: \"250\", \
             performance_schema_instrument: \"'statement/%=ON'\"",
        ),
        statements: statements.take(limit).collect(),
    })
}
