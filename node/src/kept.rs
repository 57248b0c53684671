//! The files of transactions that this node gave up, beside its data: each is written whole or not at all, and described
//! in a file of its own. There are a few of them at most; the oldest are deleted.
//!
//! They lie in `tails/` on the volume, where no clone and no cut reaches them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use api::kept::{GivenUp, INTERVALS, Kept, KeptTransactions, TOLD, moment};
use failover::GtidSet;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{agent::Agent, binlog};

/// How many are kept.
const MOST: usize = 8;
/// Bytes of all together. The newest is kept, however large it is.
const ROOM: u64 = 256 << 20;
/// What files end with.
const LOG: &str = "binlog";
const DESCRIPTION: &str = "json";
const UNFINISHED: &str = "part";
/// What the names of files before a clone end with.
const EXTRA: &str = "-extra";

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// Why.
    pub reason: GivenUp,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The whole transactions in the file.
    pub transactions: GtidSet,
    /// What was given up with them and is in no file.
    #[serde(default, skip_serializing_if = "GtidSet::is_empty")]
    pub missing: GtidSet,
    /// Why it is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_missing: Option<String>,
}

/// What was given up, with its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct One {
    name: String,
    /// The file, and its bytes; none where nothing could be kept.
    pub file: Option<(PathBuf, u64)>,
    /// What it is.
    pub description: Description,
}

impl One {
    fn told(&self) -> KeptTransactions {
        let Description {
            reason,
            at,
            transactions,
            missing,
            why_missing,
        } = self.description.clone();
        KeptTransactions {
            at: moment(at),
            reason,
            file: self.file.as_ref().map(|(file, _)| file.display().to_string()),
            bytes: self.bytes(),
            transactions: transactions.first(INTERVALS),
            missing: missing.first(INTERVALS),
            why_missing,
        }
    }

    fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, bytes)| *bytes)
    }
}

/// The folder of the files.
#[derive(Debug, Clone)]
pub struct Shelf(PathBuf);

impl Shelf {
    /// The folder on the volume that the agent's own is on.
    pub fn beside(agent_dir: &Path) -> Self {
        Self(agent_dir.with_file_name("tails"))
    }

    /// A name that no file has. `at` is in seconds since 1970.
    pub fn name(&self, term: failover::Term, at: u64, reason: GivenUp) -> String {
        let ending = match reason {
            GivenUp::Unacknowledged => "",
            GivenUp::Extra => EXTRA,
        };
        let mut at = at;
        loop {
            let name = format!("{term}-{at}{ending}");
            if !self.path(&name, LOG).exists() && !self.path(&name, DESCRIPTION).exists() {
                return name;
            }
            at += 1;
        }
    }

    /// Everything that is kept, newest first.
    pub fn all(&self) -> io::Result<Vec<One>> {
        let mut found: BTreeMap<String, Option<(PathBuf, u64)>> = BTreeMap::new();
        for path in self.paths()? {
            let Some(name) = path.file_stem().map(|name| name.to_string_lossy().into_owned()) else {
                continue;
            };
            if has_ending(&path, LOG) {
                let bytes = fs::metadata(&path)?.len();
                found.insert(name, Some((path, bytes)));
            } else if has_ending(&path, DESCRIPTION) {
                found.entry(name).or_default();
            }
        }
        let mut all = Vec::new();
        for (name, file) in found {
            if let Some(description) = self.description(&name, file.as_ref().map(|(path, _)| &**path))? {
                all.push(One {
                    name,
                    file,
                    description,
                });
            }
        }
        all.sort_by(|one, other| {
            let age = |one: &One| (one.description.at, one.name.clone());
            age(other).cmp(&age(one))
        });
        Ok(all)
    }

    /// As it is told to the operator.
    pub fn told(&self) -> io::Result<Kept> {
        let all = self.all()?;
        Ok(Kept {
            count: u32::try_from(all.len()).unwrap_or(u32::MAX),
            newest: all.iter().take(TOLD).map(One::told).collect(),
        })
    }

    /// Has `writer` write the log of `name`, which is on the disk when this returns. `None`: it had nothing to write.
    pub fn write<E: From<io::Error>>(
        &self,
        name: &str,
        writer: impl FnOnce(&mut File) -> Result<bool, E>,
    ) -> Result<Option<PathBuf>, E> {
        self.replace(&self.path(name, LOG), writer)
    }

    /// Says what the log of `name` is, or why there is none; then deletes the oldest ones, but none that holds some of
    /// `given`, which is about to be given up.
    pub fn describe(&self, name: &str, description: &Description, given: &GtidSet) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(description)?;
        self.replace(&self.path(name, DESCRIPTION), |to| {
            to.write_all(&text).map(|()| true)
        })?;
        self.forget(name, given)
    }

    /// Deletes the oldest ones, and what was not finished. `name` and what holds some of `given` stays, whatever its age:
    /// a clock may have been set back.
    fn forget(&self, name: &str, given: &GtidSet) -> io::Result<()> {
        for path in self.paths()? {
            if has_ending(&path, UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        let mut room = ROOM;
        for (at, one) in self.all()?.into_iter().enumerate() {
            let theirs = &one.description.transactions;
            let is_needed = one.name == name || theirs.subtract(given) != *theirs;
            let fits = at == 0 || is_needed || (at < MOST && one.bytes() <= room);
            room = room.saturating_sub(one.bytes());
            if !fits {
                // What is described and not there is not shown, so the log goes first.
                for ending in [LOG, DESCRIPTION] {
                    gone(fs::remove_file(self.path(&one.name, ending)))?;
                }
            }
        }
        Ok(())
    }

    fn replace<E: From<io::Error>>(
        &self,
        file: &Path,
        writer: impl FnOnce(&mut File) -> Result<bool, E>,
    ) -> Result<Option<PathBuf>, E> {
        if !self.0.exists() {
            fs::create_dir_all(&self.0)?;
            if let Some(above) = self.0.parent() {
                File::open(above)?.sync_all()?;
            }
        }
        let unfinished = file.with_extension(UNFINISHED);
        let write = || -> Result<bool, E> {
            let mut to = File::create(&unfinished)?;
            let is_something = writer(&mut to)?;
            to.sync_all()?;
            Ok(is_something)
        };
        let written = write();
        if !matches!(written, Ok(true)) {
            // It takes room, perhaps on a disk that is full.
            gone(fs::remove_file(&unfinished))?;
            return written.map(|_| None);
        }
        fs::rename(&unfinished, file)?;
        File::open(&self.0)?.sync_all()?;
        Ok(Some(file.to_owned()))
    }

    /// `None` where nothing is left of what is described.
    fn description(&self, name: &str, log: Option<&Path>) -> io::Result<Option<Description>> {
        let text = gone(fs::read(self.path(name, DESCRIPTION)).map(Some))?;
        let described: Option<Description> = text.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(match (described, log) {
            (Some(described), None) => Some(described).filter(|one| one.transactions.is_empty()),
            (Some(described), Some(_)) => Some(described),
            (None, None) => None,
            // Of an earlier release, or the agent ended before it was described.
            (None, Some(log)) => {
                let written = fs::metadata(log)?.modified()?.duration_since(UNIX_EPOCH);
                Some(Description {
                    reason: if name.ends_with(EXTRA) {
                        GivenUp::Extra
                    } else {
                        GivenUp::Unacknowledged
                    },
                    at: written.map_or(0, |since| since.as_secs()),
                    transactions: binlog::whole(&mut File::open(log)?)?,
                    missing: GtidSet::new(),
                    why_missing: None,
                })
            }
        })
    }

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(&self.0) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{name}.{ending}"))
    }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

/// What is not there is nothing, and no error.
fn gone<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        result => result,
    }
}

/// Puts on the board what is kept, once the agent begins.
pub async fn tell(agent: Arc<Agent>) {
    let files = Arc::clone(&agent.files).lock_owned().await;
    let shelf = Shelf::beside(&agent.settings.agent_dir);
    let look = move || {
        let told = shelf.forget("", &GtidSet::new()).and_then(|()| shelf.told());
        drop(files);
        told
    };
    match tokio::task::spawn_blocking(look).await.map_err(io::Error::other) {
        Ok(Ok(kept)) => agent.board.keeps(kept),
        Ok(Err(error)) | Err(error) => warn!(%error, "the files of kept transactions cannot be listed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn shelf() -> Shelf {
        Shelf(std::env::temp_dir().join(format!("ddb-kept-{}", uuid::Uuid::new_v4())))
    }

    fn keep(shelf: &Shelf, number: u64, bytes: u64) {
        let name = number.to_string();
        shelf.write(&name, |to| to.set_len(bytes).map(|()| true)).unwrap();
        let description = Description {
            reason: GivenUp::Extra,
            at: 1000 + number,
            transactions: GtidSet::new().with(A, number, number),
            missing: GtidSet::new(),
            why_missing: None,
        };
        shelf.describe(&name, &description, &GtidSet::new()).unwrap();
    }

    fn numbers(shelf: &Shelf) -> Vec<u64> {
        let all = shelf.all().unwrap();
        all.iter().map(|one| one.name.parse().unwrap()).collect()
    }

    #[test]
    fn the_newest_are_kept_in_bounded_number_and_bytes() {
        let shelf = shelf();
        for number in 1..=12 {
            keep(&shelf, number, 100);
        }
        assert_eq!(numbers(&shelf), [12, 11, 10, 9, 8, 7, 6, 5]);
        assert_eq!(fs::read_dir(&shelf.0).unwrap().count(), 2 * MOST);
        keep(&shelf, 13, ROOM - 250);
        assert_eq!(numbers(&shelf), [13, 12, 11]);
        keep(&shelf, 14, 2 * ROOM);
        assert_eq!(numbers(&shelf), [14], "the newest stays, however large it is");
        let told = shelf.told().unwrap();
        assert_eq!((told.count, told.newest[0].bytes), (1, 2 * ROOM));
        assert_eq!(told.newest[0].transactions, GtidSet::new().with(A, 14, 14));
        fs::remove_dir_all(&shelf.0).unwrap();
    }

    #[test]
    fn what_could_not_be_written_is_not_there() {
        let shelf = shelf();
        let full = shelf.write("1", |to| {
            to.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_dir(&shelf.0).unwrap().count(), 0);
        let nothing = shelf.write::<io::Error>("1", |_| Ok(false)).unwrap();
        assert_eq!((nothing, fs::read_dir(&shelf.0).unwrap().count()), (None, 0));
        fs::remove_dir_all(&shelf.0).unwrap();
    }

    #[test]
    fn a_file_without_a_description_is_told_and_a_description_without_its_file_is_not() {
        let shelf = shelf();
        assert!(shelf.all().unwrap().is_empty(), "no folder");
        let mut log = binlog::tail::tests::Log::begin(0);
        log.rows(1);
        shelf
            .write("3-17", |to| to.write_all(&log.0).map(|()| true))
            .unwrap();
        let one = &shelf.told().unwrap().newest[0];
        assert_eq!(one.transactions, binlog::tail::tests::upto(1));
        assert_eq!(one.reason, GivenUp::Unacknowledged);
        keep(&shelf, 4, 100);
        fs::remove_file(shelf.path("4", LOG)).unwrap();
        assert_eq!(shelf.told().unwrap().count, 1, "somebody deleted it");
        assert_eq!(shelf.name(failover::Term(3), 17, GivenUp::Unacknowledged), "3-18");
        assert_eq!(shelf.name(failover::Term(3), 17, GivenUp::Extra), "3-17-extra");
        fs::remove_dir_all(&shelf.0).unwrap();
    }
}
