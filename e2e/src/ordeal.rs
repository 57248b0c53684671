//! A storm with everything that must hold whatever breaks: no acknowledged write missing, never two pods labelled
//! master, never two nodes that acknowledge, no node that forgets a term, and everything Ready again without a hand.
//! Writes come through the master's Service, through the data API, and from within each pod.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{
    api_writer::{ApiTold, ApiWriters, Pace},
    clock::{Clock, millis},
    database::{Database, Node},
    https::Entrance,
    ledger::Outcome,
    pinned::{Pinned, Told},
    proof, sql,
    sql::Address,
    storm::{Aftermath, Storm},
    terms::TermWatch,
    writer::{Habits, Writers},
};

/// How many clients write through the Service.
const WRITERS: u32 = 3;
/// After a change of endpoints, kube-proxy takes the next at once only after its minSyncPeriod; a database at rest is
/// what users have, not one that a former row has just changed.
pub const REST: Duration = Duration::from_millis(1500);
const WRITES_BOUND: Duration = Duration::from_secs(30);

/// A fault's background.
pub struct Ordeal<'a> {
    /// The database.
    pub database: &'a Database,
    storm: Storm<'a>,
    pinned: Pinned,
    api: ApiWriters,
    terms: TermWatch,
    schema: String,
    cloned: Vec<String>,
    /// The term before.
    pub term: u64,
}

/// What a row found, for its line in the table.
#[derive(Debug, Clone, Default)]
pub struct Finding {
    /// The longest time that a writer was without an acknowledgement, where the row has an outage.
    pub outage: Option<Duration>,
    /// What else is worth a line.
    pub notes: Vec<String>,
}

/// How it ended.
pub struct End {
    /// What the Service's writers saw and what the nodes hold.
    pub aftermath: Aftermath,
    /// What the clients in the pods were told.
    pub told: Told,
    /// What the clients of the data API were told.
    pub api: ApiTold,
    /// What the events told of nodes that were filled from another one meanwhile.
    pub cloned: Vec<String>,
    fault: Duration,
}

impl<'a> Ordeal<'a> {
    /// Begins; `name` becomes the schema that is written to.
    pub async fn begin(database: &'a Database, name: &str) -> Result<Self> {
        Self::begin_with(database, name, WRITERS, &database.master_address().await?).await
    }

    /// The same with so many writers, which connect there.
    pub async fn begin_with(
        database: &'a Database,
        name: &str,
        writers: u32,
        address: &Address,
    ) -> Result<Self> {
        let schema = format!("row_{name}");
        let habits = Habits::of(writers, &format!("{schema}.writes"));
        let term = database.status().await?.record.term.0;
        let entrance = Entrance::service(database).await?;
        let cloned = database.told("Cloned").await?;
        tokio::time::sleep(REST).await;
        let storm = Storm::begin_at(database, &habits, address).await?;
        let terms = TermWatch::start(database, storm.clock).await?;
        let pinned = Pinned::start(database, storm.clock, &format!("{schema}.pinned")).await?;
        let table = format!("{schema}.api");
        let api = ApiWriters::start(database, &entrance, storm.clock, &table, Pace::ASIDE).await?;
        Ok(Self {
            database,
            storm,
            pinned,
            api,
            terms,
            schema,
            cloned,
            term,
        })
    }

    /// Now, on the clock of everything noted here.
    pub fn now(&self) -> Duration {
        self.storm.clock.at()
    }

    /// The zero of everything noted here.
    pub fn clock(&self) -> Clock {
        self.storm.clock
    }

    /// The writers of the Service.
    pub fn writers(&self) -> &Writers {
        &self.storm.writers
    }

    /// The pods before.
    pub fn before(&self) -> &[Node] {
        self.storm.before()
    }

    /// Ends it where the master had to change: waits for that and for health within `bound`, and judges.
    pub async fn end_changed(self, fault: Duration, bound: Duration) -> Result<End> {
        self.database.wait_led(self.term, bound).await?;
        self.end(fault, bound).await
    }

    /// Ends it: waits for health within `bound`, and judges. Whether the master changed is for the caller to say.
    pub async fn end(self, fault: Duration, bound: Duration) -> Result<End> {
        let Self {
            database,
            storm,
            pinned,
            api,
            terms,
            schema,
            cloned,
            term,
        } = self;
        database.wait_healthy(bound).await?;
        storm.writers.wait_for_more(40, WRITES_BOUND).await?;
        // First, because the proof compares their tables too.
        let told = pinned.finish().await?;
        let api = api.finish().await?;
        let aftermath = storm.after_same_master(&[&schema]).await?;
        terms.finish().await?;
        aftermath.proof.check()?;
        // Terms that were taken and led by nobody make this a little mild; a second acknowledging node shows all the
        // same, because it takes turns with the first many times a second.
        let terms = database.status().await?.record.term.0.saturating_sub(term);
        told.check(usize::try_from(terms)?)?;
        for (ledger, table, whose) in [
            (&told.ledger, "pinned", "writes at the nodes' own addresses"),
            (&api.ledger, "api", "rows written through the data API"),
        ] {
            let table = format!("{schema}.{table}");
            let proof = proof::prove(database, ledger, &table, &[]).await?;
            proof.check().context(whose)?;
        }
        let mut now = database.told("Cloned").await?;
        now.retain(|event| !cloned.contains(event));
        // Proofs of later rows must not become slower by what this one left.
        sql::drop_schema(&mut database.master_connection().await?, &schema).await?;
        Ok(End {
            aftermath,
            told,
            api,
            cloned: now,
            fault,
        })
    }
}

impl End {
    /// The longest time without an acknowledgement after the fault.
    pub fn outage(&self) -> Duration {
        self.aftermath.ledger.outage(self.fault)
    }

    /// The master now.
    pub fn master(&self) -> Option<&Node> {
        self.aftermath
            .after
            .iter()
            .find(|node| node.role.as_deref() == Some("master"))
    }

    /// An error if a node was filled from another one: a plain restart must need no copy.
    pub fn nothing_cloned(&self) -> Result<()> {
        ensure!(self.cloned.is_empty(), "cloned: {}", self.cloned.join("; "));
        Ok(())
    }

    /// The pods that have another life or restarted containers, by their names.
    pub fn restarted(&self) -> Vec<String> {
        let same = |node: &Node| {
            let mut after = self.aftermath.after.iter();
            after.any(|other| other.uid == node.uid && other.restarts == node.restarts)
        };
        let changed = self.aftermath.before.iter().filter(|node| !same(node));
        changed.map(|node| node.name.clone()).collect()
    }

    /// Outage and numbers for the table.
    pub fn finding(&self) -> Finding {
        let Aftermath { ledger, healed, .. } = &self.aftermath;
        let count = |outcome| ledger.count(outcome) + self.told.ledger.count(outcome);
        let pieces = ledger.pieces(self.fault);
        let gap = format!(
            "the first writer was cut off {} ms after the fault, let in at {} and answered at {}",
            millis(pieces.cut),
            millis(pieces.login),
            millis(pieces.answer)
        );
        Finding {
            outage: Some(self.outage()),
            notes: vec![
                gap,
                format!(
                    "healed after {} ms; {} acknowledged, {} unknown, {} refused",
                    millis(healed.saturating_sub(self.fault)),
                    count(Outcome::Acknowledged),
                    count(Outcome::Unknown),
                    count(Outcome::Refused),
                ),
                self.api.sentence(),
            ],
        }
    }
}

impl Finding {
    /// With one more line.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
