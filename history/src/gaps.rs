//! The longest time without a success: how an outage is measured, and medians of many. Pure.

use std::time::Duration;

/// The longest gap between two neighbouring successes of which the later one lies after `fault`; where nothing
/// succeeded after the fault, the time from the last success to `end`. `moments` are in ascending order.
pub fn longest(moments: &[Duration], fault: Duration, end: Duration) -> Duration {
    longest_from(moments, fault, end).1
}

/// The same gap with the moment at which it began.
pub fn longest_from(moments: &[Duration], fault: Duration, end: Duration) -> (Duration, Duration) {
    let later = moments.partition_point(|at| *at <= fault);
    let mut previous = moments[..later].last().copied().unwrap_or(fault);
    let mut longest = (previous, Duration::ZERO);
    for at in moments[later..].iter().copied().chain(std::iter::once(end)) {
        let gap = at.saturating_sub(previous);
        if gap > longest.1 {
            longest = (previous, gap);
        }
        previous = at;
    }
    longest
}

/// A number of microseconds.
pub fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

/// The value below which the share `percent` of the values lies (nearest rank); zero without values.
pub fn percentile(values: &[u64], percent: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(millis: &[u64]) -> Vec<Duration> {
        millis.iter().copied().map(Duration::from_millis).collect()
    }

    fn longest_millis(at: &[u64], fault: u64, end: u64) -> u128 {
        longest(
            &moments(at),
            Duration::from_millis(fault),
            Duration::from_millis(end),
        )
        .as_millis()
    }

    #[test]
    fn the_gap_that_the_fault_opened_counts_from_the_last_success_before_it() {
        assert_eq!(longest_millis(&[0, 5, 10, 400, 405], 12, 410), 390);
    }

    #[test]
    fn a_gap_wholly_before_the_fault_does_not_count() {
        assert_eq!(longest_millis(&[0, 900, 905, 950], 910, 955), 45);
    }

    #[test]
    fn without_a_success_after_the_fault_the_outage_lasts_to_the_end() {
        assert_eq!(longest_millis(&[0, 5], 6, 3000), 2995);
        assert_eq!(longest_millis(&[], 1000, 3000), 2000);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        assert_eq!(percentile(&[5, 1, 9], 50), 5);
        assert_eq!(percentile(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 90), 9);
        assert_eq!(percentile(&[1, 2, 3, 4], 50), 2);
        assert_eq!(percentile(&[], 50), 0);
    }
}
