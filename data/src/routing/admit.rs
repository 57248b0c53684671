//! Lets a request in: who asks, with what body, known by which id and key.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::time::timeout;

use crate::{
    access::{Caller, Verdict, is_signed},
    call::{Call, Fingerprint, Peer, fingerprint},
    clock,
    engine::Engine,
    format::Format,
    keys,
    problem::{Kind, Problem},
};

/// The request's id, the client's own where it gives one.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The key by which a request is known again.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Set by a node that forwards: its name. Only another node's word counts.
pub const FORWARDED_BY: HeaderName = HeaderName::from_static("ddb-forwarded-by");
/// Set by a node that forwards: where the request came from.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("ddb-forwarded-for");

/// A body that comes slower than this is given up.
const BODY: Duration = Duration::from_secs(30);
/// The longest wait that a client may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The wait where the client says nothing.
const WAIT: Duration = Duration::from_secs(2);

/// What the client prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preferences {
    /// How long to wait for a master.
    pub wait: Duration,
    /// To be redirected to the master instead of being forwarded.
    pub redirect: bool,
}

/// The id of a request: the client's where it is short and plain, otherwise a new one.
pub fn id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| {
            !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

/// The id of the trace that a request belongs to, as W3C Trace Context has it: `00-<trace>-<parent>-<flags>`. What is not
/// of this form is ignored, as the standard says.
fn trace(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?.trim();
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags, ..] = parts[..] else {
        return None;
    };
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_known = is_hex(version, 2) && version != "ff" && is_hex(parent, 16) && is_hex(flags, 2);
    let is_named = is_hex(trace, 32) && trace.bytes().any(|byte| byte != b'0');
    (is_known && is_named && (version != "00" || parts.len() == 4)).then(|| trace.to_owned())
}

/// Who asks.
pub async fn caller(engine: &Engine, headers: &HeaderMap) -> Result<Arc<Caller>, Problem> {
    let unauthorized = |detail: &str| Problem::new(Kind::Unauthorized, detail);
    let shown = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| unauthorized("send the token in the header `Authorization: Bearer <token>`"))?;
    let token = shown
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| unauthorized("the header must be `Authorization: Bearer <token>`"))?;
    match engine.tokens.judge(token, clock::timestamp()) {
        Verdict::Valid(caller) => Ok(caller),
        Verdict::Expired => Err(unauthorized(
            "the token has expired; make a new one with `kubectl ddb token create`",
        )),
        Verdict::Unknown if is_signed(token) => {
            let caller = engine.accounts.judge(&*engine.host, token).await?;
            caller.ok_or_else(|| {
                unauthorized(
                    "the token stands for nobody here: it must be made for this database's audience \
                     (kubectl create token ACCOUNT --audience NAME.NAMESPACE.ddb-operator.io), and \
                     spec.api.serviceAccounts must name its account",
                )
            })
        }
        Verdict::Unknown => Err(unauthorized(
            "the token is not known; a new one is known to every node after about a minute",
        )),
    }
}

/// What a request brings.
#[derive(Debug)]
pub enum Content {
    /// All of it; it can be sent again.
    Whole(Bytes),
    /// It comes while the request is carried out, which can be tried once.
    Coming(Mutex<Option<Body>>),
}

impl Content {
    /// The body for one attempt; nothing where it was used up by an earlier one.
    pub fn take(&self) -> Option<Body> {
        match self {
            Self::Whole(bytes) => Some(Body::from(bytes.clone())),
            Self::Coming(body) => body.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    /// Gives back what an attempt did not touch.
    pub fn put_back(&self, untouched: Body) {
        if let Self::Coming(body) = self {
            *body.lock().unwrap_or_else(PoisonError::into_inner) = Some(untouched);
        }
    }

    /// True where there is nothing left for another attempt.
    pub fn is_used_up(&self) -> bool {
        match self {
            Self::Whole(_) => false,
            Self::Coming(body) => body.lock().unwrap_or_else(PoisonError::into_inner).is_none(),
        }
    }

    /// What is there of it by now.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Coming(_) => &[],
        }
    }
}

/// The body was used up by an earlier attempt.
pub fn used_up() -> Problem {
    Problem::new(
        Kind::NotServing,
        "the body came once and the request could not be carried out; send it again",
    )
}

/// True for a body of rows that may be too large to be kept. One with a key is kept, because the key stands for the
/// whole body, and so is one that says that it is small: both can be tried again.
pub fn comes(engine: &Engine, headers: &HeaderMap) -> bool {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    Format::of_body(headers).is_some()
        && !headers.contains_key(KEY)
        && length.is_none_or(|length| length > engine.limits.body)
}

/// The whole body.
pub async fn body(engine: &Engine, body: Body) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = engine.limits.body;
    let collected = timeout(BODY, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            Kind::TooLarge,
            format!("the body may have {limit} bytes; send it in parts"),
        )),
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off")),
        Err(_) => Err(Problem::bad_request("the body did not come in time")),
    }
}

/// The client's address, also where another node forwards.
pub fn from(headers: &HeaderMap, peer: Peer) -> String {
    headers
        .get(FORWARDED_FOR)
        .filter(|_| peer.is_node)
        .and_then(|value| value.to_str().ok())
        .map_or_else(|| peer.address.ip().to_string(), str::to_owned)
}

/// The request as the routes see it.
pub fn call(
    id: String,
    parts: &Parts,
    caller: Arc<Caller>,
    peer: Peer,
    body: &[u8],
) -> Result<Call, Problem> {
    let key = match parts.headers.get(KEY) {
        None => None,
        Some(value) => {
            let key = value.to_str().unwrap_or_default().trim();
            if key.is_empty() || key.len() > keys::LONGEST {
                return Err(Problem::bad_request(format!(
                    "Idempotency-Key: from 1 to {} plain characters",
                    keys::LONGEST
                )));
            }
            Some(key.to_owned())
        }
    };
    // Only a repeated key is compared by it.
    let fingerprint = match &key {
        Some(_) => {
            let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
            fingerprint(parts.method.as_str(), path, body)
        }
        None => Fingerprint::default(),
    };
    let from = from(&parts.headers, peer);
    let authorization = parts.headers.get(header::AUTHORIZATION).cloned();
    Ok(Call::new(
        id,
        trace(&parts.headers),
        caller,
        from,
        authorization.unwrap_or_else(|| HeaderValue::from_static("")),
        key,
        fingerprint,
    ))
}

/// The node that forwarded the request; only another node may say so.
pub fn forwarded_by(headers: &HeaderMap, peer: Peer) -> Result<Option<String>, Problem> {
    match headers.get(FORWARDED_BY) {
        None => Ok(None),
        Some(_) if !peer.is_node => Err(Problem::bad_request(
            "the header Ddb-Forwarded-By is for nodes only; leave it out",
        )),
        Some(node) => Ok(Some(node.to_str().unwrap_or("another node").to_owned())),
    }
}

/// `Prefer: wait=5, routing=redirect`.
pub fn preferences(headers: &HeaderMap) -> Result<Preferences, Problem> {
    let mut preferences = Preferences {
        wait: WAIT,
        redirect: false,
    };
    for value in headers.get_all("prefer") {
        for one in value.to_str().unwrap_or_default().split([',', ';']) {
            match one.trim().split_once('=').unwrap_or((one.trim(), "")) {
                ("wait", seconds) => {
                    let seconds: f64 = seconds
                        .parse()
                        .ok()
                        .filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)
                        .ok_or_else(|| {
                            Problem::bad_request("Prefer: wait is a number of seconds from 0 to 10")
                        })?;
                    preferences.wait = Duration::from_secs_f64(seconds.min(3600.0)).min(LONGEST_WAIT);
                }
                ("routing", "redirect") => preferences.redirect = true,
                // What is not understood is ignored, as the standard says of this header.
                _ => {}
            }
        }
    }
    Ok(preferences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_named_by_a_header_of_the_right_form() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_static(text));
            trace(&headers)
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(
            read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").as_deref(),
            Some(id)
        );
        assert_eq!(
            read("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").as_deref(),
            Some(id)
        );
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f35-00f067aa0ba902b7-01",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn preferences_are_read_and_bounded() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(text));
            preferences(&headers)
        };
        assert_eq!(
            read("wait=5, routing=redirect").unwrap().wait,
            Duration::from_secs(5)
        );
        assert!(read("wait=5, routing=redirect").unwrap().redirect);
        assert_eq!(read("wait=100").unwrap().wait, LONGEST_WAIT);
        assert_eq!(read("return=minimal").unwrap().wait, WAIT);
        assert!(read("wait=soon").is_err());
    }
}
