//! The claim on a volume: one mysqld at a time, and until when an earlier one may still run.
//!
//! A pod that was deleted by force is replaced at once, and its processes may run for seconds beside the new pod, on the
//! same volume. InnoDB's own locks do not tell: a server that was copied from by CLONE has lost those on its data (seen
//! of 9.7.4), because a process loses a POSIX lock when it closes any of its handles of the file. This one belongs to the
//! open file, which mysqld inherits, so that it lasts as long as any of its processes, whoever else has ended.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
};

/// The file that is locked by whoever runs mysqld on this data directory: beside it, because CLONE and a new beginning
/// replace what is in it.
pub fn of(datadir: &Path) -> PathBuf {
    datadir.with_extension("claim")
}

/// A claim, held until it is dropped and every process that [inherits](Claim::inherited) it has ended.
#[derive(Debug)]
pub struct Claim(File);

impl Claim {
    /// Locks this file, which is made where there is none; `None` while somebody else has it.
    ///
    /// # Errors
    /// Where the volume cannot be read, the file cannot be made, or its file system knows no locks.
    pub fn take(place: &Path) -> io::Result<Option<Self>> {
        // Opening for writing would hang on a frozen file system and fail on one that can only be read.
        let file = match File::open(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => open_to_write(place)?,
            opened => opened?,
        };
        match Self::locked(file) {
            // NFS wants a file that is open for writing.
            Err(error) if error.raw_os_error() == Some(Errno::EBADF as i32) => {
                Self::locked(open_to_write(place)?)
            }
            taken => taken,
        }
    }

    fn locked(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Lets every process that is started from now on share the claim.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn inherited(self) -> io::Result<Self> {
        fcntl(&self.0, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(self)
    }
}

/// True while a process has the claim.
///
/// # Errors
/// Where the volume cannot be read.
pub fn is_taken(place: &Path) -> io::Result<bool> {
    let file = match File::open(place) {
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

fn open_to_write(place: &Path) -> io::Result<File> {
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory)?;
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(place)
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        thread::sleep,
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_claim_lasts_as_long_as_any_process_that_inherits_it() {
        let root = std::env::temp_dir().join(format!("ddb-claim-{}", std::process::id()));
        let place = of(&root.join("mysql"));
        assert!(!is_taken(&place).unwrap());
        let claim = Claim::take(&place).unwrap().unwrap();
        assert!(Claim::take(&place).unwrap().is_none());
        assert!(is_taken(&place).unwrap());
        let claim = claim.inherited().unwrap();
        let mut heir = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(claim);
        assert!(is_taken(&place).unwrap(), "the heir holds it");
        heir.kill().unwrap();
        heir.wait().unwrap();
        // Other tests of this process start processes too, which have inherited it as well.
        for _ in 0..500 {
            if !is_taken(&place).unwrap() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        assert!(Claim::take(&place).unwrap().is_some());
        fs::remove_dir_all(root).unwrap();
    }
}
