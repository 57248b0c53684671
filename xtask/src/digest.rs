//! Keys of the build caches: a hash over everything that a build's result depends on.
//!
//! A missing input would let a cache hide a change, so an unreadable file is an error, never skipped.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Collects inputs; each is stored with its length, so that neighbours cannot run into each other.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    #[must_use]
    pub fn text(mut self, label: &str, value: &str) -> Self {
        self.put(label.as_bytes());
        self.put(value.as_bytes());
        self
    }

    /// Adds one file's contents under its name.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let name = path.file_name().context("a file without a name")?;
        let mut inner = Sha256::new();
        let mut file = fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file
                .read(&mut buffer)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            if read == 0 {
                break;
            }
            inner.update(&buffer[..read]);
        }
        self.put(name.as_encoded_bytes());
        self.put(&inner.finalize());
        Ok(self)
    }

    /// Adds all plain files of a folder (not of folders below it), in the order of their names.
    pub fn folder(mut self, path: &Path) -> Result<Self> {
        let entries = fs::read_dir(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.is_file());
        files.sort();
        for file in files {
            self = self.file(&file)?;
        }
        Ok(self)
    }

    /// The first 12 hexadecimal digits, enough for a cache and short enough for a name.
    pub fn short(self) -> String {
        let hash = self.0.finalize();
        let first = hash
            .iter()
            .take(6)
            .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        format!("{first:012x}")
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_inputs_give_the_same_twelve_digits() {
        let key = || Key::default().text("go", "1.26").text("flags", "-s").short();
        assert_eq!(key(), key());
        assert_eq!(key().len(), 12);
    }

    #[test]
    fn inputs_cannot_run_into_each_other() {
        assert_ne!(
            Key::default().text("ab", "c").short(),
            Key::default().text("a", "bc").short()
        );
        assert_ne!(
            Key::default().text("a", "b").text("", "").short(),
            Key::default().text("a", "b").short()
        );
    }

    #[test]
    fn a_changed_added_or_renamed_file_changes_the_key() {
        let folder = std::env::temp_dir().join(format!("ddb-digest-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = || Key::default().folder(&folder).unwrap().short();
        fs::write(folder.join("a"), "1").unwrap();
        let first = key();
        fs::write(folder.join("a"), "2").unwrap();
        let changed = key();
        fs::write(folder.join("b"), "").unwrap();
        let added = key();
        fs::rename(folder.join("b"), folder.join("c")).unwrap();
        let renamed = key();
        fs::remove_dir_all(&folder).unwrap();
        let all = std::collections::BTreeSet::from([first, changed, added, renamed]);
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn an_unreadable_file_is_an_error() {
        assert!(Key::default().file(Path::new("/does/not/exist")).is_err());
    }
}
