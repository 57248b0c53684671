//! The one place of the agent that reads a clock.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use failover::Millis;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the agent's one clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since this was first asked, never zero: a clock for what is judged in the crate `failover`.
pub fn uptime() -> Millis {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    millis_since(*BEGUN.get_or_init(now)) + 1
}

/// Milliseconds since `earlier`.
pub fn millis_since(earlier: Instant) -> Millis {
    millis(now().saturating_duration_since(earlier))
}

/// A span in whole milliseconds.
pub fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX)
}

/// What is left of `deadline`, zero when it has passed.
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(now())
}

/// Seconds since 1970 by the machine's clock, for names that people read; nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "the agent's one clock")]
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// When the file was last changed; `None` where there is none.
pub fn changed_at(path: &std::path::Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}
