//! The marker that keeps mysqld down after its next end: an empty file beside the data directory, so that it outlives
//! the supervisor and the pod. It must never be inside the data directory, which CLONE and a new volume replace.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// The marker's place.
#[derive(Debug, Clone)]
pub struct Marker(PathBuf);

impl Marker {
    /// The marker of this data directory.
    pub fn of(datadir: &Path) -> Self {
        Self(datadir.with_extension("hold"))
    }

    /// True when mysqld is to stay down.
    pub fn is_set(&self) -> bool {
        self.0.exists()
    }

    /// Sets it, durably.
    pub fn set(&self) -> io::Result<()> {
        if self.is_set() {
            return Ok(());
        }
        File::create(&self.0)?.sync_all()?;
        File::open(self.0.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Takes it away. That need not be durable: one that comes back after a crash costs a question to the agent, which cuts
    /// nothing off a slave.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_outlives_its_owner_and_may_be_cleared_twice() {
        let root = std::env::temp_dir().join(format!("ddb-hold-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let datadir = root.join("mysql");
        Marker::of(&datadir).set().unwrap();
        assert!(Marker::of(&datadir).is_set());
        Marker::of(&datadir).clear().unwrap();
        Marker::of(&datadir).clear().unwrap();
        assert!(!Marker::of(&datadir).is_set());
        fs::remove_dir_all(root).unwrap();
    }
}
