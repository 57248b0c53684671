//! What browsers and slow lines want of every reply: preflights for the origins that the resource names, and
//! compression.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, header},
};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer,
        predicate::{NotForContentType, Predicate as _, SizeAbove},
    },
    cors::CorsLayer,
};

use crate::{
    reply::{REPLAYED, WRITE_TOKEN},
    routing::{KEY, REQUEST_ID},
};

/// Smaller replies fit into one packet anyway.
const WORTH_IT: u64 = 1024;
/// How long a browser may remember what it was allowed.
const REMEMBERED: std::time::Duration = std::time::Duration::from_mins(10);

/// With these origins' scripts let in; no origin, no header.
pub fn layered(router: Router, origins: &[String]) -> Router {
    let router = router.layer(compression());
    let origins: Vec<HeaderValue> = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    if origins.is_empty() {
        return router;
    }
    router.layer(preflights(origins))
}

fn compression() -> CompressionLayer<impl tower_http::compression::Predicate> {
    // What flows must not wait in a compressor: events, and rows that come one after the other.
    let wanted = SizeAbove::new(WORTH_IT)
        .and(NotForContentType::SSE)
        .and(NotForContentType::const_new("application/x-ndjson"))
        .and(NotForContentType::const_new("text/csv"));
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(wanted)
}

fn preflights(origins: Vec<HeaderValue>) -> CorsLayer {
    let names = |names: &[&'static str]| -> Vec<HeaderName> {
        names.iter().map(|name| HeaderName::from_static(name)).collect()
    };
    let mut asked = names(&["after", "consistency", "prefer", "last-event-id"]);
    asked.extend([
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        KEY,
        REQUEST_ID,
    ]);
    let mut answered = names(&[
        "data-age",
        "ratelimit",
        "ratelimit-policy",
        "row-count",
        "served-by",
        "served-role",
    ]);
    answered.extend([
        header::ETAG,
        header::LINK,
        header::LOCATION,
        header::RETRY_AFTER,
        REPLAYED,
        REQUEST_ID,
        WRITE_TOKEN,
    ]);
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers(asked)
        .expose_headers(answered)
        .max_age(REMEMBERED)
}
