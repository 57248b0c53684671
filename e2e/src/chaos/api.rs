//! Clients of the data API in the long run: writers whose rows carry keys, readers that ask other nodes with the tokens of
//! those rows, and one that reads registers at whoever leads.
//!
//! A row whose outcome is unknown is asked for again with its key, which can do nothing twice; the history shows it as one
//! write. What is not answered well is no answer: only what a node promises is held against it.

use std::{
    ops::RangeFrom,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use history::{Did, Line, Op, Outcome, Process, READS_FROM_OTHERS};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    clients::{Common, IDS_PER_PROCESS},
    shared::Nodes,
};
use crate::{
    clock::Clock,
    database::Database,
    https::{Client, Entrance, Reply},
};

const WRITERS: usize = 2;
/// From one row of a writer to its next.
const WRITE_EVERY: Duration = Duration::from_millis(150);
const READ_EVERY: Duration = Duration::from_millis(100);
/// For one try to write: longer than a request waits for a master by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// A row is asked for again for so long.
const GIVEN_UP: Duration = Duration::from_secs(20);
/// For one read.
const READ: Duration = Duration::from_secs(2);
/// Before the same is asked for again.
const PAUSE: Duration = Duration::from_millis(50);

const SINGLES: &str = "/v1/databases/chaos/tables/singles/rows";
const REGISTERS: &str = "/v1/databases/chaos/tables/registers/rows";

/// Clients at work; dropping them ends them.
pub struct ApiClients(JoinSet<()>);

/// A row and the state that shows it.
#[derive(Debug, Clone)]
struct Token {
    id: i64,
    token: String,
}

impl ApiClients {
    /// Begins; their processes are counted from `first` on.
    pub async fn start(common: &Common, database: &Database, nodes: &Nodes, first: u32) -> Result<Self> {
        let entrance = Entrance::service(database).await?;
        let mut number = first..;
        let mut clients = JoinSet::new();
        let mut tokens = Vec::new();
        for node in database.pods().await? {
            let (sender, receiver) = mpsc::channel(4);
            tokens.push((node.name.clone(), sender));
            let reader = TokenReader {
                base: Base::new(common, &mut number, READS_FROM_OTHERS, &node.name),
                node: node.name,
                nodes: nodes.clone(),
                entrance: entrance.clone(),
                tokens: receiver,
                open: None,
            };
            clients.spawn(reader.run());
        }
        for _ in 0..WRITERS {
            let writer = Writer {
                base: Base::new(common, &mut number, "apiinserts", "any"),
                client: Client::new(entrance.clone()),
                tokens: tokens.clone(),
            };
            clients.spawn(writer.run());
        }
        let leader = LeaderReader {
            base: Base::new(common, &mut number, "apileaderreads", "any"),
            client: Client::new(entrance),
        };
        clients.spawn(leader.run());
        Ok(Self(clients))
    }

    /// Lets what is under way end; they are told to by what stops the others.
    pub async fn finish(mut self) -> Result<()> {
        while let Some(client) = self.0.join_next().await {
            client.context("a client of the data API ended badly")?;
        }
        Ok(())
    }
}

/// What each has.
struct Base {
    process: u32,
    common: Common,
}

impl Base {
    /// The next client, of which the history is told.
    fn new(common: &Common, next: &mut RangeFrom<u32>, work: &str, through: &str) -> Self {
        let process = next.start;
        next.start += 1;
        common.recorder.line(Line::Process(Process {
            process,
            work: work.to_owned(),
            through: through.to_owned(),
            steady: false,
        }));
        Self {
            process,
            common: common.clone(),
        }
    }

    fn goes_on(&self) -> bool {
        !self.common.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.common.recorder.now()
    }

    /// Writes down what ended just now.
    fn record(&self, begun: u64, node: &str, did: Did, outcome: Outcome) {
        self.common.recorder.line(Line::Op(Op {
            process: self.process,
            begun,
            ended: self.now(),
            node: node.to_owned(),
            term: self.common.watcher.term(),
            outcome,
            did,
        }));
    }
}

struct Writer {
    base: Base,
    client: Client,
    tokens: Vec<(String, mpsc::Sender<Token>)>,
}

impl Writer {
    async fn run(mut self) {
        let mut id = i64::from(self.base.process) * IDS_PER_PROCESS;
        while self.base.goes_on() {
            id += 1;
            let begun = self.base.now();
            let (outcome, reply) = self.insert(id).await;
            let node = reply.as_ref().map_or("-", Reply::node);
            self.base.record(begun, node, Did::Insert { id }, outcome);
            // The reply to a repeated request names no state.
            if let Some(token) = reply.as_ref().and_then(|reply| reply.header("write-token")) {
                self.give(id, node, token);
            }
            sleep(WRITE_EVERY).await;
        }
    }

    /// Asks for the row until there is a good answer; gives that where there is one.
    async fn insert(&mut self, id: i64) -> (Outcome, Option<Reply>) {
        let row = json!({"id": id});
        let key = format!("chaos-{id}");
        let headers = [("idempotency-key", key.as_str())];
        let clock = Clock::start();
        let resent = self.client.resent();
        let mut is_first = true;
        while clock.at() < GIVEN_UP {
            let asked = self
                .client
                .ask("POST", SINGLES, &headers, Some(&row), PATIENCE)
                .await;
            match asked {
                Ok(reply) if matches!(reply.status, 200 | 201) => return (Outcome::Ok, Some(reply)),
                // The only try, of which the node says that it changed nothing: that is held against it.
                Ok(reply)
                    if is_first && resent == self.client.resent() && reply.outcome() == "not-applied" =>
                {
                    return (Outcome::Fail, None);
                }
                Ok(_) | Err(_) => {}
            }
            is_first = false;
            sleep(PAUSE).await;
        }
        (Outcome::Unknown, None)
    }

    /// Only other nodes are asked: on the master the state is there anyhow.
    fn give(&self, id: i64, node: &str, token: &str) {
        for (of, reader) in &self.tokens {
            if of != node {
                // A reader that is behind gets a later one.
                let _ = reader.try_send(Token {
                    id,
                    token: token.to_owned(),
                });
            }
        }
    }
}

struct TokenReader {
    base: Base,
    node: String,
    nodes: Nodes,
    entrance: Entrance,
    tokens: mpsc::Receiver<Token>,
    open: Option<(String, Client)>,
}

impl TokenReader {
    async fn run(mut self) {
        while self.base.goes_on() {
            let received = timeout(Duration::from_millis(200), self.tokens.recv()).await;
            let Ok(Some(token)) = received else { continue };
            let Some(address) = self.nodes.get(&self.node).map(|node| node.host) else {
                continue;
            };
            let begun = self.base.now();
            let (node, did, outcome) = self.read(&address, &token).await;
            self.base.record(begun, &node, did, outcome);
        }
    }

    async fn read(&mut self, address: &str, token: &Token) -> (String, Did, Outcome) {
        let Token { id, token, .. } = token;
        let mut client = match self.open.take() {
            Some((of, client)) if of == address => client,
            _ => Client::new(self.entrance.node(&self.node, address)),
        };
        let path = format!("{SINGLES}?select=id&id=eq.{id}");
        let asked = client.ask("GET", &path, &[("after", token)], None, READ).await;
        self.open = Some((address.to_owned(), client));
        let (id, none) = (*id, Did::Token { id: *id, found: 0 });
        match asked {
            Ok(reply) if reply.status == 200 => {
                let found = rows(&reply).len() as u64;
                (reply.node().to_owned(), Did::Token { id, found }, Outcome::Ok)
            }
            Ok(reply) if reply.is_problem("token-lost") => {
                (reply.node().to_owned(), Did::TokenLost { id }, Outcome::Ok)
            }
            Ok(reply) => (reply.node().to_owned(), none, Outcome::Fail),
            Err(_) => (self.node.clone(), none, Outcome::Unknown),
        }
    }
}

struct LeaderReader {
    base: Base,
    client: Client,
}

impl LeaderReader {
    async fn run(mut self) {
        let Base { process, common } = &self.base;
        let mut random = ChaCha8Rng::seed_from_u64(common.seed.wrapping_add(u64::from(*process)));
        let registers = Arc::clone(&common.registers);
        while self.base.goes_on() {
            let register = registers.to_read(&mut random);
            let path = format!("{REGISTERS}?select=value&register=eq.{register}");
            let begun = self.base.now();
            let asked = self
                .client
                .ask("GET", &path, &[("consistency", "leader")], None, READ)
                .await;
            let node = asked.as_ref().map_or("-", Reply::node);
            let answered = asked.as_ref().ok().and_then(|reply| got(register, reply));
            let outcome = if answered.is_some() {
                Outcome::Ok
            } else {
                Outcome::Unknown
            };
            let nothing = Did::Get {
                register,
                value: None,
            };
            self.base
                .record(begun, node, answered.unwrap_or(nothing), outcome);
            sleep(READ_EVERY).await;
        }
    }
}

fn rows(reply: &Reply) -> &[Value] {
    reply.body["rows"].as_array().map_or(&[], Vec::as_slice)
}

/// The reading of a register, whose value is none before the first write; none where the reply does not say.
fn got(register: i64, reply: &Reply) -> Option<Did> {
    let value = match reply.body["rows"].as_array()?.as_slice() {
        [] => None,
        [row] => Some(row["value"].as_i64()?),
        _ => return None,
    };
    Some(Did::Get { register, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_read_as_a_number_or_as_not_written_yet() {
        let read = |rows: Value| got(3, &Reply::of(200, json!({"rows": rows, "next": null})));
        let value = |value| Some(Did::Get { register: 3, value });
        assert_eq!(
            read(json!([{"value": 4_294_967_297_i64}])),
            value(Some(4_294_967_297))
        );
        assert_eq!(read(json!([])), value(None));
        assert_eq!(read(json!([{"value": "7"}])), None);
        assert_eq!(got(3, &Reply::of(503, Value::Null)), None);
    }
}
