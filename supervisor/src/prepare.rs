//! Makes the data directory where there is none: from the image's template, or by mysqld itself.
//!
//! Everything is made in a sibling directory and renamed at the end, so that a half-made directory is never taken
//! for a whole one. It must never touch a data directory that holds anything.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::{INIT_SQL, log::say, server::Settings};

/// Settings that are built into a data directory when it is made: with one of them the template does not fit.
const BUILT_IN: [&str; 6] = [
    "lower_case_table_names",
    "innodb_page_size",
    "innodb_data_file_path",
    "innodb_undo_directory",
    "innodb_data_home_dir",
    "default_table_encryption",
];

/// What is left to do before mysqld can be started.
#[derive(Debug)]
pub enum Prepared {
    /// Nothing.
    Ready,
    /// This command must end well, then [`finish`].
    Initialise(Box<Command>),
}

/// Throws the data directory away. What it held goes on a thread of its own, because that may take long; what is left
/// of it at the next start goes then.
pub fn discard(settings: &Settings) -> io::Result<()> {
    let discarded = discarded(settings);
    remove(&discarded)?;
    match fs::rename(&settings.datadir, &discarded) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync_parent(&settings.datadir)?;
    remove_beside(discarded);
    Ok(())
}

/// Prepares the data directory as far as it goes without running mysqld.
pub fn begin(settings: &Settings) -> io::Result<Prepared> {
    let half_made = half_made(settings);
    remove(&half_made)?;
    remove_beside(discarded(settings));
    if holds_anything(&settings.datadir)? {
        return Ok(Prepared::Ready);
    }
    if template_fits(settings) {
        copy(&settings.template.join("data"), &half_made)?;
        forget_identity(&half_made)?;
        finish(settings)?;
        return Ok(Prepared::Ready);
    }
    fs::create_dir_all(&half_made)?;
    let init_file = settings.scratch.join("ddb-init.sql");
    fs::write(&init_file, INIT_SQL)?;
    let mut command = Command::new(&settings.mysqld);
    command
        .arg(format!("--defaults-file={}", settings.config.display()))
        .arg("--initialize-insecure")
        .arg(format!("--datadir={}", half_made.display()))
        .arg(format!("--init-file={}", init_file.display()))
        // What fences a running server would also keep the statements of the init file out.
        .args([
            "--super-read-only=OFF",
            "--read-only=OFF",
            "--offline-mode=OFF",
            "--skip-log-bin",
        ]);
    Ok(Prepared::Initialise(Box::new(command)))
}

/// Puts the made directory in its place.
pub fn finish(settings: &Settings) -> io::Result<()> {
    let half_made = half_made(settings);
    if settings.datadir.exists() {
        fs::remove_dir(&settings.datadir)?;
    }
    fs::rename(&half_made, &settings.datadir)?;
    sync_parent(&settings.datadir)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn discarded(settings: &Settings) -> PathBuf {
    settings.datadir.with_extension("discarded")
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_beside(directory: PathBuf) {
    thread::spawn(move || {
        if let Err(error) = remove(&directory) {
            say(&format!("{} is left behind: {error}", directory.display()));
        }
    });
}

fn half_made(settings: &Settings) -> PathBuf {
    settings.datadir.with_extension("new")
}

fn holds_anything(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// True when the image's template was made with exactly our statements and nothing in the configuration asks for
/// another layout.
fn template_fits(settings: &Settings) -> bool {
    let same_statements =
        fs::read(settings.template.join("init.sql")).is_ok_and(|bytes| bytes == INIT_SQL.as_bytes());
    let config = fs::read_to_string(&settings.config).unwrap_or_default();
    same_statements && settings.template.join("data").is_dir() && !asks_for_other_layout(&config)
}

fn asks_for_other_layout(config: &str) -> bool {
    config.lines().any(|line| {
        let name = line
            .split('=')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .replace('-', "_");
        let name = name.strip_prefix("loose_").unwrap_or(&name);
        BUILT_IN.contains(&name)
    })
}

/// A server's UUID and the private keys it made for itself belong to one server only.
fn forget_identity(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_key = path.extension().is_some_and(|extension| extension == "pem");
        if is_key || path.file_name().is_some_and(|name| name == "auto.cnf") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_built_in_rules_the_template_out() {
        assert!(asks_for_other_layout(
            "[mysqld]\nloose-lower-case-table-names = 1\n"
        ));
        assert!(!asks_for_other_layout(
            "[mysqld]\nmax_connections=5\n# innodb_page_size=1\n"
        ));
    }

    #[test]
    fn a_fitting_template_becomes_the_data_directory_without_the_other_servers_identity() {
        let root = std::env::temp_dir().join(format!("ddb-prepare-{}", std::process::id()));
        let template = root.join("template");
        fs::create_dir_all(template.join("data/mysql")).unwrap();
        fs::write(template.join("init.sql"), INIT_SQL).unwrap();
        for file in ["auto.cnf", "server-key.pem", "ibdata1", "mysql/x.sdi"] {
            fs::write(template.join("data").join(file), "x").unwrap();
        }
        let settings = Settings::for_tests(&root);
        fs::create_dir_all(settings.datadir.with_extension("new").join("rest")).unwrap();
        assert!(matches!(begin(&settings).unwrap(), Prepared::Ready));
        assert!(settings.datadir.join("ibdata1").exists() && settings.datadir.join("mysql/x.sdi").exists());
        assert!(!settings.datadir.join("auto.cnf").exists());
        assert!(!settings.datadir.join("server-key.pem").exists());
        assert!(!settings.datadir.join("rest").exists());
        fs::remove_dir_all(root).unwrap();
    }
}
