//! How old what this node holds may be at most: `Consistency: bounded=250ms`.
//!
//! The node asks the master for a heartbeat row and for the set that contains it. The row is acknowledged by as many
//! slaves as must, so the master was the only one when it was asked; once this node has executed that set, it holds
//! everything of the moment in which it asked. The age is counted from there by this node's own clock: no two clocks
//! are compared, and nothing is taken from what replication says of itself. Rows are written only while somebody
//! reads so.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{Method, Request},
};
use http_body_util::BodyExt as _;
use tokio::time::{sleep, timeout};

use crate::{
    access::Account,
    clock,
    engine::Engine,
    host::Step,
    mysql::Transaction,
    position::Position,
    problem::{Kind, Problem},
    routing::{Content, Errand},
    sql::{Sql, Value},
    view::View,
};

/// The path of the heartbeat.
pub const PATH: &str = "/v1/cluster/beat";
/// Heartbeats end when nobody has read so for this long.
const WANTED: Duration = Duration::from_secs(10);
/// The pause between heartbeats, whatever the bound.
const SHORTEST: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_secs(1);
/// After a heartbeat that did not come through.
const AGAIN: Duration = Duration::from_millis(500);
/// How long this node may take to execute what the master had.
const CATCH_UP: &str = "1";
/// The longest set that the master may answer, in bytes.
const LONGEST_SET: usize = 1 << 20;

/// What is proven of this node's data.
#[derive(Debug, Default)]
pub struct Age(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// This node held everything of this moment, in this term.
    proven: Option<(Instant, u64)>,
    /// The tightest bound that was asked for lately, and when it was asked for last.
    wanted: Option<(Duration, Instant)>,
    /// Heartbeats are under way.
    beats: bool,
}

impl Age {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The age at most, where anything is known of it in this term.
    pub fn at_most(&self, term: u64) -> Option<Duration> {
        let (moment, of) = self.lock().proven?;
        (of == term).then(|| clock::since(moment))
    }

    fn prove(&self, moment: Instant, term: u64) {
        let mut known = self.lock();
        if known
            .proven
            .is_none_or(|(before, of)| of != term || before < moment)
        {
            known.proven = Some((moment, term));
        }
    }

    /// Somebody reads with this bound; true where heartbeats have to begin.
    fn want(&self, bound: Duration) -> bool {
        let now = clock::now();
        let mut known = self.lock();
        let tightest = match known.wanted {
            Some((before, at)) if now.saturating_duration_since(at) < WANTED => before.min(bound),
            _ => bound,
        };
        known.wanted = Some((tightest, now));
        !std::mem::replace(&mut known.beats, true)
    }

    /// The pause until the next heartbeat; `None` when nobody reads so any more.
    fn pause(&self) -> Option<Duration> {
        let mut known = self.lock();
        match known.wanted {
            Some((bound, at)) if clock::since(at) < WANTED => Some((bound / 3).clamp(SHORTEST, LONGEST)),
            _ => {
                known.beats = false;
                None
            }
        }
    }
}

/// True where this node's data is proven to be no older than the bound. A master proves it at once, or fails.
pub async fn within(engine: &Arc<Engine>, view: &View, bound: Duration) -> Result<bool, Problem> {
    if engine.age.want(bound) {
        tokio::spawn(keep(Arc::clone(engine)));
    }
    let fits = || engine.age.at_most(view.term).is_some_and(|age| age <= bound);
    if fits() {
        return Ok(true);
    }
    if !view.leads() {
        return match &view.master {
            Some(_) => Ok(false),
            None => Err(Problem::new(Kind::NoMaster, "there is no master to compare with").again()),
        };
    }
    prove(engine, view).await?;
    if fits() {
        return Ok(true);
    }
    Err(Problem::new(
        Kind::NotServing,
        "the master's heartbeat took longer than the bound; ask for a wider one",
    )
    // The next one may be quicker.
    .again())
}

/// Heartbeats for as long as somebody reads so.
async fn keep(engine: Arc<Engine>) {
    while let Some(pause) = engine.age.pause() {
        let view = engine.view.borrow().clone();
        let proven = prove(&engine, &view).await;
        if let Err(problem) = &proven {
            tracing::debug!(detail = problem.detail, "no heartbeat");
        }
        sleep(if proven.is_ok() { pause } else { AGAIN }).await;
    }
}

async fn prove(engine: &Engine, view: &View) -> Result<(), Problem> {
    let asked = clock::now();
    if view.leads() {
        engine.beat().await?;
    } else {
        let set = masters_beat(engine, view).await?.set;
        let sql = Sql::new("SELECT WAIT_FOR_EXECUTED_GTID_SET(")
            .value(Value::Text(set.to_string()))
            .text(", ")
            .text(CATCH_UP)
            .text(") = 0");
        if engine.own_number(sql).await? != Some(1) {
            return Err(Problem::new(
                Kind::Timeout,
                "this node lags behind the master's heartbeat",
            ));
        }
    }
    engine.age.prove(asked, view.term);
    Ok(())
}

/// One heartbeat, as a step of the connection check.
pub async fn write_probe(engine: &Engine) -> Step {
    let begun = clock::now();
    let view = engine.view.borrow().clone();
    let written = if view.leads() {
        engine.beat().await.map(|()| engine.node.clone())
    } else {
        masters_beat(engine, &view).await.map(|position| position.node)
    };
    let (ok, detail) = match written {
        Ok(node) => (true, format!("a row was committed on {node} and acknowledged")),
        Err(problem) => (false, problem.detail.clone()),
    };
    Step {
        step: "write",
        ok: Some(ok),
        milliseconds: clock::millis_since(begun),
        detail,
        mend: (!ok).then(|| {
            "the master acknowledges no writes: while it changes, try again; otherwise slaves are missing, which \
             kubectl ddb status names"
                .to_owned()
        }),
    }
}

async fn masters_beat(engine: &Engine, view: &View) -> Result<Position, Problem> {
    let missing = || Problem::new(Kind::NoMaster, "there is no master's heartbeat at the moment");
    let way = view.master.clone().ok_or_else(missing)?;
    let request = Request::builder().method(Method::POST).uri(PATH).body(());
    let (parts, ()) = request.map_err(|_| missing())?.into_parts();
    let response = engine
        .peers
        .send(engine, &way, parts, &Content::Whole(Bytes::new()), Errand::Read)
        .await?;
    if !response.status().is_success() {
        return Err(missing());
    }
    let body = http_body_util::Limited::new(response.into_body(), LONGEST_SET).collect();
    let body = timeout(LONGEST, body).await.map_err(|_| missing())?;
    serde_json::from_slice(&body.map_err(|_| missing())?.to_bytes()).map_err(|_| missing())
}

impl Engine {
    /// Writes the heartbeat row here, where this node leads.
    pub async fn beat(&self) -> Result<(), Problem> {
        if !self.view.borrow().leads() {
            return Err(Problem::new(Kind::NoMaster, "this node does not lead"));
        }
        Ok(self.host.beat().await?)
    }

    /// The one number that a query of the node's own answers.
    async fn own_number(&self, sql: Sql) -> Result<Option<u64>, Problem> {
        let mut transaction = Transaction::begin(&self.pools, Account::READER, false).await?;
        let rows = transaction.quiet_rows(sql).await;
        transaction.rollback().await;
        Ok(rows?.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_counts_from_the_newest_proof_of_the_term() {
        let (age, now) = (Age::default(), clock::now());
        assert_eq!(age.at_most(1), None);
        age.prove(now, 1);
        age.prove(now.checked_sub(Duration::from_secs(5)).unwrap(), 1);
        assert!(age.at_most(1).is_some_and(|age| age < Duration::from_secs(5)));
        assert_eq!(age.at_most(2), None, "another master may have gone on");
    }

    #[test]
    fn heartbeats_begin_once_and_are_as_quick_as_the_tightest_bound() {
        let age = Age::default();
        assert!(age.want(Duration::from_millis(300)));
        assert!(!age.want(Duration::from_secs(2)), "they are under way");
        assert_eq!(age.pause(), Some(Duration::from_millis(100)));
        age.lock().wanted = None;
        assert_eq!(age.pause(), None);
        assert!(age.want(Duration::from_secs(2)), "they had ended");
    }
}
