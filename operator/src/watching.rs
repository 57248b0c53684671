//! Watches of the API server that never end and never show an error: they say what went wrong and begin again.
//!
//! Pauses stay short. After an API server's absence everything has to be listed anew, and a database must not wait half
//! a minute for that; nor may one kind's failure hold up the others, as errors do that reach a controller.

use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kube::runtime::{
    WatchStreamExt as _,
    utils::ResetTimerBackoff,
    watcher::{self, Event, ExponentialBackoff},
};

use crate::lease;

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);
/// A watch that held for so long begins with the shortest pause again.
const CALM: Duration = Duration::from_secs(10);

/// The events of a watch of `what`, for ever.
pub fn persistent<K>(
    stream: impl Stream<Item = watcher::Result<Event<K>>>,
    what: &'static str,
) -> impl Stream<Item = Event<K>> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(SHORTEST)
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times();
    stream
        .backoff(ResetTimerBackoff::new(ExponentialBackoff::from(pauses), CALM))
        .inspect_err(
            move |error| tracing::warn!(error = %lease::chain(error), what, "a watch failed; trying again"),
        )
        .filter_map(|event| std::future::ready(event.ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_watch_goes_on_after_a_hundred_errors_and_never_pauses_long() {
        let errors = futures::stream::iter(0..100).map(|_| Err(watcher::Error::NoResourceVersion));
        let stream = errors.chain(futures::stream::iter([Ok(Event::Apply(7))]));
        let begun = tokio::time::Instant::now();
        let mut events = std::pin::pin!(persistent(stream, "numbers"));
        assert!(matches!(events.next().await, Some(Event::Apply(7))));
        assert!(begun.elapsed() < LONGEST * 2 * 100);
    }
}
