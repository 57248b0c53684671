//! How new what is read must be: `After: <token>` and `Consistency`.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderMap;
use failover::GtidSet;

use crate::{
    age,
    call::Call,
    engine::Engine,
    problem::{Kind, Problem},
    sql::{Sql, Value},
    view::View,
};

/// How long a node waits until it has what a token names, in seconds as MySQL takes it.
const BUDGET: &str = "0.2";

/// What a request demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freshness {
    leader: bool,
    /// How old the data may be.
    bound: Option<Duration>,
    after: Option<String>,
}

impl Freshness {
    /// The answer must not be older than a token or a time.
    pub fn wants_a_state(&self) -> bool {
        self.after.is_some() || self.bound.is_some()
    }

    /// The same, answered by the master only.
    #[must_use]
    pub fn on_the_master(self) -> Self {
        Self { leader: true, ..self }
    }

    /// Only the master's answer counts.
    pub fn wants_master(&self) -> bool {
        self.leader
    }

    /// The age that the reply names, where the request set a bound.
    pub fn age(&self, engine: &Engine) -> Option<Duration> {
        self.bound?;
        engine.age.at_most(engine.view.borrow().term)
    }
}

/// Reads the headers.
pub fn of(headers: &HeaderMap) -> Result<Freshness, Problem> {
    let mut freshness = Freshness::default();
    if let Some(level) = headers.get("consistency") {
        match level.to_str().unwrap_or_default().trim() {
            "any" | "session" => {}
            "leader" | "strong" => freshness.leader = true,
            other => match other.strip_prefix("bounded=").map(bound) {
                Some(Some(bound)) => freshness.bound = Some(bound),
                Some(None) => {
                    return Err(Problem::bad_request(
                        "Consistency: bounded is a time from 1 ms to 1 h, such as bounded=250ms or bounded=2s",
                    ));
                }
                None => {
                    return Err(Problem::bad_request(format!(
                        "Consistency: `{other}` is not known; it is any, session, leader, strong or bounded=250ms"
                    )));
                }
            },
        }
    }
    if let Some(token) = headers.get("after") {
        let text = token.to_str().unwrap_or_default().trim();
        let set = text
            .split_once('.')
            .filter(|(term, _)| term.parse::<u64>().is_ok())
            .map(|(_, set)| set)
            .and_then(|set| set.parse::<GtidSet>().ok())
            .ok_or_else(|| {
                Problem::bad_request("After: give the Write-Token of an earlier reply as it is")
            })?;
        freshness.after = Some(set.to_string());
    }
    Ok(freshness)
}

/// `250ms`, `2s`.
fn bound(text: &str) -> Option<Duration> {
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    let bound = Duration::from_millis(digits.parse::<u64>().ok()?.checked_mul(unit)?);
    (Duration::from_millis(1)..=Duration::from_hours(1))
        .contains(&bound)
        .then_some(bound)
}

/// True once this node has all that the request demands; false where it would have to wait too long.
pub async fn reach(
    engine: &Arc<Engine>,
    call: &Call,
    freshness: &Freshness,
    view: &View,
) -> Result<bool, Problem> {
    if let Some(bound) = freshness.bound
        && !age::within(engine, view, bound).await?
    {
        return Ok(false);
    }
    let Some(set) = &freshness.after else {
        return Ok(true);
    };
    let set = Value::Text(set.clone());
    let sql = if view.leads() {
        Sql::new("SELECT GTID_SUBSET(")
            .value(set)
            .text(", @@GLOBAL.gtid_executed)")
    } else {
        Sql::new("SELECT WAIT_FOR_EXECUTED_GTID_SET(")
            .value(set)
            .text(", ")
            .text(BUDGET)
            .text(") = 0")
    };
    let rows = engine.rows(call, sql, 1).await?;
    Ok(rows.number() == Some(1))
}

/// The master itself lacks what the token names.
pub fn lost(view: &View) -> Problem {
    let mut problem = Problem::new(
        Kind::TokenLost,
        "the master does not hold the state that the token names; read anew without it",
    );
    problem.term = Some(view.term);
    problem
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_bound_is_a_time_with_its_unit() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("consistency", HeaderValue::from_static(text));
            of(&headers).map(|freshness| freshness.bound)
        };
        assert_eq!(read("bounded=250ms"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(read("bounded=2s"), Ok(Some(Duration::from_secs(2))));
        assert_eq!(read("any"), Ok(None));
        for wrong in [
            "bounded",
            "bounded=",
            "bounded=250",
            "bounded=0ms",
            "bounded=-1s",
            "bounded=2h",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
