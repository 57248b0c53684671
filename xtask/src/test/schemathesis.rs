//! schemathesis in a virtual environment of its own, in the cache folder.
//!
//! Every package is pinned, with all that it needs, in `requirements.txt` beside this file: what a check finds must not
//! depend on the day. The registry is the one that pip is set up for on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    digest::Key,
    host,
    process::{command, run},
};

const REQUIREMENTS: &str = "xtask/src/test/requirements.txt";
/// The pinned versions are those of Python 3.11; newer ones take them, too.
const PYTHONS: [&str; 5] = ["python3.14", "python3.13", "python3.12", "python3.11", "python3"];
const NEW_ENOUGH: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";

/// Its program, installed where it is not there yet.
pub fn program(cache: &Path) -> Result<PathBuf> {
    let requirements = host::repository().join(REQUIREMENTS);
    let key = Key::default().file(&requirements)?.short();
    let folder = cache.join("schemathesis").join(&key);
    let program = folder.join("bin/schemathesis");
    let whole = folder.join("whole");
    if whole.is_file() && program.is_file() {
        return Ok(program);
    }
    let python = PYTHONS
        .into_iter()
        .find(|python| run(command([python, "-c", NEW_ENOUGH]).env("PYTHONDONTWRITEBYTECODE", "1")).is_ok())
        .context(
            "there is no Python 3.11 or newer with venv on this machine: install python3 and, on Debian, python3-venv",
        )?;
    if folder.exists() {
        // An interrupted installation.
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let made = run(command([python, "-m", "venv"]).arg(&folder));
    made.with_context(|| format!("{python} cannot make a virtual environment: install python3-venv"))?;
    let mut pip = command([folder.join("bin/python")]);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    let installed = run(pip.arg("--requirement").arg(&requirements));
    installed.with_context(|| {
        format!("pip cannot install what {REQUIREMENTS} names: it needs the Python Package Index, or a mirror that pip is set up for")
    })?;
    fs::write(&whole, "").with_context(|| format!("cannot write {}", whole.display()))?;
    Ok(program)
}
