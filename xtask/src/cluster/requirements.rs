//! What the machine must have before anything is made: the system packages. Installs missing ones where it can.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{
    host,
    process::{command, run},
    progress::Step,
};

/// A Debian package and a file that proves it is there, whatever installed it.
struct Requirement {
    package: &'static str,
    proof: &'static [&'static str],
}

const fn requirement(package: &'static str, proof: &'static [&'static str]) -> Requirement {
    Requirement { package, proof }
}

pub const CLUSTER: &[Package] = &[
    Package(requirement("runc", &["runc"])),
    Package(requirement("containernetworking-plugins", CNI)),
    Package(requirement("iptables", &["iptables"])),
    Package(requirement("iproute2", &["ip"])),
    Package(requirement("conntrack", &["conntrack"])),
    Package(requirement("ethtool", &["ethtool"])),
    Package(requirement("util-linux", &["nsenter"])),
];

pub const IMAGES: &[Package] = &[
    Package(requirement("buildah", &["buildah"])),
    Package(requirement("busybox-static", &["busybox"])),
];

pub const MYSQL_IMAGE: &[Package] = &[Package(requirement("mmdebstrap", &["mmdebstrap"]))];

pub const SAMPLE_DATA: &[Package] = &[Package(requirement(
    "iso-codes",
    &["/usr/share/iso-codes/json/iso_3166-2.json"],
))];

const CNI: &[&str] = &["/usr/lib/cni/ptp", "/opt/cni/bin/ptp"];
const PROGRAM_FOLDERS: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// One package that must be there.
pub struct Package(Requirement);

impl Package {
    fn is_there(&self) -> bool {
        self.0.proof.iter().any(|proof| find(proof).is_some())
    }
}

/// Installs what is missing, or says exactly what to install.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing = |packages: &[Package]| -> Vec<&'static str> {
        packages
            .iter()
            .filter(|package| !package.is_there())
            .map(|package| package.0.package)
            .collect()
    };
    let wanted = missing(packages);
    if wanted.is_empty() {
        return Ok(());
    }
    let names = wanted.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this machine lacks programs of the Debian packages {names}: install the same ones with its own package manager"
        );
    }
    let _step = Step::begin(format!("installing Debian packages {names}"));
    let apt = |words: &[&str]| {
        run(command(["apt-get"])
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive"))
        .with_context(|| format!("installing failed; install these packages by hand: {names}"))
    };
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&wanted);
    apt(&install)?;
    let still = missing(packages);
    if !still.is_empty() {
        bail!(
            "the packages {} are installed, but their programs are not found",
            still.join(" ")
        );
    }
    Ok(())
}

/// A program's full path, searched in PATH and then where administrators' programs lie.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Path::new(program).is_file().then(|| program.into());
    }
    let path = host::environment("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(PROGRAM_FOLDERS.iter().map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The folder of the CNI plugins.
pub fn cni_folder() -> Result<PathBuf> {
    let plugin = CNI
        .iter()
        .find_map(|proof| find(proof))
        .context("the CNI plugins are not installed")?;
    Ok(plugin.parent().map(Path::to_owned).unwrap_or_default())
}
