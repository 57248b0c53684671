//! `POST /v1/import/{db}/{table}`

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap};
use serde::Deserialize;

use super::{
    Import,
    job::{Begun, Job},
};
use crate::{
    access::Role,
    call::Call,
    engine::Engine,
    format::Format,
    input::{Path, Query},
    load::{OnConflict, Reader},
    problem::{Problem, Problems},
    reply::Reply,
    sql::Name,
};

/// Refused rows where the request says nothing.
const REFUSED: u64 = 1000;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct Options {
    /// `ndjson` or `csv`; it counts for more than `Content-Type`.
    #[param(inline)]
    format: Option<Format>,
    /// What happens to a row whose key is there already.
    #[serde(default)]
    #[param(inline)]
    on_conflict: OnConflict,
    /// The import is stopped where more rows than this are refused; 1000 where it is left out.
    max_refused: Option<u64>,
    /// The field that stands for NULL in CSV, in place of `\N`; it may be empty.
    null: Option<String>,
}

/// Takes rows into a table, as many as come
///
/// The body is lines of JSON, or CSV whose first record names the columns; an export of a table is understood as it
/// is. Rows are committed as they come; what is refused is listed with its line and stops nothing. It answers when all
/// is done; until then, `/v1/import/{id}` says how far it is. An import that broke off is gone on with by the same body
/// with the import's id as `Idempotency-Key`: what is settled is passed over.
#[utoipa::path(post, path = "/v1/import/{db}/{table}", tag = "streams",
    extensions(("x-role" = json!("writer"))),
    params(("db" = inline(Name), Path, example = "shop"),
        ("table" = inline(Name), Path, example = "users"), Options),
    request_body(content((String = "application/x-ndjson"), (String = "text/csv"))),
    responses((status = 200, body = Import), Problems))]
pub async fn create(
    State(engine): State<Arc<Engine>>,
    call: Call,
    Path((database, table)): Path<(Name, Name)>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Result<Reply, Problem> {
    call.require(Role::Writer)?;
    call.reach_table(&database, &table)?;
    let format = options
        .format
        .or_else(|| Format::of_body(&headers))
        .ok_or_else(|| {
            Problem::bad_request(
                "Content-Type: the body must be application/x-ndjson or text/csv, or say ?format=csv",
            )
        })?;
    let _place = engine.place_for_a_stream()?;
    match Job::begin(&engine, &call, (&database, &table), options.on_conflict).await? {
        Begun::Job(job) => {
            let mut reader = Reader::new(job.facts(), body, format, engine.limits.body, options.null);
            let most = options.max_refused.unwrap_or(REFUSED);
            job.run(&mut reader, most).await
        }
        Begun::Done(reply) => Ok(reply),
    }
}
