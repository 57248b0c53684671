//! What an all-knowing observer writes down: every transaction and all that was ever promised. No part of the
//! modelled system reads it; the invariants do.

use std::collections::{BTreeMap, BTreeSet};

use failover::{GtidSet, Millis, Record};

use crate::{
    bits::{Bits, CAPACITY, Txn},
    event::Node,
    guard::Contacts,
    world::NODES,
};

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// The server that committed it, by the number of its UUID.
    pub uuid: u32,
    /// Its number there.
    pub number: u64,
    /// Everything its master's binary log held before it.
    pub after: Bits,
    /// The first transaction with the same identifier: another one only where an identifier was given twice.
    pub twin: Txn,
    /// Every node that had it on its disk by replication, a bit each, but for those that gave it up by command since.
    pub reached: u16,
}

/// The observer's notes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// Every transaction ever written.
    pub txns: Vec<Transaction>,
    /// Those whose client was told OK.
    pub acknowledged: Bits,
    /// Those that could be read at an open master.
    pub readable: Bits,
    /// Those that somebody wrote on a slave.
    pub errant: Bits,
    /// Identifiers were given twice at some time.
    pub twins: bool,
    /// Fences that were ever durable: node, volume, term.
    pub fences: BTreeSet<(Node, u32, u64)>,
    /// The last record of each term.
    pub records: BTreeMap<u64, RecordNote>,
    /// Which node was promoted in each term.
    pub promoted: BTreeMap<u64, Node>,
    /// The highest term in which a client was told OK.
    pub told: u64,
    /// The highest term in which a node was opened for writes.
    pub opened: u64,
    /// When that was.
    pub opened_at: Millis,
    /// What it had executed then.
    pub opened_with: Bits,
    /// What people typed to force a promotion.
    pub typed: Vec<(Node, u64)>,
    /// The terms that were taken by force, with the node that was named.
    pub forced: BTreeMap<u64, Node>,
    /// The operators that had the node promoted then, with the term.
    pub asked: BTreeSet<(usize, u64)>,
    /// The highest of them in which the node was opened: what older terms still acknowledge is given up.
    pub given_up: u64,
    /// What forced masters showed though too few others hold it.
    pub unsure: Bits,
    /// Whom each node could hear as master.
    pub contacts: [Contacts; NODES],
}

/// What matters of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordNote {
    /// N − W.
    pub quorum: usize,
    /// W.
    pub acks: usize,
    /// The members, by index, with their volumes.
    pub members: Vec<(Node, String)>,
    /// The master that only rests in this term.
    pub rests: Option<Node>,
}

impl RecordNote {
    /// The note of `record`.
    pub fn of(record: &Record) -> Self {
        Self {
            quorum: record.fence_quorum(),
            acks: record.acks as usize,
            members: record
                .members
                .iter()
                .map(|(node, volume)| (index(node), volume.as_str().to_owned()))
                .collect(),
            rests: record
                .intent
                .as_ref()
                .filter(|intent| intent.kind == failover::Kind::Rest)
                .and_then(|intent| intent.to.as_ref())
                .map(index),
        }
    }
}

/// The index in a node's name.
pub fn index(node: &failover::NodeId) -> Node {
    node.as_str()
        .bytes()
        .last()
        .map_or(0, |digit| usize::from(digit.wrapping_sub(b'0')))
}

/// The text of a server's UUID.
pub fn uuid_text(uuid: u32) -> String {
    format!("00000000-0000-0000-0000-{uuid:012}")
}

impl Ledger {
    /// True when no further transaction fits.
    pub fn is_full(&self) -> bool {
        self.txns.len() >= CAPACITY
    }

    /// Writes a transaction down that `uuid` makes with `log` in its binary log. Like MySQL it takes the smallest
    /// number that is free there.
    pub fn create(&mut self, uuid: u32, log: &Bits) -> Txn {
        let mut taken: Vec<u64> = log
            .iter()
            .map(|txn| self.get(txn))
            .filter(|it| it.uuid == uuid)
            .map(|it| it.number)
            .collect();
        taken.sort_unstable();
        let number = (1..)
            .zip(&taken)
            .find(|(free, number)| free != *number)
            .map_or(taken.len() as u64 + 1, |(free, _)| free);
        let txn = Txn::try_from(self.txns.len()).unwrap_or(Txn::MAX);
        let twin = self
            .txns
            .iter()
            .position(|it| it.uuid == uuid && it.number == number);
        self.twins |= twin.is_some();
        let twin = twin.and_then(|at| Txn::try_from(at).ok()).unwrap_or(txn);
        self.txns.push(Transaction {
            uuid,
            number,
            after: *log,
            twin,
            reached: 0,
        });
        txn
    }

    /// The transaction.
    pub fn get(&self, txn: Txn) -> &Transaction {
        &self.txns[usize::from(txn)]
    }

    /// The set as MySQL sees it: transactions with one identifier are one.
    pub fn identifiers(&self, set: &Bits) -> Bits {
        if self.twins {
            set.iter().map(|txn| self.get(txn).twin).collect()
        } else {
            *set
        }
    }

    /// What of `set` the server `uuid` made.
    pub fn made_by(&self, set: &Bits, uuid: u32) -> Bits {
        set.iter().filter(|txn| self.get(*txn).uuid == uuid).collect()
    }

    /// The set in MySQL's words.
    pub fn gtids(&self, set: &Bits) -> GtidSet {
        let mut runs: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for txn in set.iter() {
            let it = self.get(txn);
            runs.entry(it.uuid).or_default().push(it.number);
        }
        let mut all = GtidSet::new();
        for (uuid, mut numbers) in runs {
            numbers.sort_unstable();
            let text = uuid_text(uuid);
            let mut rest = numbers.into_iter().peekable();
            while let Some(from) = rest.next() {
                let mut to = from;
                while let Some(next) = rest.next_if(|next| *next <= to + 1) {
                    to = next;
                }
                all = all.with(&text, from, to);
            }
        }
        all
    }
}
