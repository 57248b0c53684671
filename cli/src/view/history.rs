//! `history`: the last changes of master as a table.

use failover::{Cause, Kind};

use super::model::{ChangeView, View};
use super::table::table;
use super::words::moment;

/// The table.
pub fn text(view: &View) -> String {
    if view.last_changes.is_empty() {
        return format!("{} has had no master yet.\n", view.name);
    }
    let rows: Vec<[String; 8]> = view.last_changes.iter().map(row).collect();
    let table = table(
        [
            "TERM",
            "WHEN (UTC)",
            "KIND",
            "CAUSE",
            "FROM",
            "TO",
            "MS",
            "STEPS (MS)",
        ],
        &rows,
    );
    table.lines().fold(String::new(), |all, line| {
        all + line.strip_prefix("  ").unwrap_or(line) + "\n"
    })
}

fn row(change: &ChangeView) -> [String; 8] {
    [
        change.term.to_string(),
        moment(change.at),
        kind(change.kind).to_owned(),
        cause(change.cause).to_owned(),
        change.from.clone().unwrap_or_else(|| "-".to_owned()),
        change.to.clone(),
        change.total_ms.to_string(),
        change.sum(),
    ]
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Bootstrap => "first master",
        Kind::Failover => "failover",
        Kind::Switchover => "switchover",
        Kind::Forced => "forced",
        Kind::Rest => "copied at rest",
    }
}

fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::NewDatabase => "new database",
        Cause::ServerDied => "mysqld died",
        Cause::ServerHung => "mysqld hung",
        Cause::PodDeleted => "pod deleted",
        Cause::PodStopping => "pod shut down",
        Cause::Unreachable => "unreachable",
        Cause::Requested => "asked for",
        Cause::Interrupted => "interrupted",
        Cause::CommitsWait => "commits waited",
    }
}
