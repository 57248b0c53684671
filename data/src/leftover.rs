//! Bodies of requests that are answered before they were read.
//!
//! A connection is closed where a request's body was not read to its end. Its client may have sent the next request by
//! then, which is lost, or may still be sending, and then many clients never see the answer. So what is left of a body
//! is taken and forgotten, whoever drops it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{runtime::Handle, time::timeout};

/// How long a client may go on sending what nobody wants. Past it the client learns of the end by the reset.
const LINGER: Duration = Duration::from_secs(2);

/// A body whose rest is taken when it is dropped.
pub struct Leftover(Option<Incoming>);

impl Leftover {
    /// The body of a request.
    pub fn of(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for Leftover {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(context);
        // Nothing comes behind the end or an error.
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let rest = async { while let Some(Ok(_)) = body.frame().await {} };
                let _ = timeout(LINGER, rest).await;
            });
        }
    }
}
