//! The clients of the long run. Each does one thing after the other and records what it was told; none ever repeats a
//! write whose outcome is unknown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use history::{Did, Line, Op, Outcome, Process};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::MySqlConnection;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    recorder::Recorder,
    shared::{Current, Nodes},
    statements,
};
use crate::{
    sql::{self, Address},
    watcher::Watcher,
    writer::is_refusal,
};

/// For a connection, from the first packet to the login.
const CONNECT: Duration = Duration::from_millis(500);
/// For one operation through a Service.
const PATIENCE: Duration = Duration::from_secs(2);
/// Those that stay with one node wait long: an old master that acknowledges a commit it had kept waiting must be heard.
const LONG_PATIENCE: Duration = Duration::from_secs(20);
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);
/// How long a slave is given to execute a token, in seconds.
const TOKEN_WAIT: u64 = 1;
const COUNTERS: u32 = 4;
/// Ids of different processes never meet.
pub const IDS_PER_PROCESS: i64 = 1 << 32;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Single rows.
    Inserts,
    /// Single rows, each followed by a token for the readers.
    Tokens,
    /// Transactions over two tables.
    Pairs,
    /// Counters.
    Counts,
    /// Appends to lists, and reads of them.
    Lists,
    /// Writes and reads of registers.
    Registers,
    /// Reads of lists only.
    ListReads,
    /// Reads of rows whose token the slave has executed.
    TokenReads,
}

/// Where a client connects.
#[derive(Clone)]
pub enum Place {
    /// Always to this Service.
    Service(&'static str, Address),
    /// To this node, wherever its pod is.
    Node(String, Nodes),
}

/// A client to be.
pub struct Client {
    /// What it does.
    pub work: Work,
    /// Where.
    pub place: Place,
    /// From the beginning of one operation to that of the next.
    pub every: Duration,
    /// Its pauses are outages.
    pub steady: bool,
}

/// What all clients use.
#[derive(Clone)]
pub struct Common {
    /// Where everything is written down.
    pub recorder: Recorder,
    /// Knows the term.
    pub watcher: Arc<Watcher>,
    /// Registers in use.
    pub registers: Arc<Current>,
    /// Lists in use.
    pub lists: Arc<Current>,
    /// Set once they are to end.
    pub stop: Arc<AtomicBool>,
    /// What the clients choose by chance depends on it.
    pub seed: u64,
}

/// Clients at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Begins.
    pub fn start(common: &Common, clients: Vec<Client>) -> Self {
        let (tokens, receivers): (Vec<_>, Vec<_>) = clients
            .iter()
            .filter(|client| client.work == Work::TokenReads)
            .map(|_| mpsc::channel(4))
            .unzip();
        let mut receivers = receivers.into_iter();
        let mut tasks = Vec::new();
        for (number, client) in (1..).zip(clients) {
            let through = match &client.place {
                Place::Service(name, _) => (*name).to_owned(),
                Place::Node(node, _) => node.clone(),
            };
            common.recorder.line(Line::Process(Process {
                process: number,
                work: format!("{:?}", client.work).to_lowercase(),
                through,
                steady: client.steady,
            }));
            let receiver = match client.work {
                Work::TokenReads => receivers.next(),
                _ => None,
            };
            let running = Running {
                process: number,
                random: ChaCha8Rng::seed_from_u64(common.seed.wrapping_add(u64::from(number))),
                next_id: i64::from(number) * IDS_PER_PROCESS,
                common: common.clone(),
                tokens: tokens.clone(),
                receiver,
                client,
            };
            tasks.push(tokio::spawn(running.run()));
        }
        let stop = Arc::clone(&common.stop);
        Self { stop, tasks }
    }

    /// Lets operations under way end.
    pub async fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.context("a client ended badly")?;
        }
        Ok(())
    }
}

/// A row and what a slave must have executed to show it.
struct Token {
    id: i64,
    set: String,
}

struct Session {
    connection: MySqlConnection,
    node: String,
}

struct Running {
    process: u32,
    random: ChaCha8Rng,
    next_id: i64,
    common: Common,
    tokens: Vec<mpsc::Sender<Token>>,
    receiver: Option<mpsc::Receiver<Token>>,
    client: Client,
}

impl Running {
    async fn run(mut self) {
        let mut session = None;
        while !self.common.stop.load(Ordering::Relaxed) {
            let Some(mut open) = self.take_or_connect(&mut session).await else {
                sleep(RECONNECT_PAUSE).await;
                continue;
            };
            let recorder = self.common.recorder.clone();
            let begun = recorder.now();
            let Some((did, outcome)) = self.one(&mut open).await else {
                session = Some(open);
                continue;
            };
            let ended = recorder.now();
            recorder.line(Line::Op(Op {
                process: self.process,
                begun,
                ended,
                node: open.node.clone(),
                term: self.common.watcher.term(),
                outcome,
                did,
            }));
            let busy = Duration::from_micros(ended - begun);
            let (keep, pause) = match (outcome, &self.client.place) {
                (Outcome::Ok, _) => (true, self.client.every.saturating_sub(busy)),
                // A slave refuses as long as it is one: asked seldom, but on the same connection.
                (Outcome::Fail, Place::Node(..)) => (true, Duration::from_millis(50)),
                (Outcome::Fail, _) => (false, RECONNECT_PAUSE),
                // Dropped, not closed in order: a closing handshake with a dead server would be part of the outage.
                (Outcome::Unknown, _) => (false, Duration::ZERO),
            };
            session = keep.then_some(open);
            sleep(pause).await;
        }
    }

    async fn take_or_connect(&self, session: &mut Option<Session>) -> Option<Session> {
        if let Some(open) = session.take() {
            return Some(open);
        }
        let address = match &self.client.place {
            Place::Service(_, address) => address.clone(),
            Place::Node(node, nodes) => nodes.get(node)?,
        };
        let mut connection = sql::connect(&address, CONNECT).await.ok()?;
        let node = timeout(CONNECT, statements::node(&mut connection))
            .await
            .ok()?
            .ok()?;
        if self.client.work == Work::Registers && !self.leads(&mut connection, &node).await? {
            return None;
        }
        Some(Session { connection, node })
    }

    /// What is read at the master is promised to be the newest; so a client makes sure, once for each connection, that it
    /// is there. Of some 300 tries in a failover two were led to the master before the last, six seconds after its Service
    /// had left it (decision 4).
    async fn leads(&self, connection: &mut MySqlConnection, node: &str) -> Option<bool> {
        let takes_writes = timeout(CONNECT, statements::takes_writes(connection)).await;
        let takes_writes = takes_writes.ok()?.ok()?;
        if !takes_writes {
            self.common.recorder.line(Line::Misled {
                at: self.common.recorder.now(),
                process: self.process,
                node: node.to_owned(),
            });
        }
        Some(takes_writes)
    }

    fn patience(&self) -> Duration {
        match self.client.place {
            Place::Service(..) => PATIENCE,
            Place::Node(..) => LONG_PATIENCE,
        }
    }

    fn fresh(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// One operation; none where there is nothing to do yet.
    async fn one(&mut self, session: &mut Session) -> Option<(Did, Outcome)> {
        let patience = self.patience();
        let connection = &mut session.connection;
        let done = match self.client.work {
            Work::Inserts => {
                let id = self.fresh();
                let outcome = within(patience, statements::insert(connection, statements::SINGLES, id)).await;
                (Did::Insert { id }, outcome.1)
            }
            Work::Tokens => {
                let id = self.fresh();
                let outcome = within(patience, statements::insert(connection, statements::SINGLES, id)).await;
                if outcome.1 == Outcome::Ok {
                    self.give_token(connection, id).await;
                }
                (Did::Insert { id }, outcome.1)
            }
            Work::Pairs => {
                let id = self.fresh();
                (Did::Pair { id }, pair(connection, id, patience).await)
            }
            Work::Counts => {
                let counter = format!("c{}", self.random.random_range(0..COUNTERS));
                let outcome = within(patience, statements::count(connection, &counter)).await;
                (Did::Count { counter }, outcome.1)
            }
            Work::Lists if self.random.random_bool(0.8) => {
                let (list, element) = (self.common.lists.to_write(), self.fresh());
                let outcome = within(patience, statements::append(connection, list, element)).await;
                (Did::Append { list, element }, outcome.1)
            }
            Work::Lists | Work::ListReads => {
                let list = self.common.lists.to_read(&mut self.random);
                let (elements, outcome) = within(patience, statements::list(connection, list)).await;
                let elements = elements.unwrap_or_default();
                (Did::Read { list, elements }, outcome)
            }
            Work::Registers if self.random.random_bool(0.5) => {
                let (register, value) = (self.common.registers.to_write(), self.fresh());
                let outcome = within(patience, statements::set(connection, register, value)).await;
                if outcome.1 == Outcome::Unknown {
                    self.common.registers.unknown(register);
                }
                (Did::Set { register, value }, outcome.1)
            }
            Work::Registers => {
                let register = self.common.registers.to_read(&mut self.random);
                let (value, outcome) = within(patience, statements::get(connection, register)).await;
                let value = value.flatten();
                (Did::Get { register, value }, outcome)
            }
            Work::TokenReads => return self.read_with_token(connection).await,
        };
        Some(done)
    }

    /// The token is what the server has executed after the commit, asked on the same connection.
    async fn give_token(&mut self, connection: &mut MySqlConnection, id: i64) {
        if let Ok(Ok(set)) = timeout(PATIENCE, sql::executed(connection)).await {
            for reader in &self.tokens {
                let set = set.clone();
                // A reader that is behind gets a later one.
                let _ = reader.try_send(Token { id, set });
            }
        }
    }

    async fn read_with_token(&mut self, connection: &mut MySqlConnection) -> Option<(Did, Outcome)> {
        let received = timeout(Duration::from_millis(200), self.receiver.as_mut()?.recv()).await;
        let Token { id, set } = received.ok()??;
        let read = async {
            if !sql::wait_executed(connection, &set, TOKEN_WAIT).await? {
                return anyhow::Ok(None);
            }
            Ok(Some(statements::found(connection, id).await?))
        };
        let (found, outcome) = match timeout(PATIENCE, read).await {
            Ok(Ok(Some(found))) => (found, Outcome::Ok),
            Ok(Ok(None)) => (0, Outcome::Fail),
            Ok(Err(_)) | Err(_) => (0, Outcome::Unknown),
        };
        Some((Did::Token { id, found }, outcome))
    }
}

/// Before COMMIT is sent nothing can have happened: the server rolls back what a lost connection had begun.
async fn pair(connection: &mut MySqlConnection, id: i64, patience: Duration) -> Outcome {
    let halves = async {
        statements::begin(connection).await?;
        statements::insert(connection, statements::FIRST, id).await?;
        statements::insert(connection, statements::SECOND, id).await
    };
    match within(patience, halves).await.1 {
        Outcome::Ok => within(patience, statements::commit(connection)).await.1,
        Outcome::Fail | Outcome::Unknown => Outcome::Fail,
    }
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> (Option<T>, Outcome) {
    match timeout(patience, work).await {
        Ok(Ok(value)) => (Some(value), Outcome::Ok),
        Ok(Err(error)) if is_refusal(&error) => (None, Outcome::Fail),
        Ok(Err(_)) | Err(_) => (None, Outcome::Unknown),
    }
}
