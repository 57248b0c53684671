//! Makes a copy ready that CLONE has left for the next start.
//!
//! CLONE replaces every data file but the doublewrite files: those keep pages of the data that was thrown away. The first
//! crash recovery takes a page that was never written for a torn one, as it is empty on the disk, and puts the old one in
//! its place, whose log sequence number is ahead of the log where the old data had seen more. The redo log is then not
//! applied to it, and mysqld ends with an assertion about undo logs at this start and each further one (seen of 9.7.4).
//! Nothing of the new data is in these files yet, and mysqld makes new ones.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// The list of files that the next start puts in place. mysqld takes it away once that is done, before it writes anything.
const TO_BE_REPLACED: &str = "#clone/#replace_files";

/// Takes away the doublewrite files of the data that a finished copy replaces at the next start, and says how many.
///
/// # Errors
/// Where the data directory cannot be read or changed. mysqld must not be started then.
pub fn forget_doublewrites(datadir: &Path) -> io::Result<usize> {
    if !datadir.join(TO_BE_REPLACED).try_exists()? {
        return Ok(0);
    }
    let mut stale = Vec::new();
    for entry in fs::read_dir(datadir)? {
        let path = entry?.path();
        if is_doublewrite(&path) {
            stale.push(path);
        }
    }
    for path in &stale {
        fs::remove_file(path)?;
    }
    File::open(datadir)?.sync_all()?;
    Ok(stale.len())
}

fn is_doublewrite(path: &Path) -> bool {
    let extension = path.extension().and_then(|it| it.to_str());
    matches!(extension, Some("dblwr" | "bdblwr"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_doublewrites_of_data_that_is_replaced_are_forgotten() {
        let root = std::env::temp_dir().join(format!("ddb-copied-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("#clone")).unwrap();
        let files = [
            "#ib_16384_0.dblwr",
            "#ib_16384_1.dblwr",
            "#ib_16384_0.bdblwr",
            "ibdata1",
            "dblwr",
        ];
        for file in files {
            fs::write(root.join(file), "x").unwrap();
        }
        assert_eq!(forget_doublewrites(&root).unwrap(), 0);
        fs::write(root.join(TO_BE_REPLACED), "ibdata1\n").unwrap();
        assert_eq!(forget_doublewrites(&root).unwrap(), 3);
        assert_eq!(forget_doublewrites(&root).unwrap(), 0);
        assert!(root.join("ibdata1").exists() && root.join("dblwr").exists());
        fs::remove_dir_all(root).unwrap();
    }
}
