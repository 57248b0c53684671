//! Progress on stderr: a step that lasts over two seconds says so while it runs, with elapsed seconds.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::host;

const FIRST_WORD: Duration = Duration::from_secs(2);
const NEXT_WORDS: Duration = Duration::from_secs(10);

/// A step of work; short ones stay silent.
pub struct Step {
    what: String,
    begun: Instant,
    // Dropped first thing in `drop`, which ends the thread.
    stop: Option<mpsc::Sender<()>>,
    speaker: Option<thread::JoinHandle<()>>,
}

impl Step {
    pub fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        let begun = host::now();
        let (stop, stopped) = mpsc::channel::<()>();
        let words = what.clone();
        let speaker = thread::spawn(move || {
            let mut pause = FIRST_WORD;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{words} … {} s", begun.elapsed().as_secs());
                pause = NEXT_WORDS;
            }
        });
        Self {
            what,
            begun,
            stop: Some(stop),
            speaker: Some(speaker),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(speaker) = self.speaker.take() {
            let _ = speaker.join();
        }
        let elapsed = self.begun.elapsed();
        if elapsed >= FIRST_WORD {
            eprintln!("{}: {:.1} s", self.what, elapsed.as_secs_f64());
        }
    }
}
