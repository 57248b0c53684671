//! Notices that a process is dying before it is gone.
//!
//! A killed mysqld runs no more of its code at once, but the kernel frees its memory before it tells the parent:
//! measured, 60 ms for 350 MB, which would be a quarter of a failover. Its first thread is a zombie from the first
//! moment on. There is no event for that on the kernels in use, so it is looked up.

use std::{fs::File, os::unix::fs::FileExt, thread, time::Duration};

/// How often it is looked up.
const EVERY: Duration = Duration::from_millis(4);
/// Long enough for the number, the name (at most 15 bytes) and the state; the 52 fields are at least 103 bytes long.
const BEGINNING: usize = 64;

/// Calls `tell` once when the first thread of `pid` has ended, on a thread of its own.
pub fn watch(pid: i32, tell: impl FnOnce() + Send + 'static) {
    // Its own file, not the process's: that one sums up all threads. It stays open, because to find and open it takes
    // longer than to read it, 250 times a second.
    let stat = File::open(format!("/proc/{pid}/task/{pid}/stat"));
    thread::spawn(move || {
        if let Ok(stat) = stat {
            while lives(&stat) {
                thread::sleep(EVERY);
            }
        }
        tell();
    });
}

/// True while the thread has not ended; one that was collected has no state any more, which is an error.
fn lives(stat: &File) -> bool {
    let mut beginning = [0; BEGINNING];
    let read = stat.read_exact_at(&mut beginning, 0);
    read.is_ok_and(|()| !is_dead(&String::from_utf8_lossy(&beginning)))
}

/// The state is the letter behind the name, which is in brackets and may hold anything.
fn is_dead(stat: &str) -> bool {
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_none_or(|state| state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_zombie_is_dead_and_a_sleeper_is_not_whatever_its_name() {
        assert!(is_dead("7 (mysqld) Z 1 7"));
        assert!(!is_dead("7 (my) Z sqld) S 1 7"));
        assert!(is_dead(""));
    }

    #[test]
    fn the_end_of_a_process_is_told_before_it_is_collected() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (told, wait) = channel();
        watch(i32::try_from(child.id()).unwrap(), move || {
            let _ = told.send(());
        });
        assert!(wait.recv_timeout(Duration::from_millis(50)).is_err());
        child.kill().unwrap();
        assert!(wait.recv_timeout(Duration::from_secs(5)).is_ok());
        child.wait().unwrap();
    }
}
