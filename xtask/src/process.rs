//! Running other programs, and knowing a process again later.
//!
//! A process is its number plus its start time: a number alone may belong to somebody else by now. Nothing is ever
//! found or ended by name.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

/// A process that can be told from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks since the machine started, field 22 of /proc/PID/stat.
    pub started: u64,
}

impl ProcessId {
    /// The process that has this number now; none when there is none, or only its unburied remains.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        (!stat.is_dead()).then_some(Self {
            pid,
            started: stat.started,
        })
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    started: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name in brackets may itself hold blanks and brackets; the last bracket ends it.
        let after_name = &text[text.rfind(')')? + 1..];
        let mut fields = after_name.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // State is field 3, so the start time (22) is the nineteenth after it.
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { state, started })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A command from words.
pub fn command<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut words = words.into_iter();
    let program = words
        .next()
        .map(|word| word.as_ref().to_owned())
        .unwrap_or_default();
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs to the end; gives stdout, or an error that carries the command and what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() {
        String::from_utf8_lossy(&output.stdout)
    } else {
        said
    };
    bail!(
        "`{}` failed ({}): {}",
        words(command),
        output.status,
        last_lines(&said, 15)
    );
}

pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Whether the command ended well; what it says is thrown away.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs with `input` on stdin.
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| not_started(command, &error))?;
    let written = child
        .stdin
        .take()
        .context("stdin was asked for and is not there")?
        .write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    if output.status.success() {
        written?;
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!(
        "`{}` failed ({}): {}",
        words(command),
        output.status,
        last_lines(&said, 15)
    );
}

/// Starts a process that outlives us and the terminal, with its output appended to `log`.
///
/// It is its own session (a terminal's signals do not reach it) and enters the control group of `group` before it does
/// anything, so everything it ever starts can be found there. `setsid`, `sh` and `nsenter` replace themselves by the
/// next program, so the number of the process is the daemon's own.
pub fn spawn_daemon(words: &[String], group: &Path, log: &Path) -> Result<ProcessId> {
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("{} cannot be written", log.display()))?;
    // A descriptor that our caller left open, such as that of a lock, would be held as long as the daemon runs.
    let script = r#"exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; echo 0 > "$0" && exec "$@""#;
    let mut command = command(["setsid", "sh", "-c", script]);
    command
        .arg(group.join("cgroup.procs"))
        .args(words)
        .current_dir("/");
    let child = command
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .map_err(|error| not_started(&command, &error))?;
    let pid = child.id();
    ProcessId::of(pid).with_context(|| format!("`{}` ended at once, see {}", words.join(" "), log.display()))
}

/// Writes a file whole or not at all.
pub fn write_atomically(path: &Path, contents: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let put = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    put().with_context(|| format!("{} cannot be written", path.display()))
}

fn not_started(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    if error.kind() == std::io::ErrorKind::NotFound {
        return anyhow!("the program `{program}` is not installed or not in PATH");
    }
    anyhow!("`{program}` cannot be started: {error}")
}

fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194304 1 0 0 0 5 6 0 0 20 0 1 0 987654 1000 10 18446744073709551615";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                state: 'S',
                started: 987_654
            })
        );
    }

    #[test]
    fn a_short_or_strange_line_is_unknown_rather_than_a_panic() {
        for text in [
            "",
            "1",
            "1 (x)",
            "1 (x) S 1 2 3",
            "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 none",
        ] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not_it() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(
            !ProcessId {
                started: me.started + 1,
                ..me
            }
            .is_alive()
        );
    }

    #[test]
    fn an_unburied_child_counts_as_dead() {
        let mut child = command(["true"]).spawn().unwrap();
        while fs::read_to_string(format!("/proc/{}/stat", child.id()))
            .unwrap()
            .contains(") R ")
        {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(ProcessId::of(child.id()), None);
        child.wait().unwrap();
    }

    #[test]
    fn an_error_names_the_command_and_what_it_said() {
        let error = output(&mut command(["sh", "-c", "echo wrong >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.ends_with("wrong"),
            "{error}"
        );
        let error = output(&mut command(["no-such-program-here"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("not installed"), "{error}");
    }
}
