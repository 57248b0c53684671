//! Builds the programs of the cluster from the Go modules in `local/`, once per set of inputs.
//!
//! The key of a build holds everything its result depends on: sources, go.mod, go.sum, the Go version and the flags. A
//! build goes to a temporary folder and is renamed when whole, so an interrupted one is never taken for a finished one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    digest::Key,
    host,
    process::{command, output, run},
    progress::Step,
};

const KUBERNETES: &str = "v1.36.3";
const VERSION_PACKAGE: &str = "k8s.io/component-base/version";

struct Module {
    name: &'static str,
    programs: &'static [&'static str],
    flags: &'static [&'static str],
    /// A package whose folder's name is not the program's: (built as, wanted as).
    rename: Option<(&'static str, &'static str)>,
    /// `tool` for a module that lists foreign commands, `.` for one of our own.
    target: &'static str,
}

const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        programs: &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        ],
        flags: &[],
        rename: None,
        target: "tool",
    },
    Module {
        name: "containerd",
        programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
        flags: &["-tags", "no_btrfs,no_zfs,no_devmapper"],
        rename: None,
        target: "tool",
    },
    Module {
        name: "etcd",
        programs: &["etcd"],
        flags: &[],
        rename: Some(("server", "etcd")),
        target: "tool",
    },
    Module {
        name: "coredns",
        programs: &["coredns"],
        flags: &[],
        rename: None,
        target: "tool",
    },
    Module {
        name: "helm",
        programs: &["helm"],
        flags: &[],
        rename: None,
        target: "tool",
    },
    Module {
        name: "provisioner",
        programs: &["provisioner"],
        flags: &[],
        rename: Some(("localprovisioner", "provisioner")),
        target: ".",
    },
];

/// The built programs, one folder a module.
#[derive(Clone, Debug)]
pub struct Tools {
    folders: Vec<PathBuf>,
}

impl Tools {
    /// The full path of a program that one of the modules builds.
    pub fn path(&self, program: &str) -> String {
        let module = MODULES
            .iter()
            .position(|module| module.programs.contains(&program));
        let folder = module.and_then(|index| self.folders.get(index));
        folder.map_or_else(
            || program.to_owned(),
            |folder| folder.join(program).to_string_lossy().into_owned(),
        )
    }

    /// PATH for a process: our programs before the machine's.
    pub fn search_path(&self) -> String {
        let ours = self
            .folders
            .iter()
            .map(|folder| folder.to_string_lossy().into_owned());
        let machine = host::environment("PATH").map(|path| path.to_string_lossy().into_owned());
        let machine = machine.unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        ours.chain([machine, "/usr/sbin:/sbin".to_owned()])
            .collect::<Vec<_>>()
            .join(":")
    }

    /// Builds what is not in the cache, and gives the paths of all.
    pub fn ensure(cache: &Path) -> Result<Self> {
        let local = host::repository().join("local");
        let version = go_version(&local)?;
        let folders = MODULES
            .iter()
            .map(|module| module.ensure(cache, &local, &version))
            .collect::<Result<_>>()?;
        Ok(Self { folders })
    }

    /// The tools if all are built already; never builds.
    pub fn built(cache: &Path) -> Result<Self> {
        let local = host::repository().join("local");
        let version = go_version(&local)?;
        let folder = |module: &Module| {
            let folder = module.folder(cache, &local, &version)?;
            ensure!(
                folder.is_dir(),
                "the cluster's programs are not built: run `cargo xtask cluster up`"
            );
            Ok(folder.join("bin"))
        };
        Ok(Self {
            folders: MODULES.iter().map(folder).collect::<Result<_>>()?,
        })
    }
}

impl Module {
    fn folder(&self, cache: &Path, local: &Path, version: &str) -> Result<PathBuf> {
        let key = Key::default()
            .text("go", version)
            .text("flags", &self.flags().join(" "))
            .text("target", self.target);
        let key = key.folder(&local.join(self.name))?.short();
        Ok(cache.join("tools").join(format!("{}-{key}", self.name)))
    }

    fn flags(&self) -> Vec<String> {
        let stamp = match self.name {
            "kubernetes" => {
                let [major, minor] = ["1", "36"];
                debug_assert!(KUBERNETES.starts_with(&format!("v{major}.{minor}.")));
                format!(
                    " -X {VERSION_PACKAGE}.gitVersion={KUBERNETES} -X {VERSION_PACKAGE}.gitMajor={major} -X {VERSION_PACKAGE}.gitMinor={minor}"
                )
            }
            _ => String::new(),
        };
        let mut flags: Vec<String> = self.flags.iter().map(ToString::to_string).collect();
        flags.extend(["-ldflags".to_owned(), format!("-s -w{stamp}")]);
        flags
    }

    fn ensure(&self, cache: &Path, local: &Path, version: &str) -> Result<PathBuf> {
        let folder = self.folder(cache, local, version)?;
        if !folder.is_dir() {
            self.build(local, &folder)
                .with_context(|| format!("building the Go module local/{}", self.name))?;
        }
        Ok(folder.join("bin"))
    }

    fn build(&self, local: &Path, folder: &Path) -> Result<()> {
        host::ensure_disk_space(folder.parent().and_then(Path::parent).unwrap_or(local))?;
        let _step = Step::begin(format!(
            "building {} with Go (once; minutes for a first build)",
            self.name
        ));
        let temporary = folder.with_extension(format!("tmp{}", std::process::id()));
        let outcome = self.build_in(local, &temporary);
        if outcome.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        outcome?;
        fs::rename(&temporary, folder).with_context(|| format!("{} cannot be made", folder.display()))
    }

    fn build_in(&self, local: &Path, temporary: &Path) -> Result<()> {
        let bin = temporary.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("{} cannot be made", bin.display()))?;
        let mut build = go(&local.join(self.name), &["build"]);
        build
            .args(self.flags())
            .arg("-o")
            .arg(format!("{}/", bin.display()))
            .arg(self.target);
        run(&mut build)?;
        if let Some((built, wanted)) = self.rename {
            fs::rename(bin.join(built), bin.join(wanted))
                .with_context(|| format!("{built} was not built"))?;
        }
        for program in self.programs {
            ensure!(bin.join(program).is_file(), "{program} was not built");
        }
        Ok(())
    }
}

/// Go, with settings that no user's environment changes: the cache key names them all.
fn go(module: &Path, words: &[&str]) -> Command {
    let mut go = command(["go"]);
    go.args(words).current_dir(module);
    go.env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false -mod=readonly")
        .env("GOWORK", "off");
    go.env_remove("GOOS")
        .env_remove("GOARCH")
        .env_remove("GOAMD64")
        .env_remove("GOEXPERIMENT");
    go
}

/// The version that builds, which may be one that go.mod asks for, with the machine it builds for.
fn go_version(local: &Path) -> Result<String> {
    output(&mut go(&local.join("kubernetes"), &["version"]))
        .context("Go builds the cluster's programs; install it from https://go.dev/dl/ and put it in PATH")
}
