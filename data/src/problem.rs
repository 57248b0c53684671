//! The one form of every error: `application/problem+json`.
//!
//! Each says what happened, what to do, whether trying again can help, and what became of the change. Errors of the
//! server's side hold nothing of its insides.

use std::ops::{Deref, DerefMut};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::routing::Standing;

/// Says to a node that forwarded a request that the cause is a change of master or a restart: `yes` where it is
/// certain that nothing was changed, `unknown` where only the request's key can tell.
pub const AGAIN: HeaderName = HeaderName::from_static("ddb-again");

/// What became of a change that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was carried out.
    Applied,
    /// Nothing was changed; that is certain.
    NotApplied,
    /// It may have been carried out or not.
    Unknown,
}

/// What kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be understood.
    BadRequest,
    /// A fragment of MySQL does not parse.
    BadFragment,
    /// There is no token, or none that is valid.
    Unauthorized,
    /// The token's role does not reach so far.
    Forbidden,
    /// There is no such database, table, row or path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// What is there contradicts the request.
    Conflict,
    /// The key of a request was used for another one.
    KeyReused,
    /// A state that the master does not hold was asked for.
    TokenLost,
    /// What came after a position is not in the binary log any more.
    PositionPurged,
    /// The row is not the one that was read.
    PreconditionFailed,
    /// The request is larger than allowed.
    TooLarge,
    /// MySQL refuses a value.
    BadValue,
    /// A change would reach more rows than it may.
    TooManyRows,
    /// The token asks more than it may.
    TooManyRequests,
    /// Too many requests at a time.
    Busy,
    /// There is no master, or not in time.
    NoMaster,
    /// The node's MySQL server does not serve at the moment.
    NotServing,
    /// A statement took longer than allowed.
    Timeout,
    /// The connection broke in the middle of a change.
    OutcomeUnknown,
    /// A defect of this program.
    Internal,
}

/// The media type of every error.
pub const PROBLEM: &str = "application/problem+json";

impl Kind {
    /// Its status as HTTP has it.
    pub const fn status(self) -> StatusCode {
        self.facts().0
    }

    /// What it is in words.
    pub const fn title(self) -> &'static str {
        self.facts().2
    }

    /// Its status, its name in `type`, and its title.
    const fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => (
                StatusCode::BAD_REQUEST,
                "bad-request",
                "The request cannot be understood",
            ),
            Self::BadFragment => (
                StatusCode::BAD_REQUEST,
                "bad-fragment",
                "The fragment cannot be used",
            ),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "A valid token is needed",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "The token does not allow this",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method does not exist here",
            ),
            Self::Conflict => (
                StatusCode::CONFLICT,
                "conflict",
                "What is there contradicts the request",
            ),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "key-reused",
                "The key was used for another request",
            ),
            Self::TokenLost => (
                StatusCode::CONFLICT,
                "token-lost",
                "The master does not hold that state",
            ),
            Self::PositionPurged => (
                StatusCode::GONE,
                "position-purged",
                "What came after the position was deleted",
            ),
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "precondition-failed",
                "The row is not the one that was read",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "The request is too large",
            ),
            Self::BadValue => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-value",
                "MySQL refuses a value",
            ),
            Self::TooManyRows => (StatusCode::CONFLICT, "too-many-rows", "More rows than allowed"),
            Self::TooManyRequests => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-requests",
                "The token asks more than it may",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "Too many requests at a time",
            ),
            Self::NoMaster => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no-master",
                "There is no master at the moment",
            ),
            Self::NotServing => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not-serving",
                "The node does not serve at the moment",
            ),
            Self::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "The statement took too long",
            ),
            Self::OutcomeUnknown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome-unknown",
                "It is not known whether the change was carried out",
            ),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The node failed"),
        }
    }
}

/// An error as it is answered. Every function's result carries one, so it is kept small.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Body>);

impl Deref for Problem {
    type Target = Body;

    fn deref(&self) -> &Body {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Body {
        &mut self.0
    }
}

/// What a [`Problem`] says.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub struct Body {
    /// The kind of error, the same for every error of that kind.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:ddb:problem:not-found")]
    name: String,
    /// The kind of error in words.
    #[schema(value_type = String)]
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened here and what to do.
    pub detail: String,
    /// MySQL's error number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// MySQL's SQLSTATE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql_state: Option<String>,
    /// The same request may succeed later.
    pub retryable: bool,
    /// What became of the change.
    pub outcome: Outcome,
    /// Where in the fragment it is, counted in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The state of the database where there is no master.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The term that the node knows of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Where the token stands that asked more than it may.
    #[serde(skip)]
    pub quota: Option<Standing>,
    #[serde(skip)]
    kind: Kind,
    #[serde(skip)]
    again: bool,
}

impl Problem {
    /// A problem of a kind; nothing was changed.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, name, title) = kind.facts();
        Self(Box::new(Body {
            name: format!("urn:ddb:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            code: None,
            sql_state: None,
            retryable: matches!(
                kind,
                Kind::TooManyRequests | Kind::Busy | Kind::NoMaster | Kind::NotServing
            ),
            outcome: Outcome::NotApplied,
            position: None,
            phase: None,
            term: None,
            quota: None,
            kind,
            again: false,
        }))
    }

    /// The request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, detail)
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// A fragment cannot be used from this character on, counted from 1.
    pub fn fragment(detail: impl Into<String>, position: Option<usize>) -> Self {
        let mut problem = Self::new(Kind::BadFragment, detail);
        problem.position = position;
        problem
    }

    /// With MySQL's error number and SQLSTATE.
    #[must_use]
    pub fn with_code(mut self, code: u16, sql_state: Option<String>) -> Self {
        self.code = Some(code);
        self.sql_state = sql_state;
        self
    }

    /// The same request may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// With what became of the change.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The node may try again by itself, because the cause is a change of master or a restart of the server.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True where the node may try again by itself.
    pub fn is_again(&self) -> bool {
        self.again
    }
}

/// What every route may answer besides its own reply, for the document; which statuses these are, its place says.
#[derive(utoipa::IntoResponses)]
pub enum Problems {
    /// The request is at fault.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Client(Body),
    /// The node or the database cannot do it now.
    #[response(status = "5XX", content_type = "application/problem+json")]
    Server(Body),
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (
            status,
            [
                (header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ],
            body,
        )
            .into_response();
        let headers = response.headers_mut();
        if self.again {
            let certain = self.outcome == Outcome::NotApplied;
            headers.insert(
                AGAIN,
                HeaderValue::from_static(if certain { "yes" } else { "unknown" }),
            );
        }
        let later = matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        if later && self.retryable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(standing) = self.quota {
            standing.say(headers);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(std::sync::Arc::new(self));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_as_answered() {
        let problem = Problem::fragment("values: `SELECT` is not allowed here", Some(4));
        insta::assert_json_snapshot!(problem);
    }
}
