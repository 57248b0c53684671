//! After the attack: every fault is taken back, everything goes on in a fixed and fair order, and the database must
//! be whole again within a bound.

use std::fmt::Write as _;

use failover::{Decision, record::acks_for};

use crate::{
    bits::Txn,
    event::{Event, Node},
    generate::round,
    invariant::{Invariant, Violation},
    ledger::index,
    machine::name,
    statement::Statement,
    world::{NODES, World},
};

/// So many rounds of 25 ms recovery may take.
const ROUNDS: u32 = 2400;

/// Two operators that both lead take a change that waits for a person over from each other, and try it anew. One of the
/// two says that it waits within so many rounds.
const SAYS_SO: u32 = 800;
/// A person who is told that a node's data is kept names it for so many rounds, and then another such node.
const NAMED: u32 = 100;

/// How a recovery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Everything is ready and equal.
    Whole,
    /// More volumes were replaced than N and W bear, so the engine rightly waits for a person.
    Blocked,
}

impl World {
    /// Heals, and demands that the database recovers. Counts events into `events`.
    pub fn recover(&mut self, events: &mut u64) -> Result<Recovery, Violation> {
        self.heal();
        let (mut wrote, mut waited) = (None, false);
        for round in 0..ROUNDS {
            self.fair_round(round, events);
            waited |= round + SAYS_SO >= ROUNDS && self.waits_for_a_person();
            if let Some(violation) = &self.violation {
                return Err(violation.clone());
            }
            let Some(master) = self.settled() else { continue };
            let term = self.api.record.term;
            match wrote {
                // Whoever wrote in an older term may never have heard of it.
                Some((txn, before)) if before == term && !self.ledger.acknowledged.has(txn) => {}
                Some((txn, _)) if self.ledger.acknowledged.has(txn) => return self.verdict(master),
                _ if !self.ledger.is_full() => {
                    let txn = Txn::try_from(self.ledger.txns.len()).unwrap_or(Txn::MAX);
                    wrote = Some((txn, term));
                    *events += u64::from(self.apply(Event::Write { node: master }));
                }
                _ => return self.verdict(master),
            }
        }
        if self.is_beyond_help(waited) {
            return Ok(Recovery::Blocked);
        }
        let invariant = if wrote.is_none() && self.master().is_none() {
            Invariant::WritableAgain
        } else {
            Invariant::AllReadyAndEqual
        };
        Err(Violation {
            invariant,
            what: format!("{ROUNDS} rounds after the last fault: {}", self.picture()),
        })
    }

    fn heal(&mut self) {
        self.cut = Default::default();
        (self.api.asked.fence, self.api.asked.paused) = (0, false);
        for node in 0..NODES {
            self.apply(Event::Thaw { node });
            self.apply(Event::ThawAgent { node });
            self.machines[node].disk.divergent = false;
            if self.machines[node]
                .server
                .as_ref()
                .is_some_and(|server| server.stuck)
            {
                self.say(node, Statement::StartApplier);
            }
        }
        // A second one that leads, too, must not keep the first from healing.
        self.apply(Event::StartOperator { op: 0 });
    }

    fn fair_round(&mut self, nth: u32, events: &mut u64) {
        *events += u64::from(self.apply(Event::Wait { ms: 25 }));
        if nth.is_multiple_of(NAMED)
            && let Some(node) = self.kept_though_damaged((nth / NAMED) as usize)
            && self.api.asked.resync != Some(node)
        {
            *events += u64::from(self.apply(Event::Resync { node }));
        }
        for event in round(self) {
            // Clients rest, so that slaves can catch up and the sets can be compared; the agent writes where an
            // acknowledgement was lost.
            let rests = match event {
                Event::Write { node } => !self.lost_acknowledgement(node),
                _ => false,
            };
            if !rests {
                *events += u64::from(self.apply(event));
            }
        }
    }

    /// One of the nodes whose damaged data a forced promotion gave up: only a person says that it is of no use.
    fn kept_though_damaged(&self, nth: usize) -> Option<Node> {
        let forced = self.api.record.forced.as_ref()?;
        let unjudged = forced.unjudged.iter().map(index);
        let all: Vec<Node> = unjudged
            .filter(|node| self.machines[*node].disk.damaged)
            .collect();
        all.get(nth % all.len().max(1)).copied()
    }

    fn waits_for_a_person(&self) -> bool {
        let mut verdicts = self.verdicts.iter().flatten();
        verdicts.any(|report| report.decision == Decision::Blocked)
    }

    /// A commit of `node` waits for slaves that hold it.
    fn lost_acknowledgement(&self, node: Node) -> bool {
        let Some(server) = self.machines[node].server.as_ref() else {
            return false;
        };
        let Some(last) = server.waiting.back() else {
            return false;
        };
        let holds = |other: &Node| {
            let machine = &self.machines[*other];
            self.is_attached(*other, node) && machine.sent.is_empty() && machine.disk.holds().has(last.txn)
        };
        (0..NODES).filter(holds).count() >= server.acks as usize
    }

    /// The master of the record, if it is open and labelled.
    fn master(&self) -> Option<Node> {
        let record = &self.api.record;
        let master = index(record.master.as_ref().filter(|_| record.intent.is_none())?);
        let machine = &self.machines[master];
        let server = machine.awake()?;
        let promoted = machine.disk.memory.promoted.as_ref()?;
        let leads = promoted.term == record.term.0 && promoted.server == server.life;
        let labelled = self.api.pods[master].as_ref().is_some_and(|pod| pod.master);
        (leads && labelled && !server.read_only && !server.offline).then_some(master)
    }

    /// The master, once every wanted node follows it, is a member, and holds what it holds.
    fn settled(&self) -> Option<Node> {
        let master = self.master()?;
        let record = &self.api.record;
        let wanted = self.api.nodes;
        if record.size != wanted
            || record.acks != acks_for(wanted)
            || self.api.wish.is_some()
            || self.is_asked()
        {
            return None;
        }
        let members = (0..NODES).filter(|node| record.members.contains_key(&name(*node)));
        let ready = |node: Node| node == master || self.is_held(node, master) || self.follows(node, master);
        let whole = self.intact_members().len() == wanted as usize || self.quarantine;
        (whole && members.into_iter().all(ready) && self.is_member(master)).then_some(master)
    }

    fn is_asked(&self) -> bool {
        self.api.asked.force.is_some() || self.api.asked.resync.is_some()
    }

    fn is_member(&self, node: Node) -> bool {
        self.intact_members().contains(&node) && self.api.record.members.contains_key(&name(node))
    }

    fn follows(&self, node: Node, master: Node) -> bool {
        let machine = &self.machines[node];
        let told = machine.disk.memory.followed.as_ref();
        let server = machine
            .awake()
            .filter(|server| server.connected && server.applier && !server.offline);
        let right = told.zip(server).is_some_and(|(told, server)| {
            told.term == self.api.record.term.0 && told.source == master && told.server == server.life
        });
        right
            && self.ledger.identifiers(&machine.disk.log)
                == self.ledger.identifiers(&self.machines[master].disk.log)
    }

    /// A node with errant transactions that the policy says to hold, or without which writes would wait.
    fn is_held(&self, node: Node, master: Node) -> bool {
        let others = (0..NODES).filter(|other| *other != node && self.is_attached(*other, master));
        let is_needed = self.is_attached(node, master) && others.count() < self.api.record.acks as usize;
        (self.quarantine || is_needed)
            && !self.machines[master]
                .disk
                .log
                .contains(&self.machines[node].disk.holds())
    }

    fn is_attached(&self, node: Node, master: Node) -> bool {
        let machine = &self.machines[node];
        machine.disk.channel == Some(master) && machine.awake().is_some_and(|server| server.connected)
    }

    fn verdict(&self, master: Node) -> Result<Recovery, Violation> {
        let log = self.machines[master].disk.log;
        let bad = |what: String, invariant| Err(Violation { invariant, what });
        if !log.contains(&self.ledger.acknowledged) {
            return bad(
                format!("db-{master} lacks acknowledged writes in the end"),
                Invariant::AcknowledgedWritesSurvive,
            );
        }
        for node in (0..NODES).filter(|node| self.is_member(*node)) {
            if self.machines[node].disk.log != log && !self.is_held(node, master) {
                return bad(
                    format!("db-{node} and db-{master} say they are equal and are not"),
                    Invariant::ExactRejoin,
                );
            }
        }
        Ok(Recovery::Whole)
    }

    /// More volumes are gone than can be lost, or nodes that hold different things are all held by policy.
    fn is_beyond_help(&self, waited: bool) -> bool {
        // With no member to spare a single tail may be one acknowledged write or none: nobody can tell.
        let spare = self.intact_members().len() > self.api.record.fence_quorum();
        let odd = !spare || !self.ledger.errant.is_empty() || self.ledger.given_up > 0;
        self.intact_members().len() < self.api.record.fence_quorum() || (odd && waited) || self.quarantine
    }

    /// The state in a line, for a message.
    pub fn picture(&self) -> String {
        let record = &self.api.record;
        let mut text = format!(
            "term {} master {:?} intent {} N {} W {} members {:?} wanted {} wish {:?} verdicts {:?};",
            record.term,
            record.master.as_ref().map(index),
            record.intent.is_some(),
            record.size,
            record.acks,
            self.intact_members(),
            self.api.nodes,
            self.api.wish,
            self.verdicts
                .iter()
                .flatten()
                .map(|it| (it.decision, &it.waiting_for, &it.notes))
                .collect::<Vec<_>>(),
        );
        for (node, machine) in self.machines.iter().enumerate() {
            let memory = &machine.disk.memory;
            let kind = match (&machine.server, machine.pod) {
                (_, 0) => "gone",
                (None, _) => "down",
                (Some(server), _) if server.connected => "attached",
                (Some(_), _) => "up",
            };
            let _ = write!(
                text,
                " db-{node} {kind} term {} fenced {:?} followed {:?} promoted {:?} log {} relay {} source {:?};",
                memory.term,
                memory.fenced,
                memory.followed.as_ref().map(|it| (it.term, it.source)),
                memory.promoted.as_ref().map(|it| it.term),
                machine.disk.log.iter().count(),
                machine.disk.relay.len(),
                machine.disk.channel,
            );
        }
        text
    }
}
