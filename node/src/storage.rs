//! Does the node's volume still take writes? A volume that hangs lets a server answer every question while no commit
//! ends, so the agent writes a small file of its own beside the data now and then, and says when a write does not come back.
//!
//! It runs on a thread of its own, because a hanging write cannot be given up, and it writes nothing into the database.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tracing::{info, warn};

use crate::{agent::Agent, clock};

/// The pause between two writes.
const PAUSE: Duration = Duration::from_secs(1);
/// A write that is under way for so long hangs. A disk that is only slow ends one sooner, and its next begins anew:
/// close to four seconds were seen on a machine with fifty busy processes.
const HANGS: Duration = Duration::from_secs(5);
/// How often the writer is looked after.
const TICK: Duration = Duration::from_millis(100);

/// When the write under way began.
type UnderWay = Arc<Mutex<Option<Instant>>>;

/// Watches for ever.
pub async fn run(agent: Arc<Agent>) {
    let under_way = UnderWay::default();
    let (seen, file) = (Arc::clone(&under_way), agent.settings.agent_dir.join("probe"));
    let writer = std::thread::Builder::new().name("storage".to_owned());
    if let Err(error) = writer.spawn(move || write_for_ever(&file, &seen)) {
        warn!(%error, "the volume is not watched");
        return;
    }
    let mut hangs = false;
    loop {
        let since = *under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let since = since.filter(|since| clock::now().saturating_duration_since(*since) >= HANGS);
        // First of all: what is logged may end on the same disk.
        agent.board.storage_hangs(since);
        if hangs != since.is_some() {
            hangs = since.is_some();
            if hangs {
                warn!("a write to the volume hangs");
            } else {
                info!("the volume takes writes again");
            }
        }
        sleep(TICK).await;
    }
}

fn write_for_ever(file: &Path, under_way: &UnderWay) {
    let mark = |since| *under_way.lock().unwrap_or_else(PoisonError::into_inner) = since;
    loop {
        mark(Some(clock::now()));
        // A volume that refuses is no volume that hangs: MySQL itself is told the same, and says so.
        let _ = write(file);
        mark(None);
        std::thread::sleep(PAUSE);
    }
}

fn write(file: &Path) -> io::Result<()> {
    let mut file = File::create(file)?;
    file.write_all(b"?")?;
    file.sync_all()
}
