//! What a node gave up, in sentences for people: the transactions, and the file that keeps them.

use std::fmt::Write as _;

use api::kept::{Kept, KeptTransactions, fetch};
use failover::{GtidSet, NodeId, NodeReport, Tail, Term};

/// What a node told of what it gave up, as far as it did.
#[derive(Default)]
pub struct GivenUp<'a> {
    /// The database's namespace.
    pub namespace: &'a str,
    /// The node's newest report.
    pub report: Option<&'a NodeReport>,
    /// The transactions that it keeps as files.
    pub kept: Option<&'a Kept>,
}

impl GivenUp<'_> {
    /// What became of a killed master's unacknowledged transactions by a cut of `of`.
    pub fn by_cut(&self, node: &NodeId, of: Term) -> String {
        match self.report.and_then(|report| report.tail.as_ref()) {
            Some(Tail::Cut {
                term,
                transactions,
                file,
            }) if *term == of => format!(
                "starts again without what it had written and nobody had acknowledged: {}. Its volume keeps it: {}",
                briefly(transactions),
                fetch(self.namespace, node.as_str(), file)
            ),
            _ => "starts again; it had written nothing that the new master lacks.".to_owned(),
        }
    }

    /// What became of the `extra` transactions of a node that was cloned; empty where there were none.
    pub fn by_clone(&self, node: &NodeId, extra: &GtidSet) -> String {
        let Some(kept) = self.kept.and_then(|kept| kept.about(extra)) else {
            return String::new();
        };
        let KeptTransactions {
            file,
            missing,
            why_missing,
            ..
        } = kept;
        let mut text = String::new();
        if !missing.is_empty() {
            let why = why_missing.as_deref().unwrap_or("they were not found");
            text = format!(" Not kept: {}, because {why}.", briefly(missing));
        }
        // The command comes last, so that no full stop is taken for a part of it.
        if let Some(file) = file {
            let which = if missing.is_empty() { "them" } else { "the others" };
            let command = fetch(self.namespace, node.as_str(), file);
            let _ = write!(text, " Its volume keeps {which}: {command}");
        }
        text
    }
}

/// An Event holds a thousand letters, and the command must be among them.
fn briefly(transactions: &GtidSet) -> String {
    const PIECES: usize = 5;
    let first = transactions.clone().first(PIECES);
    let more = transactions.count() - first.count();
    if more == 0 {
        first.to_string()
    } else {
        format!("{first} and {more} more")
    }
}

#[cfg(test)]
mod tests {
    use api::kept;
    use failover::Server;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(from: u64, to: u64) -> GtidSet {
        GtidSet::new().with(A, from, to)
    }

    #[test]
    fn a_cut_names_transactions_and_file_and_one_of_nothing_says_so() {
        let report = NodeReport {
            tail: Some(Tail::Cut {
                term: Term(4),
                transactions: set(8, 9),
                file: "/var/lib/ddb/tails/4-17.binlog".to_owned(),
            }),
            ..NodeReport::new("v".into(), Server::Starting)
        };
        let given_up = GivenUp {
            namespace: "default",
            report: Some(&report),
            kept: None,
        };
        let node = NodeId::from("db-0");
        let told = given_up.by_cut(&node, Term(4));
        assert!(told.contains(&format!("acknowledged: {A}:8-9. ")), "{told}");
        assert!(told.contains("cat /var/lib/ddb/tails/4-17.binlog"), "{told}");
        let later = given_up.by_cut(&node, Term(5));
        assert!(later.contains("nothing that the new master lacks"), "{later}");
    }

    #[test]
    fn a_clone_names_the_file_of_what_it_gave_up_and_what_is_in_none() {
        let kept = Kept {
            count: 1,
            newest: vec![KeptTransactions {
                at: kept::moment(1),
                reason: kept::GivenUp::Extra,
                file: Some("/var/lib/ddb/tails/4-17.binlog".to_owned()),
                bytes: 9,
                transactions: set(8, 9),
                missing: set(7, 7),
                why_missing: Some("the binary logs that held them were purged".to_owned()),
            }],
        };
        let given_up = GivenUp {
            namespace: "default",
            report: None,
            kept: Some(&kept),
        };
        let node = NodeId::from("db-2");
        let told = given_up.by_clone(&node, &set(7, 9));
        assert_eq!(
            told,
            format!(
                " Not kept: {A}:7, because the binary logs that held them were purged. Its volume keeps the others: {}",
                kept::fetch("default", "db-2", "/var/lib/ddb/tails/4-17.binlog")
            )
        );
        assert_eq!(
            given_up.by_clone(&node, &GtidSet::new()),
            "",
            "a new node had nothing"
        );
    }

    #[test]
    fn many_pieces_are_told_briefly() {
        let many = (0..100).fold(GtidSet::new(), |all, at| all.union(&set(2 * at + 1, 2 * at + 1)));
        let told = briefly(&many);
        assert!(told.ends_with(":1:3:5:7:9 and 95 more"), "{told}");
    }
}
