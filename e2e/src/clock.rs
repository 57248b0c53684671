//! The one place that reads the clock. All times here are monotonic; a `Duration` called "at" counts from a [`Clock`]'s
//! zero, so that what writers, watchers and faults saw can be laid side by side.

use std::time::{Duration, Instant};

/// A zero that several observers share.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it began.
    pub fn at(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Whole milliseconds, for output.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
