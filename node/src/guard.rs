//! The node's guard: a master that hears neither the leading operator nor enough slaves drops its clients, and lets
//! them in again when it is confirmed. What it hears is gathered here; `failover::guard` judges it.
//!
//! It never ends a commit that waits, in whichever way, and never makes a master: it opens only a server that a command
//! made one, through the executor, so that no command is under way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::wire::{PROBE_PORT, host_and_port};
use failover::{
    Millis, NodeReport, Role, Server, Term,
    guard::{self, Master, Peer, Verdict, Word},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, info, warn};

use crate::{agent::Agent, clock, executor::Order};

const TICK: Duration = Duration::from_millis(100);
/// How often the other nodes are asked.
const ASK_EVERY: Millis = 400;
/// How long an answer may take: less than the guard time, and long enough for a machine that is busy.
const ANSWER: Duration = Duration::from_millis(1500);
/// How often the slaves' addresses are read from the server itself.
const LOOK_EVERY: Millis = 5000;
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 4096;

/// What a leading operator said last, as the sessions hand it over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// What it said of this node.
    pub word: Option<Word>,
    /// Where the other members answer: address and port of their probes.
    pub peers: Vec<String>,
}

/// A mastership as the guard follows it.
#[derive(Debug)]
struct Watched {
    term: Term,
    since: Millis,
    peers: BTreeMap<String, Peer>,
    attached: Vec<String>,
    asked_at: Millis,
    looked_at: Millis,
}

/// Guards for ever.
pub async fn run(agent: Arc<Agent>, executor: mpsc::Sender<Order>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (answered, mut answers) = mpsc::channel(64);
    let mut asking = JoinSet::new();
    let mut watched: Option<Watched> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some((address, peer)) = answers.recv() => {
                if let Some(watched) = &mut watched {
                    watched.peers.insert(address, peer);
                }
            }
        }
        while asking.try_join_next().is_some() {}
        let now = clock::uptime();
        let report = agent.board.report();
        if matches!(report.server, Server::Hung { .. }) {
            // What it is cannot be asked, and what it was is not over: the guard time goes on.
            continue;
        }
        let Some(master) = leads(&report) else {
            watched = None;
            agent.board.closed(None);
            continue;
        };
        let mastership = match watched.take().filter(|known| known.term == master.term) {
            Some(known) => watched.insert(known),
            None => watched.insert(Watched {
                term: master.term,
                since: now,
                peers: BTreeMap::new(),
                attached: Vec::new(),
                asked_at: 0,
                looked_at: 0,
            }),
        };
        let said = agent.board.said();
        if master.acks > 0 {
            mastership.look(&agent, master.open, now).await;
            mastership.ask(&agent, &said, &answered, &mut asking, now);
        }
        let master = Master {
            since: mastership.since,
            ..master
        };
        let peers: Vec<Peer> = mastership.peers.values().copied().collect();
        match guard::judge(master, said.word, &peers, now) {
            Verdict::Stay => {}
            Verdict::Close(why) => close(&agent, why).await,
            Verdict::Open(why) => {
                debug!(why, "this master may open again");
                if executor.try_send(Order::Reopen { term: master.term }).is_err() {
                    warn!("the executor takes no orders");
                }
            }
        }
    }
}

/// The node as master, where it is one.
fn leads(report: &NodeReport) -> Option<Master> {
    let Server::Up(state) = &report.server else {
        return None;
    };
    let Role::Master { term, acks, .. } = state.role else {
        return None;
    };
    Some(Master {
        term,
        acks,
        open: state.open,
        stored: report.term,
        since: 0,
    })
}

/// `offline_mode` drops clients at once and waits for no commit; what waits inside goes on waiting.
async fn close(agent: &Agent, why: String) {
    warn!(why, "this master closes itself to clients");
    if let Err(error) = agent.mysql.side().await.offline_on().await {
        warn!(%error, "mysqld does not close");
        return;
    }
    agent.board.closed(Some(why));
    agent.probe.refresh(Duration::from_millis(300)).await;
}

impl Watched {
    /// Learns from the server who is attached; an operator that is away cannot say it.
    async fn look(&mut self, agent: &Agent, open: bool, now: Millis) {
        if !open || (self.looked_at > 0 && now < self.looked_at + LOOK_EVERY) {
            return;
        }
        self.looked_at = now;
        match agent.mysql.side().await.attached().await {
            Ok(hosts) => self.attached = hosts.iter().map(|host| host_and_port(host, PROBE_PORT)).collect(),
            Err(error) => info!(%error, "the attached slaves are not known"),
        }
    }

    fn ask(
        &mut self,
        agent: &Agent,
        said: &Said,
        answered: &mpsc::Sender<(String, Peer)>,
        asking: &mut JoinSet<()>,
        now: Millis,
    ) {
        if self.asked_at > 0 && now < self.asked_at + ASK_EVERY {
            return;
        }
        self.asked_at = now;
        let attached = self.attached.iter().filter(|host| !said.peers.contains(host));
        for address in said.peers.iter().chain(attached) {
            let (address, cluster) = (address.clone(), agent.settings.cluster.clone());
            let answered = answered.clone();
            asking.spawn(async move {
                if let Ok(Some(peer)) = timeout(ANSWER, ask(&address, &cluster)).await {
                    // Only the end of the agent closes the channel.
                    let _ = answered.send((address, peer)).await;
                }
            });
        }
    }
}

/// What a node's `/ping` says, as far as the guard needs it.
#[derive(Debug, Deserialize)]
struct Ping {
    cluster: String,
    term: Term,
    fenced: bool,
}

/// Asks another node; `None` where what answers is none of this database.
async fn ask(address: &str, cluster: &str) -> Option<Peer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /ping HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer).await.ok()?;
    parse(&answer, cluster)
}

fn parse(answer: &str, cluster: &str) -> Option<Peer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 200") {
        return None;
    }
    let ping: Ping = serde_json::from_str(body).ok()?;
    (ping.cluster == cluster).then(|| Peer {
        at: clock::uptime(),
        term: ping.term,
        fenced: ping.fenced,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_the_same_database_counts() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\
                      {\"status\":\"ok\",\"node\":\"b\",\"cluster\":\"u\",\"role\":null,\"term\":4,\"fenced\":true}";
        let peer = parse(answer, "u").unwrap();
        assert_eq!((peer.term, peer.fenced), (Term(4), true));
        assert!(parse(answer, "another").is_none());
        assert!(parse(&answer.replace("200", "503"), "u").is_none());
        assert!(parse("HTTP/1.1 200 OK\r\n\r\nhello", "u").is_none());
    }
}
