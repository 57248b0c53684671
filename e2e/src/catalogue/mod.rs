//! Every fault and bad input that the system must bear: one table, each row with its expectation in words and a test
//! on a real cluster.
//!
//! ```text
//!  rows      the table's rows by number and name        run       row after row, a line each, then the table
//!  master, silent, paths, operator, steps, majority, rejoin, volumes, planned, rollouts, changes, access
//!            the cases: what is done, what is expected, and within which time
//! ```
//!
//! A row passes when all its cases do. What the product cannot do yet has its case all the same and fails.

mod rows;
pub mod run;

mod access;
mod changes;
mod majority;
mod master;
mod operator;
mod paths;
pub mod place;
mod planned;
mod rejoin;
mod rollouts;
mod silent;
pub mod specs;
mod steps;
mod volumes;

use std::time::Duration;

use anyhow::Result;
use futures::future::LocalBoxFuture;

pub use crate::ordeal::Finding;
use crate::world::World;
pub use rows::{ROWS, name};

/// One way to try a row.
pub struct Case {
    /// The row.
    pub row: u8,
    /// Tells the cases of a row apart; empty where there is one.
    pub part: &'static str,
    /// What is done.
    pub fault: &'static str,
    /// What must come of it, besides what must hold always.
    pub expects: &'static str,
    /// The longest outage of a writer; none where the row is about something else.
    pub limit: Option<Duration>,
    /// Does it and judges.
    pub run: for<'a> fn(&'a World) -> LocalBoxFuture<'a, Result<Finding>>,
}

impl Case {
    /// As it is asked for: the row and the part, such as `4b`.
    pub fn key(&self) -> String {
        format!("{}{}", self.row, self.part)
    }

    /// Runs it and holds its outage against the limit.
    pub async fn play(&self, world: &World) -> Result<Finding> {
        let finding = (self.run)(world).await?;
        if let (Some(limit), Some(outage)) = (self.limit, finding.outage) {
            anyhow::ensure!(
                outage <= limit,
                "writes were out for {} ms, more than {} ms; {}",
                outage.as_millis(),
                limit.as_millis(),
                finding.notes.join("; ")
            );
        }
        // Only now: of a case that failed there is still everything to look at.
        world.remove_own().await?;
        Ok(finding)
    }
}

/// All cases, in the order of the rows.
pub fn cases() -> Vec<&'static Case> {
    let groups = [
        master::CASES,
        silent::CASES,
        paths::CASES,
        operator::CASES,
        steps::CASES,
        majority::CASES,
        rejoin::CASES,
        volumes::CASES,
        planned::CASES,
        rollouts::CASES,
        access::CASES,
        changes::CASES,
    ];
    let mut all: Vec<&Case> = groups.into_iter().flatten().collect();
    all.sort_by_key(|case| (case.row, case.part));
    all
}

/// The case with this key.
///
/// # Errors
/// When there is none.
pub fn case(key: &str) -> Result<&'static Case> {
    let found = cases().into_iter().find(|case| case.key() == key);
    found.ok_or_else(|| anyhow::anyhow!("there is no case {key}"))
}

// The budgets are medians on a quiet machine; a single run on a busy one may take so many times as long.
const BUSY: u32 = 3;

/// The master's process or pod is lost.
const KILLED: Duration = Duration::from_millis(400 * BUSY as u64);
/// The master is frozen or cut off.
const SILENT: Duration = Duration::from_millis(2000 * BUSY as u64);
/// A switchover.
const PLANNED: Duration = Duration::from_millis(150 * BUSY as u64);
/// The operator's leader is lost together with the master.
const WITH_OPERATOR: Duration = Duration::from_secs(8 * BUSY as u64);
/// Something that writes should hardly notice.
const UNHURT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_a_case_and_every_case_a_row_and_a_key_of_its_own() {
        let rows: BTreeSet<u8> = ROWS.iter().map(|(row, _)| *row).collect();
        let tried: BTreeSet<u8> = cases().iter().map(|case| case.row).collect();
        assert_eq!(rows, tried);
        let keys: BTreeSet<String> = cases().iter().map(|case| case.key()).collect();
        assert_eq!(keys.len(), cases().len());
    }
}
