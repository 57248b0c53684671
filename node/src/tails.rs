//! The tail of a binary log: finds it in the last file, keeps a copy, cuts it off. Only while mysqld is down.
//!
//! The copy is on the disk before a byte is cut, and begins like the log itself, so that `mysqlbinlog` reads it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use api::kept::GivenUp;
use failover::{GtidSet, Term};

use crate::{
    binlog::{self, Tail},
    kept::{Description, Shelf},
    server_uuid,
};

/// Why nothing was cut.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The end of the log cannot be judged, or may not be cut.
    #[error(transparent)]
    Log(#[from] binlog::Error),
    /// The disk.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// There is no list of binary logs.
    #[error("the list of binary logs is empty")]
    NoLog,
}

/// A tail that was found and copied and not yet cut off.
#[derive(Debug)]
pub struct Copied {
    log: PathBuf,
    /// Where it begins and what it is.
    pub tail: Tail,
    /// The copy.
    pub file: PathBuf,
}

/// Finds the transactions that `keep` lacks and copies them to the shelf. `None`: there are none. `at` is in seconds since
/// 1970.
pub fn copy(
    datadir: &Path,
    shelf: &Shelf,
    term: Term,
    at: u64,
    keep: &GtidSet,
) -> Result<Option<Copied>, TailError> {
    let log = last_log(datadir)?;
    let mut from = File::open(&log)?;
    let Some(tail) = binlog::find(&mut from, keep)? else {
        return Ok(None);
    };
    let name = shelf.name(term, at, GivenUp::Unacknowledged);
    let file = shelf.write(&name, |to| {
        from.rewind()?;
        io::copy(&mut (&mut from).take(tail.head), to)?;
        from.seek(SeekFrom::Start(tail.at))?;
        io::copy(&mut from, to)?;
        Ok::<bool, io::Error>(true)
    })?;
    let Some(file) = file else { return Ok(None) };
    // The server may have been killed in the middle of the last one.
    let whole = binlog::whole(&mut File::open(&file)?)?;
    let description = Description {
        reason: GivenUp::Unacknowledged,
        at,
        transactions: whole.clone(),
        missing: GtidSet::new(),
        why_missing: None,
    };
    shelf.describe(&name, &description, &whole)?;
    Ok(Some(Copied { log, tail, file }))
}

/// Cuts the tail off. The server also loses its UUID.
pub fn cut(datadir: &Path, copied: &Copied) -> io::Result<()> {
    server_uuid::forget(datadir)?;
    let log = File::options().write(true).open(&copied.log)?;
    log.set_len(copied.tail.at)?;
    log.sync_all()
}

fn last_log(datadir: &Path) -> Result<PathBuf, TailError> {
    let index = fs::read_to_string(datadir.join("binlog.index"))?;
    let last = index.lines().rfind(|line| !line.trim().is_empty());
    last.map(|name| datadir.join(name.trim())).ok_or(TailError::NoLog)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::tail::tests::{Log, upto};

    fn place() -> (PathBuf, Shelf) {
        let root = std::env::temp_dir().join(format!("ddb-tails-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(root.join("agent")).unwrap();
        let shelf = Shelf::beside(&root.join("agent"));
        (root, shelf)
    }

    #[test]
    fn a_tail_is_kept_with_its_name_before_it_is_cut() {
        let (root, shelf) = place();
        let mut log = Log::begin(0);
        log.rows(1);
        let second = log.rows(2);
        log.gtid(3);
        fs::write(root.join("binlog.1"), &log.0).unwrap();
        fs::write(root.join("binlog.index"), "./binlog.1\n").unwrap();
        let copied = copy(&root, &shelf, Term(4), 17, &upto(1)).unwrap().unwrap();
        assert_eq!(copied.file, root.join("tails/4-17.binlog"));
        let kept = shelf.told().unwrap().newest.remove(0);
        assert_eq!(
            kept.transactions,
            upto(2).subtract(&upto(1)),
            "the third has no end"
        );
        assert_eq!(kept.file.as_deref(), copied.file.to_str());
        cut(&root, &copied).unwrap();
        assert_eq!(fs::metadata(root.join("binlog.1")).unwrap().len(), second);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn without_a_log_there_is_an_error_and_no_copy() {
        let (root, shelf) = place();
        let attempt = || copy(&root, &shelf, Term(1), 1, &GtidSet::new());
        assert!(matches!(attempt(), Err(TailError::Disk(_))));
        fs::write(root.join("binlog.index"), "\n").unwrap();
        assert!(matches!(attempt(), Err(TailError::NoLog)));
        assert!(!root.join("tails").exists());
        fs::remove_dir_all(root).unwrap();
    }
}
