//! Transactions that a node gave up and keeps as files on its volume: as the node tells of them and as the status shows
//! them. They are for people only; nothing is decided by them.

use failover::GtidSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// So many files are told of; of older ones only their number is.
pub const TOLD: usize = 3;
/// So many intervals of transactions are told of each file, so that no node can fill the resource.
pub const INTERVALS: usize = 50;

/// The transactions that a node gave up and keeps as files on its volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// How many times transactions were kept, as far as the files were not deleted since.
    pub count: u32,
    /// The newest of them, newest first, at most three.
    pub newest: Vec<KeptTransactions>,
}

/// Transactions that were given up together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptTransactions {
    /// When.
    pub at: Time,
    /// Why.
    pub reason: GivenUp,
    /// The file in the containers of the node's pod, in the form of a binary log; absent where nothing could be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The file's size.
    #[serde(default)]
    pub bytes: u64,
    /// The transactions in it; of very many pieces the first fifty.
    #[serde(default)]
    pub transactions: GtidSet,
    /// Transactions that were given up and are in no file; of very many pieces the first fifty.
    #[serde(default, skip_serializing_if = "GtidSet::is_empty")]
    pub missing: GtidSet,
    /// Why they are in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_missing: Option<String>,
}

/// Why transactions were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GivenUp {
    /// A killed master had written them and no slave had acknowledged them; they were cut off its binary log.
    Unacknowledged,
    /// The master lacked them, and the node was cloned.
    Extra,
}

impl GivenUp {
    /// The end of "transactions that …".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Unacknowledged => "nobody had acknowledged when the master was killed",
            Self::Extra => "the master lacked when the node was cloned",
        }
    }
}

impl Kept {
    /// The newest that has to do with any of `transactions`.
    pub fn about(&self, transactions: &GtidSet) -> Option<&KeptTransactions> {
        self.newest.iter().find(|one| {
            let given = one.transactions.union(&one.missing);
            transactions.subtract(&given) != *transactions
        })
    }
}

/// A moment in seconds since 1970 as the resource has it; one that no calendar has is the first.
pub fn moment(seconds: u64) -> Time {
    let moment = i64::try_from(seconds).ok().map(Timestamp::from_second);
    Time(moment.and_then(Result::ok).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The command that copies a node's file to where it is typed, under the node's name.
pub fn fetch(namespace: &str, node: &str, file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    format!("kubectl exec -n {namespace} {node} -c mysql -- cat {file} > {node}-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn what_was_kept_is_found_by_any_of_its_transactions() {
        let one = |from, to| KeptTransactions {
            at: moment(1),
            reason: GivenUp::Extra,
            file: None,
            bytes: 0,
            transactions: GtidSet::new().with(A, from, to),
            missing: GtidSet::new().with(A, to + 1, to + 1),
            why_missing: None,
        };
        let kept = Kept {
            count: 2,
            newest: vec![one(10, 12), one(1, 3)],
        };
        let about = |from, to| kept.about(&GtidSet::new().with(A, from, to)).cloned();
        assert_eq!(about(12, 20), Some(one(10, 12)));
        assert_eq!(about(4, 4), Some(one(1, 3)), "it is missing, and told of");
        assert_eq!(about(5, 9), None);
    }

    #[test]
    fn a_file_is_fetched_under_the_nodes_name() {
        assert_eq!(
            fetch("default", "shop-0", "/var/lib/ddb/tails/4-17.binlog"),
            "kubectl exec -n default shop-0 -c mysql -- cat /var/lib/ddb/tails/4-17.binlog > shop-0-4-17.binlog"
        );
    }
}
