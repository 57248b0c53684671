//! How many requests, of which kind, with what outcome, and how long they took. The agent shows them with its own.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// What a request is counted under. Routes are templates, so their number is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    method: &'static str,
    route: String,
    role: Arc<str>,
    status: u16,
}

/// What its time is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    route: String,
    role: Arc<str>,
}

/// The counters of one node; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Kind, Counter>,
    seconds: Family<Timed, Histogram, fn() -> Histogram>,
    forwarded: Counter,
    under_way: Gauge,
    feeds: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            forwarded: Counter::default(),
            under_way: Gauge::default(),
            feeds: Gauge::default(),
        }
    }
}

fn buckets() -> Histogram {
    Histogram::new([
        0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

/// Counts something as there for as long as it lives.
#[derive(Debug)]
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Shows them in a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "api_requests",
            "Requests to the data API by route, role of the token and status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "How long requests to the data API took, waiting for a master included",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "api_forwarded",
            "Requests to the data API that this node had the master carry out",
            self.forwarded.clone(),
        );
        registry.register(
            "api_requests_under_way",
            "Requests to the data API that are not answered yet",
            self.under_way.clone(),
        );
        registry.register(
            "api_change_feeds",
            "Change feeds that read this node's binary log",
            self.feeds.clone(),
        );
    }

    /// A request has begun.
    pub fn begin(&self) -> Open {
        self.under_way.inc();
        Open(self.under_way.clone())
    }

    /// A change feed has begun.
    pub fn feed(&self) -> Open {
        self.feeds.inc();
        Open(self.feeds.clone())
    }

    /// It is carried out by another node.
    pub fn forward(&self) {
        self.forwarded.inc();
    }

    /// It was answered.
    pub fn end(&self, method: &axum::http::Method, route: &str, role: Arc<str>, status: u16, took: Duration) {
        let route = route.to_owned();
        let timed = Timed {
            route: route.clone(),
            role: Arc::clone(&role),
        };
        self.seconds.get_or_create(&timed).observe(took.as_secs_f64());
        let kind = Kind {
            method: name(method),
            route,
            role,
            status,
        };
        self.requests.get_or_create(&kind).inc();
    }
}

/// Only methods that a route may have; others never get this far.
fn name(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_role_and_status() {
        let metrics = Metrics::default();
        let (get, took) = (axum::http::Method::GET, Duration::from_millis(3));
        let under_way = metrics.begin();
        drop(metrics.feed());
        let feed = metrics.feed();
        metrics.end(&get, "/select", "reader".into(), 200, took);
        metrics.end(&get, "/select", "reader".into(), 200, took);
        metrics.end(&get, "/select", "none".into(), 401, took);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"api_requests_total{method="GET",route="/select",role="reader",status="200"} 2"#,
            r#"api_requests_total{method="GET",route="/select",role="none",status="401"} 1"#,
            r#"api_request_duration_seconds_bucket{le="0.005",route="/select",role="reader"} 2"#,
            "api_requests_under_way 1",
            "api_change_feeds 1",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        drop((under_way, feed));
    }
}
