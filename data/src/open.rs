//! What is answered without a token: signs of life, and the document.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{engine::Engine, view::NodeRole};

pub(crate) fn routes() -> OpenApiRouter<Arc<Engine>> {
    OpenApiRouter::new()
        .routes(routes!(ping))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(openapi))
        .routes(routes!(v1_openapi))
}

#[derive(Serialize, ToSchema)]
struct Pong {
    /// Always `ok`.
    status: &'static str,
    /// The node that answers.
    node: String,
    /// What it does; null while it does neither.
    role: Option<NodeRole>,
}

/// Which node answers, and what it does
#[utoipa::path(get, path = "/ping", tag = "open", security(()), responses((status = 200, body = Pong)))]
async fn ping(State(engine): State<Arc<Engine>>) -> Response {
    let role = engine.view.borrow().role;
    let pong = Pong {
        status: "ok",
        node: engine.node.clone(),
        role,
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(pong)).into_response()
}

/// The node lives
#[utoipa::path(get, path = "/healthz", tag = "open", security(()), responses((status = 200, body = String)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// The node serves its role
#[utoipa::path(
    get, path = "/readyz", tag = "open", security(()),
    responses((status = 200, body = String), (status = 503, body = String))
)]
async fn readyz(State(engine): State<Arc<Engine>>) -> (StatusCode, &'static str) {
    if engine.view.borrow().serving {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// What every path takes and answers, as an `OpenAPI` document
#[utoipa::path(get, path = "/openapi.json", tag = "open", security(()), responses((status = 200, body = Object)))]
async fn openapi(State(engine): State<Arc<Engine>>) -> Response {
    document(&engine)
}

/// The same document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "open", security(()), responses((status = 200, body = Object)))]
async fn v1_openapi(State(engine): State<Arc<Engine>>) -> Response {
    document(&engine)
}

fn document(engine: &Engine) -> Response {
    let text = engine.document.get().cloned().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
