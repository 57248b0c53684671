//! The UUID under which a server numbers its transactions.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Takes the UUID away, durably; the next start of mysqld makes a new one, the one that runs keeps its own.
///
/// Whoever loses transactions from its log has to lose its UUID before: it would give their numbers again, to others, and
/// a node that had received the lost ones would pass for equal.
pub fn forget(datadir: &Path) -> io::Result<()> {
    match fs::remove_file(datadir.join("auto.cnf")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // One that is missing may have been taken away a moment ago, by an agent that was killed then.
        _ => File::open(datadir)?.sync_all(),
    }
}
