//! The files of a tail: finds it in the last binary log, keeps a copy, cuts it off. Only while mysqld is down.
//!
//! The copy is on the disk before a byte is cut, and begins like the log itself, so that `mysqlbinlog` reads it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use failover::GtidSet;

use crate::binlog::{self, Tail};

/// How many copies are kept; older ones are deleted.
const KEPT: usize = 8;

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

/// Finds the transactions that `keep` lacks and copies them to `tails` as `name`. `None`: there are none.
pub fn copy(datadir: &Path, tails: &Path, name: &str, keep: &GtidSet) -> Result<Option<Copied>, TailError> {
    let log = last_log(datadir)?;
    let mut from = File::open(&log)?;
    let Some(tail) = binlog::find(&mut from, keep)? else {
        return Ok(None);
    };
    fs::create_dir_all(tails)?;
    let file = tails.join(name);
    let mut to = File::create(&file)?;
    from.rewind()?;
    io::copy(&mut (&mut from).take(tail.head), &mut to)?;
    from.seek(SeekFrom::Start(tail.at))?;
    io::copy(&mut from, &mut to)?;
    to.flush()?;
    to.sync_all()?;
    File::open(tails)?.sync_all()?;
    forget_oldest(tails)?;
    Ok(Some(Copied { log, tail, file }))
}

/// Cuts the tail off. The server also loses its name: its next transactions would repeat the numbers of those that
/// were cut, which another server may have seen.
pub fn cut(datadir: &Path, copied: &Copied) -> io::Result<()> {
    match fs::remove_file(datadir.join("auto.cnf")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => File::open(datadir)?.sync_all()?,
    }
    let log = File::options().write(true).open(&copied.log)?;
    log.set_len(copied.tail.at)?;
    log.sync_all()
}

fn last_log(datadir: &Path) -> Result<PathBuf, TailError> {
    let index = fs::read_to_string(datadir.join("binlog.index"))?;
    let last = index.lines().rfind(|line| !line.trim().is_empty());
    last.map(|name| datadir.join(name.trim())).ok_or(TailError::NoLog)
}

fn forget_oldest(tails: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(tails)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    for (_, path) in files.iter().rev().skip(KEPT) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_copies_are_kept() {
        let root = std::env::temp_dir().join(format!("ddb-tails-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&root).unwrap();
        for number in 0..12 {
            let file = File::create(root.join(format!("{number}.binlog"))).unwrap();
            let age = std::time::Duration::from_secs(1000 - number);
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_hours(9) - age)
                .unwrap();
        }
        forget_oldest(&root).unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), KEPT);
        assert!(root.join("11.binlog").exists() && !root.join("3.binlog").exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn without_a_log_there_is_an_error_and_no_copy() {
        let root = std::env::temp_dir().join(format!("ddb-tails-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&root).unwrap();
        let attempt = || copy(&root, &root.join("tails"), "1.binlog", &GtidSet::new());
        assert!(matches!(attempt(), Err(TailError::Disk(_))));
        fs::write(root.join("binlog.index"), "\n").unwrap();
        assert!(matches!(attempt(), Err(TailError::NoLog)));
        assert!(!root.join("tails").exists());
        fs::remove_dir_all(root).unwrap();
    }
}
