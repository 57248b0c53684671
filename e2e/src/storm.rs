//! A fault under load, from the first write to the proof: the shape that tests, demonstration and benchmark share.

use std::time::Duration;

use anyhow::Result;

use crate::{
    clock::Clock,
    database::{Database, Node},
    ledger::Ledger,
    proof::{self, Proof},
    reader::{Reader, Reads},
    sql::Address,
    watcher::{Change, Watcher},
    writer::{Habits, Writers},
};

/// From a fault to everything Ready again.
pub const HEALED: Duration = Duration::from_mins(2);
const WRITES_BOUND: Duration = Duration::from_secs(30);

/// Writers, a reader of the slaves and a watcher at work.
pub struct Storm<'a> {
    database: &'a Database,
    /// The zero of everything noted here.
    pub clock: Clock,
    /// The writers.
    pub writers: Writers,
    table: String,
    watcher: Watcher,
    reader: Reader,
    term: u64,
    before: Vec<Node>,
}

/// What was left after it.
pub struct Aftermath {
    /// What the writers were told.
    pub ledger: Ledger,
    /// When the slaves could be read.
    pub reads: Reads,
    /// What the nodes hold.
    pub proof: Proof,
    /// Every change of label and status.
    pub changes: Vec<Change>,
    /// The pods before.
    pub before: Vec<Node>,
    /// The pods after.
    pub after: Vec<Node>,
    /// When everything was Ready again.
    pub healed: Duration,
    /// The term before.
    pub term: u64,
}

impl<'a> Storm<'a> {
    /// Begins, and returns when writes are being acknowledged.
    pub async fn begin(database: &'a Database, habits: &Habits) -> Result<Self> {
        Self::begin_at(database, habits, &database.master_address().await?).await
    }

    /// The same with writers that connect elsewhere than to the master's Service.
    pub async fn begin_at(database: &'a Database, habits: &Habits, address: &Address) -> Result<Self> {
        let clock = Clock::start();
        let watcher = Watcher::start(&database.client, &database.namespace, &database.name, clock);
        let before = database.pods().await?;
        let term = database.status().await?.record.term.0;
        let writers = Writers::start(address, clock, habits).await?;
        let reader = Reader::start(database.slaves_address().await?, clock, &habits.table);
        writers
            .wait_for_more(u64::from(habits.writers) * 40, WRITES_BOUND)
            .await?;
        let table = habits.table.clone();
        Ok(Self {
            database,
            clock,
            writers,
            table,
            watcher,
            reader,
            term,
            before,
        })
    }

    /// The pods before.
    pub fn before(&self) -> &[Node] {
        &self.before
    }

    /// Waits for a master in a new term and for health, lets the writers go on for a little, and looks.
    pub async fn after_new_master(self, schemas: &[&str]) -> Result<Aftermath> {
        self.database.wait_healed(self.term, HEALED).await?;
        self.look(schemas).await
    }

    /// The same where the master is to stay; that it did is for the caller to say.
    pub async fn after_same_master(self, schemas: &[&str]) -> Result<Aftermath> {
        self.database.wait_healthy(HEALED).await?;
        self.look(schemas).await
    }

    async fn look(self, schemas: &[&str]) -> Result<Aftermath> {
        let Self {
            database,
            clock,
            writers,
            table,
            watcher,
            reader,
            term,
            before,
        } = self;
        let healed = clock.at();
        writers.wait_for_more(40, WRITES_BOUND).await?;
        let reads = reader.finish().await?;
        let ledger = writers.finish().await?;
        let after = database.pods().await?;
        let proof = proof::prove(database, &ledger, &table, schemas).await?;
        let changes = watcher.finish()?;
        Ok(Aftermath {
            ledger,
            reads,
            proof,
            changes,
            before,
            after,
            healed,
            term,
        })
    }
}
