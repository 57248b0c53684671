//! The facts that demonstration, benchmark and fault tests give to programs, field by field as documented. Milliseconds throughout.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{catalogue::Case, proof::NodeProof};

/// What the demonstration found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoFacts {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged writes that some node lacks.
    pub lost: usize,
    /// Every table is equal on every node.
    pub checksums_equal: bool,
    /// From `kubectl apply` to every node Ready.
    pub apply_to_ready_ms: u64,
    /// From `kubectl apply` to the first write accepted through the Service.
    pub apply_to_first_write_ms: u64,
    /// Rows of the sample data.
    pub rows_loaded: usize,
    /// The failover.
    pub failover: FailoverFacts,
    /// Each node after it.
    pub nodes: Vec<NodeProof>,
}

/// One failover.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverFacts {
    /// The longest time that a writer was without an acknowledgement.
    pub outage_ms: u64,
    /// The operator's own account: from the first evidence to the last step.
    pub total_ms: u64,
    /// To the end of each step, from the first evidence.
    pub steps: BTreeMap<String, u64>,
    /// The master before.
    pub from: String,
    /// The master after.
    pub to: String,
}

/// What the benchmark found.
#[derive(Debug, Serialize)]
pub struct BenchFacts {
    /// By the fault's name.
    pub faults: BTreeMap<String, FaultFacts>,
}

/// All runs of one fault.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultFacts {
    /// How many.
    pub runs: usize,
    /// Median outage.
    pub median_ms: u64,
    /// Nine of ten were not longer.
    pub p90_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// Acknowledged writes lost in all runs together.
    pub lost: usize,
    /// Runs after which the nodes did not hold what they should.
    pub failed_proofs: usize,
    /// Tries that brought no acknowledgement, in all runs together; through the data API each was made again.
    pub failed: usize,
    /// Median, from the fault to the client's first failed statement.
    pub cut_ms: u64,
    /// Median, from the fault to the login after which a write was acknowledged.
    pub login_ms: u64,
    /// Acknowledged writes in all runs together.
    pub acknowledged: usize,
    /// Median of each step's end, from the first evidence.
    pub steps: BTreeMap<String, u64>,
    /// Every outage, in order.
    pub outages_ms: Vec<u64>,
}

/// What the fault tests found.
#[derive(Debug, Serialize)]
pub struct FaultsFacts {
    /// Each row that was run, in order.
    pub rows: Vec<RowFacts>,
}

/// One row of the catalogue of faults.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowFacts {
    /// Its number.
    pub row: u8,
    /// Its name.
    pub name: &'static str,
    /// Every case passed.
    pub passed: bool,
    /// The longest outage of its cases; none where no case has one.
    pub outage_ms: Option<u64>,
    /// Its cases.
    pub cases: Vec<CaseFacts>,
}

/// One case of a row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseFacts {
    /// Row and part, such as `4b`.
    pub case: String,
    /// What was done.
    pub fault: &'static str,
    /// What had to come of it.
    pub expects: &'static str,
    /// It did.
    pub passed: bool,
    /// The longest time that a writer was without an acknowledgement.
    pub outage_ms: Option<u64>,
    /// Why it did not pass; empty where it did.
    pub why: String,
}

impl CaseFacts {
    /// What must come of it came of it.
    pub fn passed(case: &Case, outage_ms: Option<u64>) -> Self {
        Self {
            case: case.key(),
            fault: case.fault,
            expects: case.expects,
            passed: true,
            outage_ms,
            why: String::new(),
        }
    }

    /// It did not, or could not be tried.
    pub fn failed(case: &Case, why: String) -> Self {
        Self {
            passed: false,
            why,
            ..Self::passed(case, None)
        }
    }
}
