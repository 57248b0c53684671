//! What follows from a settled role without a command: a slave that has caught up is opened for readers, a master
//! forgets its former source, keeps the application's account, frees commits whose acknowledgement was lost and forgets the
//! data API's old keys.
//!
//! It must not decide about roles; everything it does is checked again where it is carried out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use failover::{NodeId, NodeReport, Role, Server, Term};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

use crate::{account, agent::Agent, clock, executor::Order, keys, mysql::Lane};

/// A master whose commits wait this long writes a row of its own.
const LOST_ACKNOWLEDGEMENT: Duration = Duration::from_secs(1);

/// How long such a row may wait before another is tried, at first and at most: slaves that are out of reach still count
/// as connected for a while, and each row that waits in vain keeps a thread of the server.
const BEAT: Duration = Duration::from_secs(3);
const LONGEST_BEAT: Duration = Duration::from_mins(1);

/// A killed master is kept down for so long at most while an operator is connected: a failover without it takes less,
/// and one that needs its data must not wait longer.
const HELD_MS: u64 = 3000;
/// A new master forgets its former source after so long: it costs tens of milliseconds of the disk's time, which the
/// first writes need more.
const FORGET_AFTER_MS: u64 = 2000;

/// A former master stays closed for so long after it heard that the change is complete. Proxies may still lead clients
/// here for a second and a little more: they would take a slave for the master, read what is old by now, and stay. A
/// closed server ends them, and they come to the new master with the next attempt.
const STILL_LED_HERE_MS: u64 = 2000;
/// Without an operator's word that the new master is led to, it opens after so long: it may be needed to read from.
const UNTOLD_MS: u64 = 10_000;

/// Whether clients may still be led here as to the master.
#[derive(Debug, Default)]
struct Former {
    /// Since when it follows, and in which term.
    follows: Option<(Term, Instant)>,
    /// Since when clients are led to the master that it follows.
    led_away: Option<Instant>,
}

impl Former {
    /// Takes in what a former master is now, and the master that the operator names; true while it must stay closed.
    fn must_stay_closed(
        &mut self,
        report: &NodeReport,
        named: (Term, Option<&NodeId>),
        now: Instant,
    ) -> bool {
        let Server::Up(state) = &report.server else {
            return true;
        };
        let Role::Slave { term, source, .. } = &state.role else {
            return true;
        };
        let follows = match self.follows {
            Some((known, since)) if known == *term => since,
            _ => {
                self.follows = Some((*term, now));
                self.led_away = None;
                now
            }
        };
        if named.0 >= *term && named.1 == Some(source) {
            self.led_away.get_or_insert(now);
        }
        let lasts =
            |since: Instant, millis| now.saturating_duration_since(since) < Duration::from_millis(millis);
        self.led_away.is_none_or(|since| lasts(since, STILL_LED_HERE_MS)) && lasts(follows, UNTOLD_MS)
    }
}

/// What runs while the node is master in one term.
struct Mastership {
    term: Term,
    since: Instant,
    account: JoinHandle<()>,
}

/// Takes care for ever.
pub async fn run(agent: Arc<Agent>, executor: mpsc::Sender<Order>) {
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = agent.board.watch();
    let mut mastership: Option<Mastership> = None;
    let mut certificates = clock::changed_at(&agent.settings.tls_dir.join("tls.crt"));
    let mut held_since: Option<Instant> = None;
    let mut former = Former::default();
    let mut turn: u64 = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => turn += 1,
            _ = changes.recv() => {}
        }
        let report = agent.board.report();
        let rests = leads(&report).is_some()
            && mastership
                .as_ref()
                .is_some_and(|held| clock::millis_since(held.since) > FORGET_AFTER_MS)
            && agent
                .board
                .status()
                .is_some_and(|status| status.channel.is_some());
        let closed = agent.store.get().await.led && {
            let picture = agent.picture.borrow();
            // While the master changes, clients may still be led here.
            let led_to = picture.master.as_ref().filter(|_| picture.change.is_none());
            former.must_stay_closed(&report, (picture.term, led_to), clock::now())
        };
        if (rests || (!closed && wants_settling(&report))) && executor.try_send(Order::Settle).is_err() {
            warn!("the executor takes no orders");
        }
        let held = agent.board.held_ms().is_some() && agent.board.operators() > 0;
        let waiting = held.then(|| *held_since.get_or_insert_with(clock::now));
        if waiting.is_none() {
            held_since = None;
        }
        if waiting.is_some_and(|since| clock::millis_since(since) > HELD_MS)
            && executor.try_send(Order::StartUncut).is_err()
        {
            warn!("the executor takes no orders");
        }
        keep_mastership(&agent, &mut mastership, leads(&report));
        if turn.is_multiple_of(100) {
            reload_certificates(&agent, &mut certificates).await;
        }
    }
}

fn wants_settling(report: &NodeReport) -> bool {
    matches!(&report.server, Server::Up(state)
        if !state.open && matches!(state.role, Role::Slave { caught_up: true, .. }))
}

fn leads(report: &NodeReport) -> Option<Term> {
    match &report.server {
        Server::Up(state) if state.open => match state.role {
            Role::Master { term, .. } => Some(term),
            _ => None,
        },
        _ => None,
    }
}

fn keep_mastership(agent: &Arc<Agent>, held: &mut Option<Mastership>, term: Option<Term>) {
    if held.as_ref().map(|mastership| mastership.term) == term {
        return;
    }
    if let Some(old) = held.take() {
        old.account.abort();
    }
    if let Some(term) = term {
        let agent = Arc::clone(agent);
        *held = Some(Mastership {
            term,
            since: clock::now(),
            account: tokio::spawn(serve_mastership(agent, term)),
        });
    }
}

async fn serve_mastership(agent: Arc<Agent>, term: Term) {
    tokio::join!(
        account::follow(&agent),
        free_commits(&agent, term),
        keys::keep_few(&agent)
    );
}

/// Writes a row of the agent's own where commits wait though their slaves are there: the acknowledgement was lost on the
/// wire, and the next one frees them all.
async fn free_commits(agent: &Agent, term: Term) {
    let mut lane = Lane::root(&agent.settings.mysql_socket);
    // Connected before anything waits: a statement about accounts that waits lets nobody log in.
    if let Err(error) = lane.ping().await {
        info!(%error, "no connection for heartbeat rows yet");
    }
    let mut waiting_since = None;
    let mut patience = BEAT;
    loop {
        sleep(Duration::from_millis(250)).await;
        let Some(status) = agent.board.status().filter(|status| status.waiting > 0) else {
            (waiting_since, patience) = (None, BEAT);
            continue;
        };
        let since = *waiting_since.get_or_insert_with(clock::now);
        if clock::now().saturating_duration_since(since) < LOST_ACKNOWLEDGEMENT {
            continue;
        }
        waiting_since = None;
        // Without enough slaves nothing was lost on the wire, and the row would only wait beside the others.
        let there = lane.acknowledgers().await;
        if !there.is_ok_and(|slaves| slaves >= status.acks) {
            continue;
        }
        // A row that waited in vain keeps its lock, so that the next one is another.
        let row = u8::try_from(clock::unix_seconds() % 256).unwrap_or_default();
        if let Err(error) = lane.beat(row, term, patience).await {
            info!(%error, "no heartbeat row");
            patience = (patience * 2).min(LONGEST_BEAT);
        }
    }
}

async fn reload_certificates(agent: &Agent, known: &mut Option<std::time::SystemTime>) {
    let now = clock::changed_at(&agent.settings.tls_dir.join("tls.crt"));
    if now == *known || agent.board.status().is_none() {
        return;
    }
    match agent.mysql.side().await.reload_tls().await {
        Ok(()) => {
            info!("mysqld uses the new certificates");
            *known = now;
        }
        Err(error) => warn!(%error, "mysqld keeps the old certificates"),
    }
}

#[cfg(test)]
mod tests {
    use failover::{Applier, GtidSet, Receiver, ServerState};

    use super::*;

    fn report(role: Role) -> NodeReport {
        NodeReport {
            term: Term(2),
            ..NodeReport::new(
                "v".into(),
                Server::Up(Box::new(ServerState {
                    uuid: String::new(),
                    version: String::new(),
                    role,
                    executed: GtidSet::new(),
                    received: GtidSet::new(),
                    purged: GtidSet::new(),
                    open: false,
                    stuck: None,
                })),
            )
        }
    }

    fn slave(term: u64) -> NodeReport {
        let role = Role::Slave {
            term: Term(term),
            source: "db-1".into(),
            address: String::new(),
            receiver: Receiver::Receiving { age_ms: 0 },
            applier: Applier::Running,
            caught_up: true,
        };
        report(role)
    }

    #[test]
    fn a_former_master_stays_closed_until_nobody_is_led_to_it_as_to_the_master() {
        let begun = clock::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let (source, other) = (NodeId::from("db-1"), NodeId::from("db-0"));
        let mut former = Former::default();
        let mut closed = |report: &NodeReport, term, master, millis| {
            former.must_stay_closed(report, (Term(term), master), at(millis))
        };
        assert!(closed(&report(Role::Idle), 1, Some(&other), 0), "fenced");
        assert!(closed(&slave(2), 1, Some(&other), 100), "an old word");
        assert!(closed(&slave(2), 2, None, 3000), "the master changes still");
        assert!(
            closed(&slave(2), 2, Some(&source), 4000),
            "clients are led away from now on"
        );
        assert!(
            closed(&report(Role::Idle), 2, Some(&source), 5000),
            "its server restarts"
        );
        assert!(closed(&slave(2), 2, Some(&source), 5900));
        assert!(!closed(&slave(2), 2, Some(&source), 6000));
        assert!(
            closed(&slave(3), 3, Some(&source), 6100),
            "a new master, a new time"
        );
    }

    #[test]
    fn it_opens_also_where_no_operator_says_a_word() {
        let begun = clock::now();
        let mut former = Former::default();
        let mut closed = |millis| {
            former.must_stay_closed(&slave(2), (Term(1), None), begun + Duration::from_millis(millis))
        };
        assert!(closed(0) && closed(9900));
        assert!(!closed(10_000));
    }
}
