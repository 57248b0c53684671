//! What follows from a settled role without a command: a slave that has caught up is opened for readers, a master
//! forgets its former source, keeps the application's account, frees commits whose acknowledgement was lost and forgets the
//! data API's old keys.
//!
//! It must not decide about roles; everything it does is checked again where it is carried out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use failover::{NodeReport, Role, Server, Term};
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

/// A former master stays closed for so long after it began to follow. The master's Service led to it, and proxies
/// may do so for a second and a little more: clients that they lead here would take a slave for the master, read what
/// is old by now, and stay. A closed server ends them, and they come to the new master with the next attempt.
const STILL_LED_HERE_MS: u64 = 2000;

/// Whether clients may still be led here as to the master.
#[derive(Debug, Default)]
struct Former {
    /// It has led since it was last opened as a slave.
    led: bool,
    /// Since when it follows, and in which term.
    follows: Option<(Term, Instant)>,
}

impl Former {
    /// Takes in what the node is now; true while it must stay closed.
    fn must_stay_closed(&mut self, report: &NodeReport, now: Instant) -> bool {
        let Server::Up(state) = &report.server else {
            self.led |= report.promoted.is_some();
            return self.led;
        };
        self.led |= report.promoted.is_some() || matches!(state.role, Role::Master { .. });
        if let Role::Slave { term, .. } = state.role
            && self.led
        {
            let since = match self.follows {
                Some((known, since)) if known == term => since,
                _ => {
                    self.follows = Some((term, now));
                    now
                }
            };
            let still = now.saturating_duration_since(since) < Duration::from_millis(STILL_LED_HERE_MS);
            self.led = still;
            if !still {
                self.follows = None;
            }
        }
        self.led
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
        let rests = mastership
            .as_ref()
            .is_some_and(|held| clock::millis_since(held.since) > FORGET_AFTER_MS)
            && agent
                .board
                .status()
                .is_some_and(|status| status.channel.is_some());
        let closed = former.must_stay_closed(&report, clock::now());
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
        account::keep(&agent),
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

    fn report(promoted: Option<u64>, role: Role) -> NodeReport {
        NodeReport {
            volume: "v".into(),
            term: Term(2),
            fenced: None,
            followed: None,
            promoted: promoted.map(Term),
            stopping: false,
            cloning: None,
            tail: None,
            closed: None,
            server: Server::Up(Box::new(ServerState {
                uuid: String::new(),
                version: String::new(),
                role,
                executed: GtidSet::new(),
                received: GtidSet::new(),
                purged: GtidSet::new(),
                open: false,
                stuck: None,
            })),
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
        report(None, role)
    }

    #[test]
    fn a_former_master_stays_closed_until_nobody_is_led_to_it_as_to_the_master() {
        let begun = clock::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut former = Former::default();
        assert!(!former.must_stay_closed(&slave(1), at(0)), "it never led");
        former.must_stay_closed(&report(Some(1), Role::Idle), at(10));
        assert!(
            former.must_stay_closed(&report(None, Role::Idle), at(20)),
            "fenced"
        );
        assert!(
            former.must_stay_closed(&slave(2), at(5000)),
            "it follows from now on"
        );
        assert!(former.must_stay_closed(&slave(2), at(6900)));
        assert!(
            former.must_stay_closed(&slave(3), at(6950)),
            "a new master, a new time"
        );
        assert!(former.must_stay_closed(&slave(3), at(8900)));
        assert!(!former.must_stay_closed(&slave(3), at(8950)));
        assert!(
            !former.must_stay_closed(&slave(4), at(9000)),
            "it has been a slave since"
        );
    }

    #[test]
    fn a_restart_of_the_server_begins_no_new_time() {
        let begun = clock::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut former = Former::default();
        former.must_stay_closed(&report(Some(1), Role::Idle), at(0));
        assert!(former.must_stay_closed(&slave(2), at(0)));
        assert!(former.must_stay_closed(&report(None, Role::Idle), at(1000)));
        assert!(!former.must_stay_closed(&slave(2), at(2000)));
    }
}
