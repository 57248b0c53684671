//! A reply that is not an error.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::problem::Problem;

/// Term and set of a state that contains the change.
pub const WRITE_TOKEN: HeaderName = HeaderName::from_static("write-token");
/// The reply is the stored one of an earlier request with the same key.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Status and JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body, a JSON document.
    pub body: Vec<u8>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::with(StatusCode::OK, body)
    }

    /// 201 with a body.
    pub fn created(body: &impl Serialize) -> Result<Self, Problem> {
        Self::with(StatusCode::CREATED, body)
    }

    /// A status with a body.
    pub fn with(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| {
            tracing::error!(%error, "a reply could not be written");
            Problem::new(
                crate::problem::Kind::Internal,
                "the node could not write the reply",
            )
        })?;
        Ok(Self {
            status: status.as_u16(),
            body,
            headers: Vec::new(),
        })
    }

    /// With a header; a value that no header can hold is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = (
            status,
            [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ],
            self.body,
        )
            .into_response();
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}
