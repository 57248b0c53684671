//! The one place that reads clocks.

use std::time::Instant;

use jiff::Timestamp;

/// The moment on the wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the wall clock is read"
)]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// The moment on the monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the monotonic clock is read"
)]
pub fn now() -> Instant {
    Instant::now()
}
