//! All routes. Each is registered through the document, so that none is undocumented, and with the place where it
//! belongs, so that none is let in without a token or carried out in the wrong place.

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    classic,
    engine::Engine,
    open,
    problem::{self, Kind, Problem},
    routing::{Place, carry},
    v1,
};

/// The document's head.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "ddb data API",
        version = "1",
        description = "Databases, tables and rows of a DistributedDatabase, the same on every node. Send the token in \
            the header `Authorization: Bearer <token>`. A change that arrives at a slave is carried out on the master. \
            Every error is application/problem+json."
    ),
    components(schemas(problem::Body)),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", scheme);
        document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

/// The routes and the document made of them.
pub fn build(engine: &Arc<Engine>) -> (Router, utoipa::openapi::OpenApi) {
    let placed = |router: OpenApiRouter<Arc<Engine>>, place: Place| {
        router.route_layer(from_fn_with_state((Arc::clone(engine), place), carry))
    };
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(open::routes())
        .merge(placed(classic::here(), Place::Here))
        .merge(placed(classic::reads(), Place::Any))
        .merge(placed(classic::changes(), Place::Master))
        .merge(placed(
            OpenApiRouter::new().routes(routes!(classic::rpc::rpc)),
            Place::ByBody(classic::rpc::only_reads),
        ))
        .merge(placed(v1::here(), Place::Here))
        .merge(placed(v1::reads(), Place::Any))
        .merge(placed(v1::changes(), Place::Master))
        .merge(placed(
            OpenApiRouter::new().routes(routes!(v1::sql::run::run)),
            Place::ByBody(v1::sql::run::only_reads),
        ))
        .split_for_parts();
    let text: Arc<str> = document.to_json().unwrap_or_default().into();
    let router = router
        .route(
            "/openapi.json",
            axum::routing::get(async move || open::document(&text)),
        )
        .fallback(async || {
            Problem::new(
                Kind::NotFound,
                "there is no such path; /openapi.json names all of them",
            )
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                Kind::MethodNotAllowed,
                "the path exists and the method does not; /openapi.json names all of them",
            )
        })
        .with_state(Arc::clone(engine));
    (router, document)
}
