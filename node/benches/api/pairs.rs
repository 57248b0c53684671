//! Both ways in turns, so that a slow moment of the machine hits both; the order changes from turn to turn.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::{
    facts::{line, middle},
    load::{Rate, Work, Worker, pound},
};

/// How two ways did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    /// What the second way reaches of the first one's requests per second: median of the turns' ratios.
    pub ratio: f64,
    /// What the second way adds to the median request: median of the turns' differences.
    pub added_median_ms: f64,
    /// Requests per second, median of the turns: the first way and the second.
    pub per_second: (f64, f64),
    /// The median request in milliseconds, median of the turns: the first way and the second.
    pub median_ms: (f64, f64),
}

/// Compares two ways, each with all of its clients at once.
pub async fn compare<A: Worker, B: Worker>(
    (first, second): (&mut Vec<A>, &mut Vec<B>),
    work: Work,
    turns: u32,
    slice: Duration,
) -> Result<Compared> {
    let mut turned: Vec<(Rate, Rate)> = Vec::new();
    for turn in 1..=turns {
        let both = if turn % 2 == 1 {
            let one = pound(first, work, slice).await?;
            (one, pound(second, work, slice).await?)
        } else {
            let two = pound(second, work, slice).await?;
            (pound(first, work, slice).await?, two)
        };
        line(&format!(
            "  turn {turn:>2}  {:>6.0}/s {:>7.3} ms   and {:>6.0}/s {:>7.3} ms",
            both.0.per_second, both.0.median_ms, both.1.per_second, both.1.median_ms
        ));
        turned.push(both);
    }
    let of = |value: fn(&(Rate, Rate)) -> f64| middle(turned.iter().map(value).collect());
    Ok(Compared {
        ratio: of(|(one, two)| two.per_second / one.per_second.max(1.0)),
        added_median_ms: of(|(one, two)| two.median_ms - one.median_ms),
        per_second: (of(|(one, _)| one.per_second), of(|(_, two)| two.per_second)),
        median_ms: (of(|(one, _)| one.median_ms), of(|(_, two)| two.median_ms)),
    })
}
