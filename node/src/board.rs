//! What is known of this node now, and the report made of it.
//!
//! The writers are the store (durable facts), the supervision (process events), the probe (the server's answers),
//! the clone and the shutdown. The report is a pure function of these. A change that matters is sent to all
//! sessions at once; what changes all the time (sets, ages) travels with the heartbeat.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use api::kept::Kept;
use failover::{Applier, GtidSet, Millis, NodeReport, Receiver, Role, Server, ServerState, Tail};
use tokio::sync::broadcast;

use crate::{
    clock,
    guard::Said,
    mysql::status::{Service, Status},
    store::Memory,
};

/// So many times in a row mysqld may end by itself without having served anybody, before its data counts as damaged.
const FUTILE_LIVES: u32 = 5;
/// They must have gone on for so long: what is around the data fails for moments too.
const FUTILE_FOR: Duration = Duration::from_mins(1);
/// A server that answers for so long has begun, whether it is let serve or not.
const HAS_BEGUN: Duration = Duration::from_mins(1);
/// Where a new beginning did not help, another is not tried before so many seconds.
const BETWEEN_BEGINNINGS: u64 = 600;

/// One life of a mysqld process: its pid and its number since the supervisor began.
pub type Life = (i32, u64);

/// mysqld as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The agent has just begun: there may be a server, and it may lead. Nothing may be concluded from its silence.
    Unknown,
    /// The volume is claimed by a mysqld that this pod does not command, such as that of an earlier pod. It may lead or
    /// acknowledge.
    Foreign,
    /// No process.
    Down {
        /// Why.
        cause: String,
    },
    /// A process that this agent saw begin, fenced as every boot is, and that has not answered yet.
    Starting,
    /// A process that answers no more.
    Hung {
        /// Milliseconds since its last answer.
        silent_ms: Millis,
    },
    /// Its answer.
    Up(Box<Status>),
}

/// Lives of mysqld in a row that it ended by itself before it had begun.
#[derive(Debug, Default)]
struct Futile {
    lives: u32,
    since: Option<Instant>,
    /// How the last one ended.
    how: String,
}

impl Futile {
    fn count(&mut self, how: &str) {
        self.lives += 1;
        self.since.get_or_insert_with(clock::now);
        how.clone_into(&mut self.how);
    }

    fn damaged(&self) -> Option<String> {
        let long = self.since.is_some_and(|since| since.elapsed() >= FUTILE_FOR);
        (long && self.lives >= FUTILE_LIVES).then(|| self.how.clone())
    }
}

#[derive(Debug)]
struct Facts {
    memory: Memory,
    life: Option<Life>,
    /// The process has neither served clients nor answered for long.
    begins: bool,
    /// Since when it answers.
    answers: Option<Instant>,
    futile: Futile,
    held: Option<Instant>,
    locked_out: Option<Instant>,
    stuck: Option<Instant>,
    seen: Seen,
    stopping: bool,
    released: bool,
    cloning: Option<u8>,
    refused_clones: u32,
    closed: Option<String>,
    closings: u64,
    standstills: u64,
    discards: u64,
    said: Said,
    kept: Option<Arc<Kept>>,
}

/// An operator is connected.
#[derive(Debug)]
pub struct Presence(#[expect(dead_code, reason = "it is counted")] Arc<()>);

/// The facts and those who are told.
#[derive(Debug)]
pub struct Board {
    facts: Mutex<(Facts, Arc<NodeReport>)>,
    operators: Arc<()>,
    urgent: broadcast::Sender<Arc<NodeReport>>,
}

impl Board {
    /// Begins with what was remembered; of the server nothing is known.
    pub fn new(memory: Memory) -> Self {
        let facts = Facts {
            memory,
            life: None,
            begins: false,
            answers: None,
            futile: Futile::default(),
            held: None,
            locked_out: None,
            stuck: None,
            seen: Seen::Unknown,
            stopping: false,
            released: false,
            cloning: None,
            refused_clones: 0,
            closed: None,
            closings: 0,
            standstills: 0,
            discards: 0,
            said: Said::default(),
            kept: None,
        };
        let report = Arc::new(report(&facts));
        Self {
            facts: Mutex::new((facts, report)),
            operators: Arc::new(()),
            urgent: broadcast::channel(64).0,
        }
    }

    /// The newest report.
    pub fn report(&self) -> Arc<NodeReport> {
        Arc::clone(&self.lock().1)
    }

    /// Reports of changes that matter, from now on.
    pub fn watch(&self) -> broadcast::Receiver<Arc<NodeReport>> {
        self.urgent.subscribe()
    }

    /// What the server said last, if it is up.
    pub fn status(&self) -> Option<Box<Status>> {
        match &self.lock().0.seen {
            Seen::Up(status) => Some(status.clone()),
            _ => None,
        }
    }

    /// The life of the current process.
    pub fn life(&self) -> Option<Life> {
        self.lock().0.life
    }

    /// False until the supervisor has spoken and a server that it had running was looked at.
    pub fn knows_the_server(&self) -> bool {
        self.lock().0.seen != Seen::Unknown
    }

    /// A process may run on the volume that this pod does not command.
    pub fn foreign(&self) {
        self.update(|facts| {
            (facts.life, facts.held, facts.seen) = (None, None, Seen::Foreign);
            facts.locked_out = None;
        });
    }

    /// True while a process that this agent saw begin has not answered yet.
    pub fn is_starting(&self) -> bool {
        self.lock().0.seen == Seen::Starting
    }

    /// False while a process that this pod does not command may run on the volume.
    pub fn commands_the_server(&self) -> bool {
        self.lock().0.seen != Seen::Foreign
    }

    /// The process ended or never was. `held`: the supervisor keeps it down.
    pub fn down(&self, cause: String, held: bool) {
        self.update(|facts| {
            (facts.life, facts.seen) = (None, Seen::Down { cause });
            facts.held = held.then(|| facts.held.unwrap_or_else(clock::now));
            facts.locked_out = None;
        });
    }

    /// Nobody can log in to mysqld since then; it is reported as a server that answers nothing.
    pub fn locked_out(&self, since: Option<Instant>) {
        self.update(|facts| facts.locked_out = since.filter(|_| facts.life.is_some()));
    }

    /// A write to the volume hangs since then. Whatever mysqld answers, no commit ends, so it is reported as a server that
    /// answers nothing.
    pub fn storage_hangs(&self, since: Option<Instant>) {
        if self.lock().0.stuck != since {
            self.update(|facts| facts.stuck = since);
        }
    }

    /// mysqld ended by itself, in this way, and its data may be why. One that served clients may have ended by what they
    /// asked of it.
    pub fn gave_up(&self, how: &str) {
        self.update(|facts| {
            let fresh = facts
                .memory
                .discarded
                .is_some_and(|at| clock::unix_seconds().saturating_sub(at) < BETWEEN_BEGINNINGS);
            if std::mem::take(&mut facts.begins) && !fresh {
                facts.futile.count(how);
            }
        });
    }

    /// mysqld is about to be opened to clients: how it ends from now on says nothing of its data.
    pub fn opens(&self) {
        let facts = &mut self.lock().0;
        (facts.begins, facts.futile) = (false, Futile::default());
    }

    /// For how long mysqld has been kept down; `None` where it is not.
    pub fn held_ms(&self) -> Option<Millis> {
        self.lock().0.held.map(clock::millis_since)
    }

    /// To be held by a session for as long as its operator is connected.
    pub fn presence(&self) -> Presence {
        Presence(Arc::clone(&self.operators))
    }

    /// How many operators are connected.
    pub fn operators(&self) -> usize {
        Arc::strong_count(&self.operators) - 1
    }

    /// A process was started.
    pub fn started(&self, life: Life) {
        self.runs(life, Seen::Starting);
    }

    /// A process ran when this agent began: what an earlier agent made of it is not known before it is looked at.
    pub fn found(&self, life: Life) {
        self.runs(life, Seen::Unknown);
    }

    fn runs(&self, life: Life, seen: Seen) {
        self.update(|facts| {
            if facts.life != Some(life) {
                (facts.life, facts.held, facts.seen) = (Some(life), None, seen);
                (facts.begins, facts.answers) = (true, None);
            }
        });
    }

    /// The process `life` answered, or is silent; ignored when it is not the current one.
    pub fn seen(&self, life: Life, seen: Seen) {
        self.update(|facts| {
            if facts.life != Some(life) {
                return;
            }
            if let Seen::Up(status) = &seen {
                let since = *facts.answers.get_or_insert_with(clock::now);
                if facts.begins && (!status.offline || since.elapsed() >= HAS_BEGUN) {
                    (facts.begins, facts.futile) = (false, Futile::default());
                }
            }
            facts.seen = seen;
        });
    }

    /// The durable facts changed.
    pub fn remember(&self, memory: Memory) {
        self.update(|facts| {
            if memory.volume != facts.memory.volume {
                facts.futile = Futile::default();
            }
            facts.discards += u64::from(memory.discarded != facts.memory.discarded);
            facts.memory = memory;
        });
    }

    /// A clone is under way, or not.
    pub fn cloning(&self, hundredths: Option<u8>) {
        self.update(|facts| facts.cloning = hundredths);
    }

    /// A clone ended before the node's data was given up.
    pub fn clone_refused(&self) {
        self.update(|facts| {
            facts.cloning = None;
            facts.refused_clones = facts.refused_clones.saturating_add(1);
        });
    }

    /// The guard has closed the server, for this reason, or the node does not lead.
    pub fn closed(&self, why: Option<String>) {
        if why.is_none() && self.lock().0.closed.is_none() {
            return;
        }
        self.update(|facts| {
            facts.closings += u64::from(why.is_some() && facts.closed.is_none());
            facts.closed = why;
        });
    }

    /// How often the guard has closed the server.
    pub fn closings(&self) -> u64 {
        self.lock().0.closings
    }

    /// The applier stood still and mysqld is killed for it.
    pub fn stood_still(&self) {
        self.lock().0.standstills += 1;
    }

    /// How often mysqld was killed because its applier stood still.
    pub fn standstills(&self) -> u64 {
        self.lock().0.standstills
    }

    /// How often damaged data was thrown away.
    pub fn discards(&self) -> u64 {
        self.lock().0.discards
    }

    /// A leading operator spoke.
    pub fn hear(&self, said: Said) {
        self.lock().0.said = said;
    }

    /// What a leading operator said last.
    pub fn said(&self) -> Said {
        self.lock().0.said.clone()
    }

    /// These transactions are kept as files. It travels with the next report.
    pub fn keeps(&self, kept: Kept) {
        self.lock().0.kept = Some(Arc::new(kept));
    }

    /// The transactions that are kept as files; `None` while that is not known.
    pub fn kept(&self) -> Option<Arc<Kept>> {
        self.lock().0.kept.clone()
    }

    /// The pod was told to stop.
    pub fn stopping(&self) {
        self.update(|facts| facts.stopping = true);
    }

    /// An agent that was told to stop need not wait to be relieved.
    pub fn release(&self) {
        let facts = &mut self.lock().0;
        facts.released = facts.stopping;
    }

    /// True once [`Board::release`] was called on a stopping agent.
    pub fn is_released(&self) -> bool {
        self.lock().0.released
    }

    fn update(&self, change: impl FnOnce(&mut Facts)) {
        let mut locked = self.lock();
        change(&mut locked.0);
        let next = Arc::new(report(&locked.0));
        let matters = differs(&locked.1, &next);
        locked.1 = Arc::clone(&next);
        if matters {
            // Without a session there is nobody to tell.
            let _ = self.urgent.send(next);
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Facts, Arc<NodeReport>)> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(facts: &Facts) -> NodeReport {
    let memory = &facts.memory;
    let server = match &facts.seen {
        Seen::Down { cause } => Server::Down { cause: cause.clone() },
        Seen::Unknown | Seen::Foreign | Seen::Starting => Server::Starting,
        Seen::Hung { silent_ms } => Server::Hung {
            silent_ms: *silent_ms,
        },
        Seen::Up(_) if let Some(since) = facts.locked_out.or(facts.stuck) => Server::Hung {
            silent_ms: clock::millis_since(since),
        },
        Seen::Up(status) => Server::Up(Box::new(ServerState {
            uuid: status.uuid.clone(),
            version: status.version.clone(),
            role: role(memory, status, facts.cloning.is_some()),
            executed: status.executed.clone(),
            received: status
                .channel
                .as_ref()
                .map_or_else(GtidSet::new, |channel| channel.received.clone()),
            purged: status.purged.clone(),
            open: !status.offline,
            stuck: stuck(status),
        })),
    };
    NodeReport {
        term: memory.term,
        fenced: memory.fenced.filter(|_| !contradicts_fence(facts)),
        followed: memory.followed.as_ref().map(|told| failover::observed::Followed {
            term: told.term,
            source: told.source.clone(),
        }),
        promoted: memory.promoted.as_ref().map(|promoted| promoted.term),
        stopping: facts.stopping,
        cloning: facts.cloning,
        refused_clones: facts.refused_clones,
        tail: match facts.held {
            Some(_) => Some(Tail::Held),
            None => memory.tail.clone(),
        },
        closed: facts.closed.clone(),
        damaged: facts.futile.damaged(),
        ..NodeReport::new(memory.volume.clone(), server)
    }
}

/// A server that takes writes is not fenced, whatever was stored. A clone opens it for its own statement.
fn contradicts_fence(facts: &Facts) -> bool {
    matches!(&facts.seen, Seen::Up(status) if !status.super_read_only && facts.cloning.is_none())
}

/// The error that keeps the applier from what was received.
fn stuck(status: &Status) -> Option<String> {
    let channel = status.channel.as_ref()?;
    let behind = !status.executed.contains(&channel.received);
    let stopped = channel.applier == Service::Off && !channel.applier_error.is_empty();
    (stopped && behind).then(|| channel.applier_error.clone())
}

/// What the server does: its own variables say what it can do, the memory in which term it was told to.
fn role(memory: &Memory, status: &Status, cloning: bool) -> Role {
    if memory.fenced.is_some() || cloning {
        return Role::Idle;
    }
    if let Some(promoted) = &memory.promoted
        && promoted.start == status.start
        && !status.super_read_only
    {
        let waiting = status.waiting;
        return Role::Master {
            term: promoted.term,
            acks: if status.source_on { status.acks } else { 0 },
            waiting,
        };
    }
    if let (Some(followed), Some(channel)) = (&memory.followed, &status.channel)
        && followed.start == status.start
    {
        let error = channel.receiver_error.clone();
        return Role::Slave {
            term: followed.term,
            source: followed.source.clone(),
            address: followed.address.clone(),
            receiver: match channel.receiver {
                Service::On => Receiver::Receiving {
                    age_ms: channel.age_ms,
                },
                Service::Connecting => Receiver::Connecting { error },
                Service::Off => Receiver::Stopped { error },
            },
            applier: match channel.applier {
                Service::Off => Applier::Stopped {
                    error: channel.applier_error.clone(),
                },
                _ => Applier::Running,
            },
            caught_up: status.executed.contains(&followed.until),
        };
    }
    Role::Idle
}

/// True where the two differ in more than what changes all the time.
fn differs(old: &NodeReport, new: &NodeReport) -> bool {
    quiet(old) != quiet(new)
}

fn quiet(report: &NodeReport) -> NodeReport {
    let mut quiet = report.clone();
    match &mut quiet.server {
        Server::Hung { silent_ms } => *silent_ms = 0,
        Server::Up(state) => {
            (state.executed, state.received, state.purged) = Default::default();
            match &mut state.role {
                Role::Slave {
                    receiver: Receiver::Receiving { age_ms },
                    ..
                } => *age_ms = 0,
                Role::Master { waiting, .. } => *waiting = 0,
                _ => {}
            }
        }
        _ => {}
    }
    quiet
}

#[cfg(test)]
mod tests {
    use failover::Term;

    use super::*;
    use crate::store::{Promoted, new_volume};

    fn memory() -> Memory {
        Memory {
            volume: new_volume(),
            term: Term(1),
            fenced: None,
            followed: None,
            promoted: None,
            tail: None,
            led: false,
            discarded: None,
        }
    }

    fn up(start: u32, super_read_only: bool) -> Seen {
        Seen::Up(Box::new(Status {
            start,
            super_read_only,
            ..Status::default()
        }))
    }

    #[test]
    fn a_server_whose_volume_hangs_is_reported_as_hung_though_it_answers() {
        let board = Board::new(memory());
        board.started((7, 1));
        board.seen((7, 1), up(1, true));
        board.storage_hangs(Some(clock::now()));
        assert!(matches!(board.report().server, Server::Hung { .. }));
        assert!(board.status().is_some(), "commands still reach it");
        board.storage_hangs(None);
        assert!(matches!(board.report().server, Server::Up(_)));
    }

    #[test]
    fn data_counts_as_damaged_where_the_server_dies_again_and_again_without_having_served() {
        let board = Board::new(memory());
        let dies = |number, seen: Option<Seen>| {
            board.started((7, number));
            if let Some(seen) = seen {
                board.seen((7, number), seen);
            }
            board.gave_up("killed by SIGABRT");
            board.down("killed by SIGABRT".to_owned(), false);
        };
        let closed = || {
            Some(Seen::Up(Box::new(Status {
                offline: true,
                ..Status::default()
            })))
        };
        let last_for = |board: &Board| {
            let first = clock::now().checked_sub(FUTILE_FOR);
            board.lock().0.futile.since = first;
        };
        for number in 0..4 {
            dies(number, closed());
        }
        dies(4, Some(up(1, true)));
        assert_eq!(board.lock().0.futile.lives, 0, "readers may have killed it");
        for number in 5..9 {
            dies(number, closed());
        }
        last_for(&board);
        assert!(board.report().damaged.is_none(), "too few");
        dies(9, None);
        assert_eq!(board.report().damaged.as_deref(), Some("killed by SIGABRT"));
        let again = Memory {
            volume: new_volume(),
            ..memory()
        };
        board.remember(again.clone());
        assert!(board.report().damaged.is_none(), "other data");
        for number in 10..20 {
            dies(number, None);
        }
        assert!(board.report().damaged.is_none(), "too short a time");
        board.remember(Memory {
            discarded: Some(clock::unix_seconds()),
            ..again
        });
        board.opens();
        for number in 20..30 {
            dies(number, None);
        }
        assert_eq!(
            board.lock().0.futile.lives,
            0,
            "it was made anew and that did not help"
        );
    }

    #[test]
    fn an_end_of_the_process_is_told_even_when_it_runs_again_at_once() {
        let board = Board::new(memory());
        let mut told = board.watch();
        board.started((7, 1));
        board.seen((7, 1), up(1, true));
        board.down("killed".to_owned(), false);
        board.started((8, 2));
        board.seen((7, 1), up(1, true));
        let servers: Vec<Server> = std::iter::from_fn(|| told.try_recv().ok())
            .map(|r| r.server.clone())
            .collect();
        assert!(matches!(
            servers[..],
            [Server::Up(_), Server::Down { .. }, Server::Starting]
        ));
    }

    #[test]
    fn a_server_that_was_found_running_is_unknown_until_it_was_looked_at() {
        let board = Board::new(memory());
        assert!(!board.knows_the_server());
        board.found((7, 1));
        assert!(!board.knows_the_server(), "it may be a master");
        board.seen((7, 1), up(1, false));
        assert!(board.knows_the_server());
        board.started((8, 2));
        assert!(board.knows_the_server(), "every boot is fenced");
    }

    #[test]
    fn a_stored_fence_is_not_reported_of_a_server_that_takes_writes() {
        let fenced = Memory {
            fenced: Some(Term(2)),
            ..memory()
        };
        let board = Board::new(fenced);
        board.found((7, 1));
        board.seen((7, 1), up(1, true));
        assert_eq!(board.report().fenced, Some(Term(2)));
        board.seen((7, 1), up(1, false));
        assert_eq!(board.report().fenced, None);
        board.cloning(Some(0));
        assert_eq!(
            board.report().fenced,
            Some(Term(2)),
            "CLONE needs it open to itself"
        );
    }

    #[test]
    fn an_operator_counts_for_as_long_as_its_session_lasts_and_nobody_else_does() {
        let board = Board::new(memory());
        let _listener = board.watch();
        assert_eq!(board.operators(), 0);
        let present = board.presence();
        assert_eq!(board.operators(), 1);
        drop(present);
        assert_eq!(board.operators(), 0);
    }

    #[test]
    fn a_restarted_master_is_idle_because_its_life_is_another_one() {
        let promoted = Promoted {
            term: Term(1),
            acks: 1,
            set: GtidSet::new(),
            start: 5,
        };
        let memory = Memory {
            promoted: Some(promoted),
            ..memory()
        };
        let status = |id, ro| Status {
            start: id,
            super_read_only: ro,
            ..Status::default()
        };
        assert!(matches!(
            role(&memory, &status(5, false), false),
            Role::Master { .. }
        ));
        assert_eq!(role(&memory, &status(5, true), false), Role::Idle);
        assert_eq!(role(&memory, &status(6, false), false), Role::Idle);
        let fenced = Memory {
            fenced: Some(Term(1)),
            ..memory
        };
        assert_eq!(role(&fenced, &status(5, false), false), Role::Idle);
    }
}
