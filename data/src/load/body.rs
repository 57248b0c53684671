//! A body of rows: JSON, or a stream.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use serde_json::value::RawValue;

use crate::{format::Format, input::Json, problem::Problem};

/// What a request brings.
pub enum Incoming {
    /// One object or an array of them.
    Json(Box<RawValue>),
    /// Rows that come one at a time.
    Stream(Format, Body),
}

impl<S: Send + Sync> FromRequest<S> for Incoming {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if let Some(format) = Format::of_body(request.headers()) {
            return Ok(Self::Stream(format, request.into_body()));
        }
        let Json(raw) = Json::from_request(request, state).await?;
        Ok(Self::Json(raw))
    }
}
