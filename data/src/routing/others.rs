//! The way to any other node, for what people look at: a connection for each question, so that a node that does not
//! answer holds nothing else up.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Method, Request, header},
    response::Response,
};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    admit::{FORWARDED_BY, FORWARDED_FOR, REQUEST_ID},
    peers::{ALIVE, Peers, uri},
};
use crate::{
    call::Call,
    engine::Engine,
    problem::{Kind, Problem},
    view::Way,
};

/// How long another node may take to answer in all.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer, in bytes.
const LONGEST: usize = 16 << 20;

/// A status and a body.
pub struct Answered {
    /// The status.
    pub status: u16,
    body: Bytes,
}

impl Answered {
    /// The body of a reply that is no error.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        if !(200..300).contains(&self.status) {
            return None;
        }
        serde_json::from_slice(&self.body).ok()
    }

    /// The reply as it came.
    pub fn into_response(self) -> Response {
        let kind = if self.status < 400 {
            "application/json"
        } else {
            "application/problem+json"
        };
        let response = Response::builder()
            .status(self.status)
            .header(header::CONTENT_TYPE, kind)
            .header(header::CACHE_CONTROL, "no-store")
            .body(self.body.into());
        response.unwrap_or_default()
    }
}

impl Peers {
    /// Asks another node on the caller's behalf; that node judges the caller, too.
    pub async fn ask(
        &self,
        engine: &Engine,
        way: &Way,
        call: &Call,
        method: Method,
        path: &str,
    ) -> Result<Answered, Problem> {
        let missing = || {
            Problem::new(
                Kind::NotServing,
                format!("the node {} does not answer at the moment", way.node),
            )
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri(way, &path.parse().map_err(|_| missing())?)?)
            .version(hyper::Version::HTTP_2)
            .header(header::AUTHORIZATION, call.authorization())
            .body(Body::empty())
            .map_err(|_| missing())?;
        for (name, value) in [
            (REQUEST_ID, call.id()),
            (FORWARDED_BY, &engine.node),
            (FORWARDED_FOR, call.from()),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                request.headers_mut().insert(name, value);
            }
        }
        let answer = async {
            let mut sender = self.connect(way, ALIVE).await?;
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LONGEST).collect().await.ok()?;
            Some(Answered {
                status,
                body: body.to_bytes(),
            })
        };
        timeout(PATIENCE, answer).await.ok().flatten().ok_or_else(missing)
    }
}
