//! The one place of the crate that reads a clock.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the crate's one clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time, for records that people read and for the expiry of tokens.
#[expect(clippy::disallowed_methods, reason = "the crate's one clock")]
pub fn timestamp() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Milliseconds since `earlier`.
pub fn millis_since(earlier: Instant) -> u64 {
    millis(since(earlier))
}

/// A span in whole milliseconds.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The time since `earlier`.
pub fn since(earlier: Instant) -> Duration {
    now().saturating_duration_since(earlier)
}

/// What is left until `deadline`, zero when it has passed.
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(now())
}

/// When the file was last changed; `None` where there is none.
pub fn changed_at(path: &std::path::Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}
