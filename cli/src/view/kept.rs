//! Transactions that nodes gave up and keep as files: which, why, and the command that fetches each file.

use std::fmt::Write;

use api::kept::{Kept, KeptTransactions, fetch};
use jiff::Timestamp;

use super::model::View;
use super::words::{ago, wrap};

/// How a fetched file is read.
const READ: &str = "mysqlbinlog -v FILE";

/// One entry for each, indented; empty where no node keeps any.
pub fn text(view: &View, now: Timestamp, width: usize) -> String {
    let mut text = String::new();
    for node in &view.nodes {
        let Some(Kept { count, newest }) = &node.kept else {
            continue;
        };
        for one in newest {
            entry(&mut text, view, &node.name, one, now, width);
        }
        let older = (*count as usize).saturating_sub(newest.len());
        if older > 0 {
            let _ = writeln!(text, "  {}: {older} older", node.name);
        }
    }
    if text.contains("kubectl") {
        let _ = writeln!(text, "  read with: {READ}");
    }
    text
}

fn entry(text: &mut String, view: &View, node: &str, one: &KeptTransactions, now: Timestamp, width: usize) {
    let KeptTransactions {
        at,
        reason,
        file,
        bytes,
        transactions,
        missing,
        why_missing,
    } = one;
    let begin = format!(
        "  {node}, {}: transactions that {}",
        ago(at.0, now),
        reason.sentence()
    );
    let kept = file.as_ref().map(|file| {
        (
            fetch(&view.namespace, node, file),
            format!("{transactions}, {}", size(*bytes)),
        )
    });
    let (command, what) = kept.unzip();
    let what = what.unwrap_or_else(|| "none of them is kept".to_owned());
    let _ = writeln!(text, "{}", wrap(&format!("{begin}: {what}"), width, 4));
    if !missing.is_empty() {
        let why = why_missing.as_deref().unwrap_or("they were not found");
        let _ = writeln!(
            text,
            "{}",
            wrap(&format!("    not kept: {missing}, because {why}"), width, 4)
        );
    }
    if let Some(command) = command {
        let _ = writeln!(text, "      {command}");
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        ..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}
