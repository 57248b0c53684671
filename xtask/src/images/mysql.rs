//! The MySQL image: a small Debian system with MySQL 9.7 as its base, and the prepared data folder on top.
//!
//! The base is made here only because no registry is at hand; `images/mysql/Dockerfile` takes any base with mysqld.

use std::{fs, path::Path};

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
    let base_key = Key::default().text("packages", PACKAGES).text("series", SERIES);
    let base_key = base_key.folder(&recipe_folder("mysql-base"))?.short();
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

/// The statements that prepare the data folder; a stand-in without any while the workspace has none.
fn init_sql(cache: &Path) -> Result<std::path::PathBuf> {
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
