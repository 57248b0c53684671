//! The one place of the supervisor that reads a clock or draws a random number.

use std::{fs::File, io::Read, time::Instant};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the supervisor's one clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// A number for a start of mysqld, by which the agent tells it from every other.
pub fn random_start() -> std::io::Result<u32> {
    let mut bytes = [0_u8; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes).max(1))
}
