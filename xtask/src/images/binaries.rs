//! Static release builds of the product's programs, for images that hold nothing else.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{Name, Programs};
use crate::{
    host,
    process::{command, output},
    progress::Step,
};

/// The folder with the programs that these images need; built unless they are ready.
pub fn ensure(images: &[Name], programs: Programs) -> Result<PathBuf> {
    let packages = packages(images);
    if packages.is_empty() {
        return Ok(PathBuf::new());
    }
    if let Programs::Ready(ready) = programs {
        ensure!(ready.is_dir(), "{} is no folder", ready.display());
        return Ok(ready.to_owned());
    }
    let triple = host_triple()?;
    let _step = Step::begin(format!("compiling {} for release", packages.join(", ")));
    let mut cargo = command(["cargo", "build", "--release", "--quiet", "--target", &triple]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    if let Programs::Broken = programs {
        cargo.args(["--features", "node/sabotage,supervisor/sabotage"]);
    }
    // With --target, build scripts and macros keep their dynamic linking; only the programs become static.
    cargo
        .current_dir(host::repository())
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
    output(&mut cargo).context("the programs for the images do not compile")?;
    Ok(target_folder()?.join(triple).join("release"))
}

fn packages(images: &[Name]) -> Vec<&'static str> {
    let of = |image: &Name| match image {
        Name::Operator => vec!["operator"],
        Name::Node => vec!["node", "supervisor"],
        Name::Mysql => vec![],
    };
    images.iter().flat_map(of).collect()
}

fn host_triple() -> Result<String> {
    let version = output(command(["rustc", "-vV"]).current_dir(host::repository()))?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc does not name its host")
}

fn target_folder() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let text = output(
        command(["cargo", "metadata", "--no-deps", "--format-version=1"]).current_dir(host::repository()),
    )?;
    Ok(serde_json::from_str::<Metadata>(&text)?.target_directory)
}
