//! Passes mysqld's log on to our stderr byte for byte, and remembers what its error lines say, so that an exit
//! can be explained. Must never hold mysqld back.

use std::{
    io::{BufRead, BufReader, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::clock;

/// The longest part of an error line that is remembered.
const REMEMBERED: usize = 400;

/// What an error line has where data is damaged, in lower case.
const DAMAGE: &str = "corrupt";
/// What a line has where not the data is at fault but what is around it, in lower case: a full or failing disk, somebody
/// else who holds the files, rights, too few of something, settings with which the data was not made.
const AROUND: [&str; 24] = [
    "no space left",
    "disk is full",
    "disk full",
    "out of disk space",
    "error number 28",
    "error number 5 ",
    "error number 30",
    "error number 122",
    "input/output error",
    "read-only file system",
    "quota exceeded",
    "stale file handle",
    "unable to lock",
    "permission denied",
    "too many open files",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "resource temporarily unavailable",
    "start-up parameter",
    "innodb_page_size",
    "lower_case_table_names",
    "cannot create redo log files",
    "different settings",
];

/// What mysqld says once it takes connections.
const READY: &str = ": ready for connections";

/// What the log of one mysqld process says.
#[derive(Debug, Clone, Default)]
pub struct Said(Arc<Mutex<Noted>>);

#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Noted {
    last: Option<String>,
    damage: bool,
    around: bool,
    ready: bool,
    ended: bool,
    last_line: Option<Instant>,
}

impl Said {
    /// The text behind `[ERROR]` of the last such line, if there was one.
    pub fn last(&self) -> Option<String> {
        self.noted().last.clone()
    }

    /// Some line says that the data is damaged.
    pub fn speaks_of_damage(&self) -> bool {
        self.noted().damage
    }

    /// The server has begun to take connections.
    pub fn is_ready(&self) -> bool {
        self.noted().ready
    }

    /// Some line says that what is around the data is at fault.
    pub fn blames_what_is_around(&self) -> bool {
        self.noted().around
    }

    /// For how long nothing was said; nothing at all counts as no time.
    pub fn silence(&self) -> Duration {
        self.noted().last_line.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Waits for the end of the log of a server that has ended, at most so long.
    pub fn await_end(&self, patience: Duration) {
        let until = clock::now() + patience;
        while !self.noted().ended && clock::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn note(&self, line: &str) {
        let lower = line.to_lowercase();
        let mut noted = self.noted();
        noted.last_line = Some(clock::now());
        noted.around |= AROUND.iter().any(|words| lower.contains(words));
        let Some((_, text)) = line.split_once("[ERROR] ") else {
            noted.ready |= line.contains(READY);
            return;
        };
        noted.damage |= lower.contains(DAMAGE);
        let text: String = text.trim().chars().take(REMEMBERED).collect();
        // "Aborting" closes every fatal error and says nothing itself.
        if !text.ends_with("Aborting") {
            noted.last = Some(text);
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies `from` to stderr on a thread of its own until it ends.
pub fn pass_on(from: impl Read + Send + 'static) -> Said {
    let said = Said::default();
    let noting = said.clone();
    thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            noting.note(&String::from_utf8_lossy(&line));
            // Nobody is left to tell when our own stderr is gone; the pipe must be emptied nevertheless.
            let _ = std::io::stderr().write_all(&line);
            line.clear();
        }
        noting.noted().ended = true;
    });
    said
}

/// Says one line of the supervisor's own on stderr.
pub fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "ddb-supervisor: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_that_says_something_is_remembered() {
        let last = Said::default();
        last.note("2026-01-01T00:00:00Z 1 [Note] [MY-1] fine");
        last.note("2026-01-01T00:00:00Z 1 [ERROR] [MY-014061] [Server] Invalid MySQL server downgrade.\n");
        last.note("2026-01-01T00:00:00Z 0 [ERROR] [MY-010119] [Server] Aborting\n");
        assert_eq!(
            last.last().unwrap(),
            "[MY-014061] [Server] Invalid MySQL server downgrade."
        );
        assert!(!last.speaks_of_damage() && !last.blames_what_is_around());
    }

    #[test]
    fn damage_is_told_from_a_full_disk() {
        let said = Said::default();
        said.note("1 [ERROR] [MY-012224] [InnoDB] Header page contains inconsistent data in file: ./ibdata1, corrupted");
        assert!(said.speaks_of_damage() && !said.blames_what_is_around());
        let crashed = Said::default();
        crashed.note("terminate called after throwing an instance of 'std::bad_alloc'");
        assert!(crashed.blames_what_is_around());
        said.note("1 [ERROR] [MY-012640] [InnoDB] Error number 28 means 'No space left on device'");
        assert!(said.blames_what_is_around());
    }
}
