//! The MySQL image: a small Debian system with MySQL 9.7 as its base, and the prepared data folder on top.
//!
//! The base is made here only because no registry is at hand; `images/mysql/Dockerfile` takes any base with mysqld.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{
    Name,
    builder::{self, Builder, Image},
    recipe_folder,
};
use crate::{
    cluster::requirements,
    digest::Key,
    host,
    process::{command, run, write_atomically},
    progress::Step,
};

const SERIES: &str = "9.7.";
const PACKAGES: &str = "mysql-server-core,mysql-client-core,ca-certificates";

/// The image to build, with its base ready in the builder's storage.
pub fn prepare(builder: &Builder, cache: &Path) -> Result<Image> {
    let recipe = recipe_folder("mysql");
    let init = init_sql(cache)?;
    let base_key = base_key()?;
    let base = format!("localhost/ddb-mysql-base:{base_key}");
    let key = builder::key()
        .text("base", &base_key)
        .folder(&recipe)?
        .file(&init)?
        .short();
    let mut image = Image::new("ddb-mysql", Name::Mysql.moving_tag(), key, recipe, vec![init]);
    image.arguments.push(("BASE".to_owned(), base.clone()));
    if !image.archive(cache).is_file() && !builder.has(&base) {
        ensure_base(builder, cache, &base_key, &base)?;
    }
    Ok(image)
}

fn base_key() -> Result<String> {
    let key = Key::default().text("packages", PACKAGES).text("series", SERIES);
    Ok(key.folder(&recipe_folder("mysql-base"))?.short())
}

/// A program that runs the image's mysqld on this machine, for tests without a cluster. With `make` it downloads what
/// is missing; otherwise there may be none.
pub fn server(cache: &Path, make: bool) -> Result<Option<PathBuf>> {
    let key = base_key()?;
    let folder = cache.join("images").join(format!("mysql-base-{key}"));
    let (system, root) = (folder.join("rootfs.tar"), folder.join("root"));
    if !system.is_file() {
        if !make {
            return Ok(None);
        }
        requirements::ensure(requirements::MYSQL_IMAGE)?;
        host::ensure_disk_space(cache)?;
        fs::create_dir_all(&folder)?;
        let _step = Step::begin("downloading a Debian system with MySQL 9.7");
        bootstrap(&folder, &system)?;
    }
    if !root.is_dir() {
        let _step = Step::begin("unpacking MySQL 9.7 for tests on this machine");
        let work = folder.join(format!("root.tmp{}", std::process::id()));
        fs::create_dir_all(&work)?;
        let mut unpack = command(["tar", "--extract", "--exclude=./dev/*"]);
        unpack.arg("--file").arg(&system).arg("--directory").arg(&work);
        run(&mut unpack).context("unpacking the system with MySQL")?;
        fs::rename(&work, &root).with_context(|| format!("{} cannot be written", root.display()))?;
    }
    let program = folder.join("mysqld");
    write_atomically(&program, wrapper(&root)?.as_bytes())?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(Some(program))
}

/// A script that runs mysqld with the libraries and files beside it, not with those of this machine.
fn wrapper(root: &Path) -> Result<String> {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let loaders = fs::read_dir(root.join("usr/lib").join(&triple))?;
    let loader = loaders
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
        })
        .context("the system with MySQL has no program loader")?;
    let (root, loader) = (root.display(), loader.display());
    Ok(format!(
        r#"#!/bin/sh
# mysqld insists on some words coming first.
first=
case "$1" in --defaults-file=*|--version) first=$1; shift;; esac
r='{root}'
exec '{loader}' --library-path "$r/usr/lib/{triple}:$r/usr/lib/mysql/private" "$r/usr/sbin/mysqld" $first \
  --basedir="$r/usr" --plugin-dir="$r/usr/lib/mysql/plugin" --lc-messages-dir="$r/usr/share/mysql" \
  --character-sets-dir="$r/usr/share/mysql/charsets" --user=root "$@"
"#
    ))
}

/// The statements that prepare the data folder; a stand-in without any while the workspace has none.
fn init_sql(cache: &Path) -> Result<PathBuf> {
    let ours = host::repository().join("supervisor/src/init.sql");
    if ours.is_file() {
        return Ok(ours);
    }
    let folder = cache.join("images/no-init");
    fs::create_dir_all(&folder)?;
    let empty = folder.join("init.sql");
    write_atomically(&empty, b"")?;
    Ok(empty)
}

fn ensure_base(builder: &Builder, cache: &Path, key: &str, reference: &str) -> Result<()> {
    requirements::ensure(requirements::MYSQL_IMAGE)?;
    host::ensure_disk_space(cache)?;
    let folder = cache.join("images").join(format!("mysql-base-{key}"));
    let system = folder.join("rootfs.tar");
    if !system.is_file() {
        fs::create_dir_all(&folder)?;
        let _step = Step::begin("downloading a Debian system with MySQL 9.7");
        bootstrap(&folder, &system)?;
    }
    let _step = Step::begin("building the base of the MySQL image");
    let image = Image::new(
        "ddb-mysql-base",
        key,
        key.to_owned(),
        recipe_folder("mysql-base"),
        vec![system],
    );
    builder.build(&image, reference)?;
    forget_other_bases(builder, cache, &folder, reference);
    Ok(())
}

/// An older base is of no use and large.
fn forget_other_bases(builder: &Builder, cache: &Path, folder: &Path, reference: &str) {
    for entry in fs::read_dir(cache.join("images")).into_iter().flatten().flatten() {
        let older = entry.file_name().to_string_lossy().starts_with("mysql-base-") && entry.path() != folder;
        if older {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    for other in builder
        .references()
        .iter()
        .filter(|other| other.starts_with("localhost/ddb-mysql-base:"))
    {
        if other != reference {
            builder.forget(other);
        }
    }
}

fn bootstrap(folder: &Path, system: &Path) -> Result<()> {
    let work = folder.join(format!("rootfs.tmp{}", std::process::id()));
    let lean = recipe_folder("mysql-base").join("lean");
    let version = format!(
        r#"grep -q '^Version: {SERIES}' "$1"/var/lib/dpkg/status || {{ echo 'Debian sid no longer holds MySQL {SERIES}' >&2; exit 1; }}"#
    );
    let mut build = command(["mmdebstrap", "--quiet", "--variant=essential", "--format=tar"]);
    // The archive at hand may be a frozen one, whose lists are past their date.
    build.args([
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
        "--aptopt=Acquire::Languages \"none\"",
    ]);
    for excluded in ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"] {
        build.arg(format!("--dpkgopt=path-exclude={excluded}"));
    }
    build.arg(format!("--include={PACKAGES}"));
    build
        .arg(format!("--customize-hook={version}"))
        .arg(format!("--customize-hook=sh {} \"$1\"", lean.display()));
    run(build.arg("sid").arg(&work)).context("making a Debian system with MySQL")?;
    ensure!(work.is_file(), "mmdebstrap made no archive");
    fs::rename(&work, system).with_context(|| format!("{} cannot be written", system.display()))
}
