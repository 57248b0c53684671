//! What the clients of a run share: the lists and registers in use, and where each node can be reached now.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::Rng;

use crate::{database::Database, sql::Address};

/// Operations after which clients leave a register or list for a new one: what is judged together stays small.
const MOST: u32 = 32;
/// Operations of unknown outcome after which they leave it.
const MOST_UNKNOWN: u32 = 3;
/// How far back readers look.
const BACK: i64 = 3;

/// Numbered things of which one is in use.
#[derive(Debug, Default)]
pub struct Current(Mutex<Use>);

#[derive(Debug, Default)]
struct Use {
    number: i64,
    used: u32,
    unknown: u32,
}

impl Current {
    /// The one to write now.
    pub fn to_write(&self) -> i64 {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.used >= MOST || now.unknown >= MOST_UNKNOWN {
            *now = Use {
                number: now.number + 1,
                ..Use::default()
            };
        }
        now.used += 1;
        now.number
    }

    /// One to read: mostly that in use; some of the last ones, because what a fault did to one may show only later.
    pub fn to_read(&self, random: &mut impl Rng) -> i64 {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner).number;
        if random.random_bool(0.7) {
            return now;
        }
        (now - random.random_range(1..=BACK)).max(0)
    }

    /// A write of this one has an unknown outcome.
    pub fn unknown(&self, number: i64) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.number == number {
            now.unknown += 1;
        }
    }
}

/// Each node's own address, which changes with its pod.
#[derive(Clone, Default)]
pub struct Nodes(Arc<Mutex<BTreeMap<String, Address>>>);

impl Nodes {
    /// Where this node is, if anywhere.
    pub fn get(&self, node: &str) -> Option<Address> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(node)
            .cloned()
    }

    /// Follows the pods until it is dropped.
    pub async fn follow(self, database: Database, account: Address) {
        loop {
            if let Ok(pods) = database.pods().await {
                let addresses = pods.into_iter().filter_map(|pod| {
                    let host = pod.ip?;
                    Some((
                        pod.name,
                        Address {
                            host,
                            ..account.clone()
                        },
                    ))
                });
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses.collect();
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}
