//! What this process takes from the machine: clock, environment, user, places on disk.
//!
//! The only module that reads the clock and the environment; everything else gets them as arguments.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

/// Free space below which builds would fail midway: the Go build cache, the tools and the images together.
const LEAST_FREE_BYTES: u64 = 6 << 30;

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of the workspace, fixed when xtask was compiled.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where builds and the running cluster live: `DDB_CACHE`, else `XDG_CACHE_HOME/ddb`, else `~/.cache/ddb`.
pub fn cache_dir() -> Result<PathBuf> {
    let chosen = environment("DDB_CACHE")
        .map(PathBuf::from)
        .or_else(|| environment("XDG_CACHE_HOME").map(|base| PathBuf::from(base).join("ddb")))
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".cache/ddb")))
        .context("no cache folder: set DDB_CACHE, XDG_CACHE_HOME or HOME")?;
    ensure!(
        chosen.is_absolute(),
        "the cache folder {} must be an absolute path",
        chosen.display()
    );
    fs::create_dir_all(&chosen)
        .with_context(|| format!("the cache folder {} cannot be made", chosen.display()))?;
    let real = chosen.canonicalize()?;
    // A Unix socket's path holds at most 107 bytes, and containerd's socket lies 30 below this folder. The path also
    // goes into YAML, TOML and shell words without quotes.
    let text = real.to_str().context("the cache folder's path is not UTF-8")?;
    ensure!(
        text.len() <= 70,
        "the cache folder {text} is too long for sockets below it: set DDB_CACHE to a shorter path"
    );
    ensure!(
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c)),
        "the cache folder {text} holds characters other than letters, digits and /._-+: set DDB_CACHE to another path"
    );
    Ok(real)
}

pub fn ensure_linux_root() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("the local cluster is made of Linux namespaces and runs on Linux only");
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this needs root, to make namespaces, mounts and control groups: run it again as root"
    );
    Ok(())
}

/// Refuses before a build that would fill the disk, because a full disk fails later with misleading errors.
pub fn ensure_disk_space(path: &Path) -> Result<()> {
    let info = nix::sys::statvfs::statvfs(path)
        .with_context(|| format!("reading free space of {}", path.display()))?;
    let free = info.blocks_available() * info.fragment_size();
    ensure!(
        free >= LEAST_FREE_BYTES,
        "only {} MB are free at {}, {} MB are needed: make room, or set DDB_CACHE or TMPDIR to a folder on another disk",
        free >> 20,
        path.display(),
        LEAST_FREE_BYTES >> 20
    );
    Ok(())
}

/// Changes with every start of the machine; what a state file says about processes and namespaces ends with it.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
