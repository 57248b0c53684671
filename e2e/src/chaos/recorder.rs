//! Writes the history to its file while it happens, so that a run that ends badly leaves all it saw.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow};
use history::{Line, Outcome, Process};

use crate::clock::Clock;

/// Takes lines from everywhere.
#[derive(Clone)]
pub struct Recorder {
    lines: Sender<Line>,
    clock: Clock,
    acknowledged: Arc<AtomicU64>,
    unheard: Arc<Mutex<BTreeMap<u32, Process>>>,
}

/// The file being written.
pub struct Recording {
    path: PathBuf,
    writer: JoinHandle<Result<()>>,
}

impl Recorder {
    /// Begins a file.
    pub fn begin(path: &Path, clock: Clock) -> Result<(Self, Recording)> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        let (lines, received) = channel();
        let writer = thread::spawn(move || write(BufWriter::new(file), &received));
        let recorder = Self {
            lines,
            clock,
            acknowledged: Arc::default(),
            unheard: Arc::default(),
        };
        let path = path.to_owned();
        Ok((recorder, Recording { path, writer }))
    }

    /// One line.
    pub fn line(&self, line: Line) {
        if let Line::Op(op) = &line
            && op.outcome == Outcome::Ok
            && op.did.writes()
        {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        match &line {
            Line::Process(process) => {
                self.clients().insert(process.process, process.clone());
            }
            Line::Op(op) => {
                let mut clients = self.clients();
                let client = clients.get(&op.process);
                if client.is_some_and(|client| client.is_heard_by(op.outcome)) {
                    clients.remove(&op.process);
                }
            }
            _ => {}
        }
        // Only a full disk ends the writer early, and `finish` tells of it.
        let _ = self.lines.send(line);
    }

    /// Microseconds since the clock's zero.
    pub fn now(&self) -> u64 {
        u64::try_from(self.clock.at().as_micros()).unwrap_or(u64::MAX)
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<u32, Process>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients of which there is nothing to be judged yet.
    pub fn unheard(&self) -> Vec<Process> {
        self.clients().values().cloned().collect()
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

impl Recording {
    /// Waits until everything is written; every recorder must be gone by then. Gives the file.
    pub fn finish(self) -> Result<PathBuf> {
        let written = self
            .writer
            .join()
            .map_err(|_| anyhow!("the recorder broke off"))?;
        written.with_context(|| format!("writing {}", self.path.display()))?;
        Ok(self.path)
    }
}

fn write(mut file: BufWriter<File>, lines: &Receiver<Line>) -> Result<()> {
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                file.flush()?;
                let Ok(line) = lines.recv() else { break };
                line
            }
        };
        serde_json::to_writer(&mut file, &line)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(())
}
