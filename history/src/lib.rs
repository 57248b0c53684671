//! Judges the recorded history of a run on a cluster: what clients were told against what the nodes hold at the end.
//!
//! ```text
//!  a file of lines ──► record ──► judge ──► verdict: anomalies by name, faults and outages by kind
//!                                  ├── writes     lost, doubled, refused and yet there, half a transaction
//!                                  ├── lists      order of appends, reads that nobody will see again
//!                                  ├── masters    two that acknowledge, two labels, a term that falls
//!                                  ├── tokens     a read older than its session's token
//!                                  ├── registers  linearizable, by stateright's tester
//!                                  └── outages    by fault, against the budgets
//! ```
//!
//! It depends on nothing of the operator or the node, knows no clock and no cluster: the same file always gives the
//! same verdict. It never takes an unknown outcome for a yes or a no.

mod anomaly;
mod evidence;
pub mod gaps;
mod lists;
mod masters;
mod outages;
mod record;
mod registers;
mod report;
mod tokens;
mod verdict;
mod writes;

pub use anomaly::{Anomaly, Name};
pub use outages::{FaultKind, Late, OVERLAPPING};
pub use record::{
    Did, Episode, FORMAT, Fault, Header, Holds, Line, Op, Outcome, Process, READS_FROM_OTHERS, read,
};
pub use verdict::{Verdict, judge};
