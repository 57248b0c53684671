//! Passes mysqld's log on to our stderr byte for byte, and remembers its last error line, so that an exit can be
//! explained. Must never hold mysqld back.

use std::{
    io::{BufRead, BufReader, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// The longest part of an error line that is remembered.
const REMEMBERED: usize = 400;

/// The last error line of one mysqld process.
#[derive(Debug, Clone, Default)]
pub struct LastError(Arc<Mutex<Option<String>>>);

impl LastError {
    /// The text behind `[ERROR]`, if there was such a line.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, line: &str) {
        if let Some((_, text)) = line.split_once("[ERROR] ") {
            let text: String = text.trim().chars().take(REMEMBERED).collect();
            // "Aborting" closes every fatal error and says nothing itself.
            if !text.ends_with("Aborting") {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            }
        }
    }
}

/// Copies `from` to stderr on a thread of its own until it ends.
pub fn pass_on(from: impl Read + Send + 'static) -> LastError {
    let last = LastError::default();
    let noting = last.clone();
    thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            // Nobody is left to tell when our own stderr is gone; the pipe must be emptied nevertheless.
            let _ = std::io::stderr().write_all(&line);
            noting.note(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    last
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
        let last = LastError::default();
        last.note("2026-01-01T00:00:00Z 1 [Note] [MY-1] fine");
        last.note("2026-01-01T00:00:00Z 1 [ERROR] [MY-014061] [Server] Invalid MySQL server downgrade.\n");
        last.note("2026-01-01T00:00:00Z 0 [ERROR] [MY-010119] [Server] Aborting\n");
        assert_eq!(
            last.get().unwrap(),
            "[MY-014061] [Server] Invalid MySQL server downgrade."
        );
    }
}
