//! Keeps the transactions that a clone is about to give up: finds them in the node's own binary logs and relay logs and
//! copies them, and them alone, into a file. mysqld may run meanwhile; nothing of its own is changed.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use api::kept::GivenUp;
use failover::{GtidSet, Term};
use nix::sys::statvfs::statvfs;

use crate::{
    binlog::{Error, Extract, groups::previous},
    kept::{Description, Shelf},
};

/// Bytes of the volume that stay free: mysqld writes to it meanwhile.
const SPARED: u64 = 64 << 20;

/// Keeps what of `given` is not kept yet, as of `at` seconds since 1970. What is in no log any more is named instead.
///
/// # Errors
/// Those of the disk: nothing may be given up then.
pub fn keep(datadir: &Path, shelf: &Shelf, term: Term, at: u64, given: &GtidSet) -> io::Result<()> {
    let wanted = given.subtract(&known(shelf)?);
    if wanted.is_empty() {
        return Ok(());
    }
    let name = shelf.name(term, at, GivenUp::Extra);
    let mut troubles = Vec::new();
    let (mut found, mut missing) = (GtidSet::new(), wanted.clone());
    let left = room(datadir)?.saturating_sub(SPARED);
    shelf.write(&name, |to| {
        let to = Capped { to, left };
        let mut extract = Extract::new(BufWriter::new(to), wanted.clone());
        // A second time for what moved from the relay logs to the binary logs meanwhile.
        for _ in 0..2 {
            troubles.clear();
            for log in logs(datadir, &wanted)? {
                if !extract.wanted().is_empty() {
                    troubles.extend(take(&mut extract, &log)?);
                }
            }
            if extract.wanted().is_empty() {
                break;
            }
        }
        (found, missing) = extract.finish()?;
        Ok::<bool, io::Error>(!found.is_empty())
    })?;
    let why_missing = match (missing.is_empty(), troubles.is_empty()) {
        (true, _) => None,
        (false, true) => Some("the binary logs that held them were purged".to_owned()),
        (false, false) => Some(troubles.join("; ")),
    };
    let description = Description {
        reason: GivenUp::Extra,
        at,
        transactions: found,
        missing,
        why_missing,
    };
    shelf.describe(&name, &description, given)
}

/// The bytes that are free on the volume.
fn room(datadir: &Path) -> io::Result<u64> {
    let volume = statvfs(datadir)?;
    Ok(volume.blocks_available() * volume.fragment_size())
}

/// Refuses what would fill the disk, on which mysqld runs.
struct Capped<W> {
    to: W,
    left: u64,
}

impl<W: io::Write> io::Write for Capped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.left = self
            .left
            .checked_sub(written as u64)
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What is in a file already, or was in no log when it was sought before: a clone that was refused is tried again.
fn known(shelf: &Shelf) -> io::Result<GtidSet> {
    let all = shelf.all()?.into_iter();
    Ok(all.fold(GtidSet::new(), |known, one| {
        known
            .union(&one.description.transactions)
            .union(&one.description.missing)
    }))
}

/// Copies what `log` has of what is sought. A log that is not understood is told of: it will be understood no better at
/// the next attempt, and the node would be held back for ever.
fn take(extract: &mut Extract<impl io::Write>, log: &Path) -> io::Result<Option<String>> {
    let trouble = |error: &dyn std::fmt::Display| {
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        Ok(Some(format!("{name}: {error}")))
    };
    let mut file = match File::open(log) {
        Ok(file) => file,
        // mysqld has purged it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return trouble(&error),
    };
    match extract.take(&mut file) {
        Ok(()) => Ok(None),
        // Of the disk, in the middle of a transaction perhaps.
        Err(Error::Io(error)) => Err(error),
        Err(error) => trouble(&error),
    }
}

/// The logs that may hold some of `wanted`: binary logs, and what was received and not executed.
fn logs(datadir: &Path, wanted: &GtidSet) -> io::Result<Vec<PathBuf>> {
    let executed = listed(datadir, "binlog.index")?;
    // One that cannot be read may hold anything.
    let begins = |log: &PathBuf| File::open(log).and_then(|mut log| previous(&mut log)).ok()?;
    let before: Vec<Option<GtidSet>> = executed.iter().map(begins).collect();
    // Each log begins with what all before it hold. There may be hundreds, of which one is needed.
    let may_hold = |at: usize| match (&before[at], before.get(at + 1)) {
        (Some(before), Some(Some(after))) => wanted.subtract(&after.subtract(before)) != *wanted,
        _ => true,
    };
    let needed = executed.iter().enumerate().filter(|(at, _)| may_hold(*at));
    let mut logs: Vec<PathBuf> = needed.map(|(_, log)| log.clone()).collect();
    match listed(datadir, "relay.index") {
        // It never received anything.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        received => logs.extend(received?),
    }
    Ok(logs)
}

/// The files that an index names. mysqld replaces the index at times, so one that is not there now is an error.
fn listed(datadir: &Path, index: &str) -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string(datadir.join(index))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(|line| datadir.join(line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::{
        tail::tests::{A, Log, upto},
        whole,
    };

    struct Place {
        root: PathBuf,
        shelf: Shelf,
    }

    impl Place {
        /// Binary logs with transactions 1 to 3, 4 to 6 and 7 to 9, the first one purged; 10 and 11 were only received.
        fn new() -> Self {
            let root = std::env::temp_dir().join(format!("ddb-extra-{}", uuid::Uuid::new_v4()));
            fs::create_dir_all(root.join("agent")).unwrap();
            for (name, first, last) in [("binlog.2", 4, 6), ("binlog.3", 7, 9), ("relay.1", 10, 11)] {
                let mut log = Log::begin(first - 1);
                for number in first..=last {
                    log.rows(number);
                }
                fs::write(root.join(name), &log.0).unwrap();
            }
            fs::write(root.join("binlog.index"), "./binlog.2\n./binlog.3\n").unwrap();
            fs::write(root.join("relay.index"), "./relay.1\n").unwrap();
            let shelf = Shelf::beside(&root.join("agent"));
            Self { root, shelf }
        }

        fn keep(&self, at: u64, given: &GtidSet) -> io::Result<()> {
            keep(&self.root, &self.shelf, Term(3), at, given)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    fn range(from: u64, to: u64) -> GtidSet {
        GtidSet::new().with(A, from, to)
    }

    #[test]
    fn what_is_given_up_is_kept_once_and_what_is_purged_is_named() {
        let place = Place::new();
        let given = range(3, 5).union(&range(9, 10));
        place.keep(17, &given).unwrap();
        let all = place.shelf.all().unwrap();
        let one = &all[0];
        assert_eq!(one.description.transactions, range(4, 5).union(&range(9, 10)));
        assert_eq!(one.description.missing, range(3, 3));
        let why = one.description.why_missing.as_deref().unwrap();
        assert!(why.contains("purged"), "{why}");
        let (file, _) = one.file.clone().unwrap();
        assert_eq!(
            whole(&mut File::open(file).unwrap()).unwrap(),
            one.description.transactions
        );
        place.keep(18, &given).unwrap();
        assert_eq!(place.shelf.all().unwrap(), all, "the clone is tried again");
        place.keep(19, &given.union(&range(8, 8))).unwrap();
        let all = place.shelf.all().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].description.transactions, range(8, 8), "only what is new");
    }

    #[test]
    fn only_logs_that_may_hold_it_are_read() {
        let place = Place::new();
        let names = |wanted: &GtidSet| -> Vec<String> {
            let logs = logs(&place.root, wanted).unwrap();
            logs.iter()
                .map(|log| log.file_name().unwrap().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(names(&range(5, 5)), ["binlog.2", "binlog.3", "relay.1"]);
        assert_eq!(names(&range(7, 9)), ["binlog.3", "relay.1"]);
    }

    #[test]
    fn a_log_that_is_not_understood_is_named_and_one_that_is_gone_is_no_error() {
        let place = Place::new();
        fs::write(place.root.join("binlog.2"), b"\xfdbin and more").unwrap();
        fs::remove_file(place.root.join("relay.1")).unwrap();
        place.keep(17, &upto(10)).unwrap();
        let one = place.shelf.all().unwrap().remove(0);
        assert_eq!(one.description.transactions, range(7, 9));
        assert_eq!(
            one.description.why_missing.as_deref(),
            Some("binlog.2: the binary log is encrypted")
        );
        place.keep(18, &range(1, 6)).unwrap();
        assert_eq!(place.shelf.all().unwrap().len(), 1, "it is known to be in none");
    }

    #[test]
    fn where_nothing_is_left_there_is_no_file_and_the_names_are_told() {
        let place = Place::new();
        place.keep(17, &upto(3)).unwrap();
        let told = place.shelf.told().unwrap();
        let one = &told.newest[0];
        assert_eq!((told.count, &one.file, &one.missing), (1, &None, &upto(3)));
    }

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let mut capped = Capped {
            to: Vec::new(),
            left: 5,
        };
        io::Write::write_all(&mut capped, b"12345").unwrap();
        let refused = io::Write::write_all(&mut capped, b"6").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn what_a_clone_that_was_refused_has_kept_stays_until_one_succeeds() {
        let place = Place::new();
        place.keep(100, &range(4, 4)).unwrap();
        // Others come after it, and the clock is set back.
        for at in 1..=9 {
            place.keep(at, &range(4, 4 + at)).unwrap();
        }
        let all = place.shelf.all().unwrap();
        let kept = all.iter().fold(GtidSet::new(), |kept, one| {
            kept.union(&one.description.transactions)
        });
        assert_eq!(kept, range(4, 11));
    }

    #[test]
    fn a_disk_that_takes_nothing_is_an_error() {
        let place = Place::new();
        // The folder cannot be made where a file is.
        fs::write(place.root.join("tails"), b"").unwrap();
        place.keep(17, &upto(5)).unwrap_err();
    }
}
