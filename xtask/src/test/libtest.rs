//! Reading what Rust's test runner prints: its result lines are the only truth about what was executed.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::process::{command, output};

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// From a line as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn parse(line: &str) -> Option<Self> {
        // A test's own unfinished line may stand before it.
        let (_, counts) = line.split_once("test result: ")?.1.split_once(". ")?;
        let count = |word: &str| {
            let part = counts
                .split(';')
                .find_map(|part| part.trim().strip_suffix(word))?;
            part.trim().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            ignored: count("ignored")?,
        })
    }
}

/// Runs a test program or `cargo test`, shows what it prints, and adds up its results.
pub fn run(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("the tests cannot be started")?;
    let stdout = child
        .stdout
        .take()
        .context("stdout was asked for and is not there")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        if let Some(found) = Tally::parse(&line) {
            tally.add(found);
        }
        println!("{line}");
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} tests failed ({status})", tally.failed);
    }
    Ok(())
}

/// Whether any ignored test of the program has this in its name.
///
/// # Errors
/// Where the program does not list its tests.
pub fn has_tests(program: &Path, filter: Option<&str>) -> Result<bool> {
    let mut list = command([program]);
    list.args(["--list", "--ignored"]).args(filter);
    let listed = output(&mut list).context("the tests cannot be listed")?;
    Ok(listed.lines().any(|line| line.ends_with(": test")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_understood_whether_good_or_bad() {
        let line =
            "test result: ok. 13 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            Tally::parse(line),
            Some(Tally {
                passed: 13,
                failed: 0,
                ignored: 2
            })
        );
        let line =
            "test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1s";
        assert_eq!(
            Tally::parse(line),
            Some(Tally {
                passed: 3,
                failed: 4,
                ignored: 0
            })
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in [
            "",
            "test a ... ok",
            "running 3 tests",
            "test result: odd",
            "3 passed; 1 failed",
        ] {
            assert_eq!(Tally::parse(line), None, "{line}");
        }
    }
}
