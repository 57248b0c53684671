//! What the agent must remember across any crash: one JSON file, replaced whole.
//!
//! A change counts only after file and directory are on disk; nothing may act on a term, a fence or a volume before
//! [`Store::change`] has returned. It must not hold anything that can be asked of mysqld.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use failover::{GtidSet, NodeId, Tail, Term, VolumeId};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::board::Board;

/// Everything durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// The life of the data.
    pub volume: VolumeId,
    /// The highest term seen.
    pub term: Term,
    /// The term in which the node confirmed that it acknowledges nothing.
    pub fenced: Option<Term>,
    /// The master it was last told to follow.
    pub followed: Option<Followed>,
    /// The promotion record: when it was last told to lead.
    pub promoted: Option<Promoted>,
    /// What came of the last cut; none since the node leads again or was cloned.
    #[serde(default)]
    pub tail: Option<Tail>,
    /// It was told to lead since it was last opened as a slave: clients may still be led to it as to the master.
    #[serde(default)]
    pub led: bool,
    /// When damaged data was last thrown away, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<u64>,
}

impl Memory {
    /// The data begins a new life: what was true of the old one is forgotten.
    pub fn begin_new_life(&mut self) {
        self.volume = new_volume();
        (self.followed, self.promoted, self.tail) = (None, None, None);
    }
}

/// A master to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    /// The term of the command.
    pub term: Term,
    /// The master's name.
    pub source: NodeId,
    /// The master's address.
    pub address: String,
    /// Executing this means to have caught up.
    pub until: GtidSet,
    /// The start of mysqld that was told.
    #[serde(alias = "serverId")]
    pub start: u32,
}

/// A promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promoted {
    /// The term of the command.
    pub term: Term,
    /// How many slaves acknowledge a write.
    pub acks: u32,
    /// What was executed before the first write of the term.
    pub set: GtidSet,
    /// The start of mysqld that was promoted.
    #[serde(alias = "serverId")]
    pub start: u32,
}

/// Why remembering failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("cannot read or write {path}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The disk's answer.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{path} does not hold an agent's state; if the node's data may be made anew, delete the volume")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// The file and its current content.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    memory: Arc<Mutex<Memory>>,
    board: Arc<Board>,
}

/// Reads the state, or begins a new life of the data where there is none.
pub fn open(directory: &Path) -> Result<Memory, StoreError> {
    let path = directory.join("state.json");
    let disk = |source| StoreError::Disk {
        path: path.clone(),
        source,
    };
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged {
            path: path.clone(),
            source,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory).map_err(disk)?;
            let memory = Memory {
                volume: new_volume(),
                term: Term::default(),
                fenced: None,
                followed: None,
                promoted: None,
                tail: None,
                led: false,
                discarded: None,
            };
            write(&path, &memory).map_err(disk)?;
            Ok(memory)
        }
        Err(error) => Err(disk(error)),
    }
}

/// The identity of a new life of the data.
pub fn new_volume() -> VolumeId {
    VolumeId::from(uuid::Uuid::new_v4().to_string())
}

fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(memory)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

impl Store {
    /// Takes over what [`open`] read; every change also goes to `board`.
    pub fn new(directory: &Path, memory: Memory, board: Arc<Board>) -> Self {
        Self {
            path: directory.join("state.json"),
            memory: Arc::new(Mutex::new(memory)),
            board,
        }
    }

    /// The current content.
    pub async fn get(&self) -> Memory {
        self.memory.lock().await.clone()
    }

    /// Changes the content and returns when the change is durable.
    pub async fn change(&self, change: impl FnOnce(&mut Memory) + Send) -> Result<Memory, StoreError> {
        let mut memory = Arc::clone(&self.memory).lock_owned().await;
        let mut next = memory.clone();
        change(&mut next);
        if next == *memory {
            return Ok(next);
        }
        let (path, board) = (self.path.clone(), Arc::clone(&self.board));
        // A frozen disk must not take one of the few worker threads with it; and a write whose command was broken
        // off ends under the lock, so that it can neither overwrite a later one nor be forgotten.
        let writing = tokio::task::spawn_blocking(move || {
            write(&path, &next).map(|()| {
                *memory = next.clone();
                board.remember(next.clone());
                next
            })
        });
        writing
            .await
            .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
            .map_err(|source| StoreError::Disk {
                path: self.path.clone(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_outlives_the_agent_and_a_new_volume_begins_empty() {
        let directory = std::env::temp_dir().join(format!("ddb-store-{}", uuid::Uuid::new_v4()));
        let memory = open(&directory).unwrap();
        assert_eq!(memory.term, Term(0));
        let board = Arc::new(Board::new(memory.clone()));
        let store = Store::new(&directory, memory.clone(), Arc::clone(&board));
        store
            .change(|memory| (memory.term, memory.fenced) = (Term(4), Some(Term(4))))
            .await
            .unwrap();
        let again = open(&directory).unwrap();
        assert_eq!(
            (again.term, again.fenced, &again.volume),
            (Term(4), Some(Term(4)), &memory.volume)
        );
        assert_eq!(board.report().fenced, Some(Term(4)));
        fs::remove_dir_all(&directory).unwrap();
        assert_ne!(open(&directory).unwrap().volume, memory.volume);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_volume() {
        let directory = std::env::temp_dir().join(format!("ddb-store-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("state.json"), "{\"term\":").unwrap();
        assert!(matches!(open(&directory), Err(StoreError::Damaged { .. })));
        fs::remove_dir_all(&directory).unwrap();
    }
}
