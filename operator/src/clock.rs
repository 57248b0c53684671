//! The one place where the operator reads a clock. Everything else takes the moment as an argument.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use failover::Millis;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds on the monotonic clock since the operator started.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Millis {
    millis(Instant::now().saturating_duration_since(*START))
}

/// The wall clock; for people and records only, never for a decision.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// The wall clock as Kubernetes writes it.
pub fn wall_time() -> Time {
    Time(wall())
}

/// The wall clock as Kubernetes writes it in leases.
pub fn wall_micro_time() -> MicroTime {
    MicroTime(wall())
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
