//! Bounded waits that say what they wait for. Nothing here sleeps for a fixed time and hopes.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::clock::Clock;

/// What one look showed.
pub enum Seen<T> {
    /// It is there.
    Done(T),
    /// Not yet, and this is how far it is.
    NotYet(String),
}

impl Seen<()> {
    /// Done when nothing is missing any more.
    pub fn once_empty(missing: &[String]) -> Self {
        if missing.is_empty() {
            Self::Done(())
        } else {
            Self::NotYet(missing.join("; "))
        }
    }
}

const PAUSE: Duration = Duration::from_millis(50);
const SPEAK_AFTER: Duration = Duration::from_secs(15);

/// Looks until it is there or `bound` is over; an error of a look counts as "not yet", because API servers and
/// databases are allowed to be away for a while.
pub async fn until<T>(
    what: &str,
    bound: Duration,
    mut look: impl AsyncFnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let clock = Clock::start();
    let mut spoken = Duration::ZERO;
    loop {
        let state = match look().await {
            Ok(Seen::Done(value)) => return Ok(value),
            Ok(Seen::NotYet(state)) => state,
            Err(error) => format!("{error:#}"),
        };
        let elapsed = clock.at();
        if elapsed >= bound {
            bail!(
                "after {} s there is still no {what}; last seen: {state}",
                bound.as_secs()
            );
        }
        if elapsed >= spoken + SPEAK_AFTER {
            spoken = elapsed;
            eprintln!("    … {} s waiting for {what}: {state}", elapsed.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
