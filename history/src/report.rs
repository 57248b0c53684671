//! A verdict in words and columns.

use std::fmt::{self, Display, Formatter};

use crate::{FaultKind, Verdict};

/// How many anomalies are told one by one.
const TOLD: usize = 20;

impl Display for Verdict {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "  {:<28} {:>6} {:>6} {:>9} {:>9} {:>9}",
            "fault", "times", "alone", "median", "max", "budget"
        )?;
        for (name, kind) in &self.kinds {
            let FaultKind {
                faults,
                alone,
                median_ms,
                max_ms,
                budget_ms,
                late,
            } = kind;
            let of_alone = |millis: &u64| match alone {
                0 => "-".to_owned(),
                _ => format!("{millis} ms"),
            };
            let (median, max) = (of_alone(median_ms), of_alone(max_ms));
            let budget = budget_ms.map_or("-".to_owned(), |budget| format!("{budget} ms"));
            let late = if *late > 0 {
                format!("  {late} beyond three budgets")
            } else {
                String::new()
            };
            writeln!(
                out,
                "  {name:<28} {faults:>6} {alone:>6} {median:>9} {max:>9} {budget:>9}{late}"
            )?;
        }
        let Self {
            faults,
            acknowledged,
            unknown,
            reads,
            token_reads,
            registers,
            terms,
            ..
        } = self;
        writeln!(
            out,
            "\n  {faults} faults, {terms} terms, {acknowledged} acknowledged writes, {unknown} of unknown outcome,\n  \
             {reads} reads, {token_reads} of them with a token, {registers} registers"
        )?;
        let Self {
            lost,
            doubled,
            stale,
            lost_states,
            misled,
            ..
        } = self;
        writeln!(
            out,
            "  {lost} lost, {doubled} doubled, {stale} stale by token, {lost_states} states lost; {misled} \
             connections led to no master"
        )?;
        for late in &self.late_outages {
            writeln!(
                out,
                "  late: {} of {} at {} ms: {} ms without an acknowledgement from {} ms on",
                late.kind, late.on, late.at_ms, late.outage_ms, late.from_ms
            )?;
            for change in &late.changes {
                writeln!(out, "        {change}")?;
            }
        }
        for anomaly in self.details.iter().take(TOLD) {
            writeln!(out, "  {}: {}", anomaly.name.word(), anomaly.what)?;
        }
        if self.details.len() > TOLD {
            writeln!(out, "  and {} more", self.details.len() - TOLD)?;
        }
        write!(out, "verdict: {}", self.verdict)
    }
}
