//! All routes. Each is registered through the document, so that none is undocumented, and with the place where it
//! belongs, so that none is let in without a token or carried out in the wrong place.

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware::from_fn_with_state};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    classic, document,
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
        let components = document.components.get_or_insert_default();
        document::define(components);
        document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

/// The routes and the document made of them.
pub fn build(engine: &Arc<Engine>) -> (Router, utoipa::openapi::OpenApi) {
    let placed = |mut router: OpenApiRouter<Arc<Engine>>, place: Place| {
        document::complete(router.get_openapi_mut(), place);
        router.route_layer(from_fn_with_state((Arc::clone(engine), place), carry))
    };
    let mut between_nodes = v1::between_nodes();
    document::complete_between_nodes(between_nodes.get_openapi_mut());
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(open::routes())
        .merge(between_nodes)
        .merge(placed(classic::here(), Place::Here))
        .merge(placed(classic::reads(), Place::Any))
        .merge(placed(classic::changes(), Place::Master))
        .merge(placed(
            OpenApiRouter::new().routes(routes!(classic::rpc::rpc)),
            Place::ByBody(classic::rpc::only_reads),
        ))
        .merge(placed(v1::here(), Place::Here))
        .merge(placed(v1::watched(), Place::Watch))
        .merge(placed(v1::steered(), Place::Steer))
        .merge(placed(v1::reads(), Place::Any))
        .merge(placed(v1::followed(), Place::Follow))
        .merge(placed(v1::changes(), Place::Master))
        .merge(placed(v1::imports(), Place::Import))
        .merge(placed(
            OpenApiRouter::new().routes(routes!(v1::sql::run::run)),
            Place::ByBody(v1::sql::run::only_reads),
        ))
        .split_for_parts();
    name_operations(&mut document);
    engine
        .document
        .get_or_init(|| document.to_pretty_json().unwrap_or_default());
    let router = router
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
        // The node's own limit has been applied when the body was read.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(engine));
    (router, document)
}

/// Names each operation by its method and path: functions of different modules share their names.
fn name_operations(document: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let words: Vec<&str> = path
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        let words = words.join("_");
        for (method, operation) in [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ] {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}_{words}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::{Limits, Metrics, Recorded, Settings, host::tests::NoHost, view::View};

    fn document() -> String {
        let nowhere = std::env::temp_dir().join("ddb-no-such-directory");
        let settings = Settings {
            node: "db-0".to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            tls: nowhere.clone(),
            users_tls: nowhere.clone(),
            tokens: nowhere.clone(),
            accounts: nowhere.clone(),
            roles: crate::access::Roles::default(),
            mysql_socket: nowhere.clone(),
            audit: nowhere,
            recorded: Recorded::default(),
            limits: Limits::default(),
            origins: Vec::new(),
        };
        let (_, view) = tokio::sync::watch::channel(View::default());
        let engine = crate::engine(settings, view, Arc::new(NoHost), Metrics::default());
        let (_router, _document) = build(&engine);
        engine.document.get().cloned().unwrap_or_default()
    }

    #[tokio::test]
    async fn the_document_is_as_it_was_when_it_was_last_read_by_a_person() {
        insta::assert_snapshot!(document());
    }

    #[tokio::test]
    async fn every_operation_has_a_name_of_its_own_a_summary_and_says_what_it_answers() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} is there twice");
                assert!(operation["summary"].is_string(), "{method} {path}");
                let responses = operation["responses"].as_object().unwrap();
                let good = responses.keys().any(|status| status.starts_with('2'));
                assert!(good, "{method} {path}: {responses:?}");
                let open = operation["tags"][0] == "open";
                assert!(open || responses.contains_key("503"), "{method} {path}");
                let vague = responses.keys().any(|status| status.ends_with("XX"));
                assert!(
                    !vague,
                    "{method} {path}: its place has not said which statuses these are"
                );
            }
        }
        assert!(names.len() > 40, "{names:?}");
    }
}
