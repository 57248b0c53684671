//! A client that reads through the slaves' Service all the time: reads must go on while the master changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    clock::Clock,
    gaps,
    sql::{self, Address},
};

const EVERY: Duration = Duration::from_millis(10);
const CONNECT: Duration = Duration::from_millis(250);

/// A reader at work.
pub struct Reader {
    clock: Clock,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Duration>>,
}

/// When reads succeeded.
pub struct Reads {
    /// The moments of success, ascending.
    pub succeeded: Vec<Duration>,
    /// When the reader was stopped.
    pub ended: Duration,
}

impl Reader {
    /// Begins to read from `table`.
    pub fn start(address: Address, clock: Clock, table: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(read(address, clock, table.to_owned(), Arc::clone(&stop)));
        Self { clock, stop, task }
    }

    /// Stops and tells.
    pub async fn finish(self) -> Result<Reads> {
        self.stop.store(true, Ordering::Relaxed);
        let succeeded = self.task.await.context("the reader ended badly")?;
        Ok(Reads {
            succeeded,
            ended: self.clock.at(),
        })
    }
}

impl Reads {
    /// The longest time without a read after `fault`.
    pub fn outage(&self, fault: Duration) -> Duration {
        gaps::longest(&self.succeeded, fault, self.ended)
    }
}

async fn read(address: Address, clock: Clock, table: String, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut succeeded = Vec::new();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        if connection.is_none() {
            connection = sql::connect(&address, CONNECT).await.ok();
        }
        if let Some(mut open) = connection.take()
            && sql::read_one(&mut open, &table).await.is_ok()
        {
            succeeded.push(clock.at());
            connection = Some(open);
        }
        sleep(EVERY).await;
    }
    succeeded
}
