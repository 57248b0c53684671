//! The agent's guard, as `node/src/guard.rs` has it around the pure `failover::guard`, and the observer's own account of
//! whom a master could hear.

use failover::{
    Millis, Term,
    guard::{self, FRESH, GUARD, Master, Peer, Verdict, Word},
};

use crate::{
    event::{Node, Op},
    invariant::Invariant,
    machine::{Machine, name},
    mutant::Mutant,
    world::{NODES, World},
};

/// What the agent's guard has in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Guard {
    /// The term it leads in, and since when that is known.
    pub leads: Option<(u64, Millis)>,
    /// The leading operator's last word.
    pub word: Option<Word>,
    /// The nodes that are asked, a bit each.
    pub known: u16,
    /// Their last answers.
    pub peers: [Option<Peer>; NODES],
    /// It has closed the server.
    pub closed: bool,
}

/// What the observer knows of whom a master could hear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Contacts {
    /// When an operator's word last arrived, or the mastership or its agent began.
    operator: Millis,
    /// When each node could last be asked.
    reachable: [Millis; NODES],
    /// When each node was last attached besides.
    attached: [Millis; NODES],
}

impl Contacts {
    fn begin(&mut self, now: Millis) {
        (self.operator, self.reachable, self.attached) = (now, [now; NODES], [now; NODES]);
    }

    /// When `wanted` of the nodes were last heard.
    fn heard(mut at: [Millis; NODES], node: Node, wanted: u32) -> Millis {
        at[node] = 0;
        at.sort_unstable();
        at[NODES - (wanted as usize).clamp(1, NODES)]
    }
}

/// The term in which the node leads, as its agent reports it.
fn leads(machine: &Machine) -> Option<u64> {
    let (memory, server) = (&machine.disk.memory, machine.awake()?);
    let promoted = memory
        .promoted
        .as_ref()
        .filter(|it| it.server == server.life && memory.fenced.is_none())?;
    (!server.read_only && machine.agent.cloning.is_none()).then_some(promoted.term)
}

impl World {
    /// Every operator that looks tells the masters whether they are the ones of its record.
    pub(crate) fn give_words(&mut self, op: Op) {
        let now = self.now;
        let Some(record) = self.operators[op].record.clone() else {
            return;
        };
        let known = (0..NODES).filter(|node| record.members.contains_key(&name(*node)));
        let known = known.fold(0, |all, node| all | 1 << node);
        for node in 0..NODES {
            let there = self.operators[op].links[node].alive && self.sends(self.actor(op), node);
            let machine = &mut self.machines[node];
            if !there || !machine.agent.up || machine.agent.frozen || leads(machine).is_none() {
                continue;
            }
            let named = record.master == Some(name(node)) && record.intent.is_none();
            machine.agent.guard.word = Some(Word {
                at: now,
                names: named.then_some(record.term),
            });
            machine.agent.guard.known |= known;
            self.ledger.contacts[node].operator = now;
        }
    }

    /// Every agent's guard looks.
    pub(crate) fn guards_look(&mut self) {
        if self.mutant == Some(Mutant::FenceBesideClone) {
            // It shows only while the old master is alone, and the guard would hide it by dropping the clients.
            return;
        }
        for node in 0..NODES {
            let machine = &self.machines[node];
            if machine.agent.up && !machine.agent.frozen && machine.awake().is_some() {
                self.guard(node);
            }
        }
    }

    fn guard(&mut self, node: Node) {
        let now = self.now;
        let machine = &mut self.machines[node];
        let Some(term) = leads(machine) else {
            machine.agent.guard = Guard::default();
            return self.ledger.contacts[node].begin(now);
        };
        if machine.agent.guard.leads.is_none_or(|(known, _)| known != term) {
            let word = machine.agent.guard.word;
            machine.agent.guard = Guard {
                leads: Some((term, now)),
                word,
                ..Guard::default()
            };
            self.ledger.contacts[node].begin(now);
        }
        self.ask_peers(node);
        let machine = &self.machines[node];
        let (agent, Some(server)) = (&machine.agent, machine.awake()) else {
            return;
        };
        let mut master = Master {
            term: Term(term),
            acks: if server.source_on { server.acks } else { 0 },
            open: !server.offline,
            stored: Term(machine.disk.memory.term),
            since: agent.guard.leads.map_or(now, |(_, since)| since),
        };
        let mut peers: Vec<Peer> = agent.guard.peers.into_iter().flatten().collect();
        match self.mutant {
            Some(Mutant::GuardForgetsSlaves) => peers.clear(),
            Some(Mutant::GuardForgetsTerms) => {
                master.stored = Term(term);
                for peer in &mut peers {
                    (peer.term, peer.fenced) = (Term(term), false);
                }
            }
            _ => {}
        }
        match guard::judge(master, agent.guard.word, &peers, now) {
            Verdict::Close(_) => self.close(node, term, master.acks),
            // A command under way is not disturbed; the executor carries an opening out between two.
            Verdict::Open(_) if agent.running.is_none() => self.reopen(node, term),
            _ => {}
        }
        self.require_closed(node, master.acks);
    }

    /// The nodes that are known or attached are asked for their terms.
    fn ask_peers(&mut self, node: Node) {
        let now = self.now;
        for other in (0..NODES).filter(|other| *other != node) {
            let theirs = &self.machines[other];
            let attached = theirs.disk.channel == Some(node)
                && theirs.awake().is_some_and(|server| server.connected)
                && self.machines[node].awake().is_some_and(|server| !server.offline);
            let answers = theirs.pod != 0
                && theirs.agent.up
                && !theirs.agent.frozen
                && self.reaches(node, other)
                && self.reaches(other, node);
            let peer = Peer {
                at: now,
                term: Term(theirs.disk.memory.term),
                fenced: theirs.disk.memory.fenced.is_some(),
            };
            let guard = &mut self.machines[node].agent.guard;
            guard.known |= u16::from(attached) << other;
            if answers && guard.known & (1 << other) != 0 {
                guard.peers[other] = Some(peer);
            }
            let contacts = &mut self.ledger.contacts[node];
            if answers {
                contacts.reachable[other] = now;
            }
            if answers && attached {
                contacts.attached[other] = now;
            }
        }
    }

    fn close(&mut self, node: Node, term: u64, acks: u32) {
        if self.mutant == Some(Mutant::GuardNeverCloses) {
            return;
        }
        let now = self.now;
        let contacts = &self.ledger.contacts[node];
        let heard = contacts
            .operator
            .max(Contacts::heard(contacts.attached, node, acks));
        let replaced = self.machines.iter().any(|it| it.disk.memory.term > term);
        self.require(
            replaced || now.saturating_sub(heard) >= GUARD,
            Invariant::HealthyMasterStaysOpen,
            |_| {
                format!(
                    "db-{node} closes itself though it heard enough {} ms ago",
                    now - heard
                )
            },
        );
        self.machines[node].agent.guard.closed = true;
        if self.mutant == Some(Mutant::GuardReleasesCommits) {
            if let Some(server) = &mut self.machines[node].server {
                server.source_on = false;
            }
            self.settle(node);
        }
        if let Some(server) = &mut self.machines[node].server {
            server.offline = true;
        }
        self.drop_slaves_of(node);
    }

    fn reopen(&mut self, node: Node, term: u64) {
        let now = self.now;
        let named = self.machines[node]
            .agent
            .guard
            .word
            .is_some_and(|word| word.names == Some(Term(term)));
        // What others did since they answered cannot be known, nor what was forced without those who would have known.
        let alone = self.ledger.opened <= term.max(self.ledger.given_up)
            || now.saturating_sub(self.ledger.opened_at) <= FRESH;
        let stored = self.machines[node].disk.memory.term;
        self.require(
            stored <= term && (named || alone),
            Invariant::ClosedUntilConfirmed,
            |world| {
                format!(
                    "db-{node} opens again in term {term} though it knows term {stored} and term {} has a master",
                    world.ledger.opened
                )
            },
        );
        self.machines[node].agent.guard.closed = false;
        if let Some(server) = &mut self.machines[node].server {
            server.offline = false;
        }
        self.on_readable(node);
    }

    fn require_closed(&mut self, node: Node, acks: u32) {
        let now = self.now;
        let contacts = &self.ledger.contacts[node];
        let heard = contacts
            .operator
            .max(Contacts::heard(contacts.reachable, node, acks));
        let open = self.machines[node].awake().is_some_and(|server| !server.offline);
        self.require(
            acks == 0 || !open || now.saturating_sub(heard) <= GUARD,
            Invariant::IsolatedMasterCloses,
            |_| {
                format!(
                    "db-{node} keeps its clients {} ms after it was cut off",
                    now - heard
                )
            },
        );
    }
}
