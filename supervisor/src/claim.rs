//! The claim on a volume: one mysqld at a time, and until when an earlier one may still run.
//!
//! A pod that was deleted by force is replaced at once, and its mysqld may run for seconds beside the new pod, on the
//! same volume. InnoDB's own locks do not tell: a server that was copied from by CLONE has lost those on its data (seen
//! of 9.7.4), because a process loses a POSIX lock when it closes any of its handles of the file. This one belongs to the
//! open file, which mysqld inherits, so that it lasts as long as any of its processes, whoever else has ended.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The claim, held until this and every process that was started since have ended.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

impl Claim {
    /// Takes the claim on the volume of this data directory; `None` while somebody else has it.
    ///
    /// # Errors
    /// Where the volume cannot be written or its file system knows no locks.
    pub fn take(datadir: &Path) -> io::Result<Option<Self>> {
        let place = place(datadir);
        if let Some(volume) = place.parent() {
            fs::create_dir_all(volume)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(place)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(Some(Self { _file: file }))
    }
}

/// True while a process has the claim on the volume of this data directory.
///
/// # Errors
/// Where the volume cannot be read.
pub fn is_claimed(datadir: &Path) -> io::Result<bool> {
    // Only read, because a frozen file system holds up whoever opens a file for writing.
    let file = match File::open(place(datadir)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Beside the data directory, which CLONE and a new beginning replace.
fn place(datadir: &Path) -> PathBuf {
    datadir.with_extension("claim")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_claim_lasts_as_long_as_any_process_that_was_started_under_it() {
        let root = std::env::temp_dir().join(format!("ddb-claim-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let datadir = root.join("mysql");
        assert!(!is_claimed(&datadir).unwrap());
        let claim = Claim::take(&datadir).unwrap().unwrap();
        assert!(Claim::take(&datadir).unwrap().is_none());
        assert!(is_claimed(&datadir).unwrap());
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(claim);
        assert!(
            is_claimed(&datadir).unwrap(),
            "the child holds what its parent had"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_claimed(&datadir).unwrap());
        assert!(Claim::take(&datadir).unwrap().is_some());
        std::fs::remove_dir_all(root).unwrap();
    }
}
