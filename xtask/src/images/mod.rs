//! `cargo xtask images`: builds the container images, and loads them into the local cluster's nodes.
//!
//! Each image has a moving tag for people and a content tag, made from everything the image is built of, for manifests:
//! pods that use the content tag never run yesterday's image under today's name.

mod binaries;
mod builder;
mod load;
pub mod mysql;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{
    cluster::{self, requirements},
    host,
};
use builder::{Builder, Image};

#[derive(Args)]
pub struct Arguments {
    /// Also import the images into every node of the local cluster.
    #[arg(long)]
    load: bool,
    /// Only these images.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Name>,
    /// How to print the images' references.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Take ddb-operator, ddb-node and ddb-supervisor from this folder instead of building them.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Name {
    Operator,
    Node,
    Mysql,
}

/// Where the product's programs come from.
#[derive(Clone, Copy, Debug)]
pub enum Programs<'a> {
    /// Built here.
    Built,
    /// Taken from this folder.
    Ready(&'a Path),
    /// Built here so that a database's name can break a safety rule, to prove that tests notice.
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Name {
    pub const ALL: [Self; 3] = [Self::Operator, Self::Node, Self::Mysql];

    fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Node => "node",
            Self::Mysql => "mysql",
        }
    }

    fn moving_tag(self) -> &'static str {
        match self {
            Self::Operator | Self::Node => "dev",
            Self::Mysql => "9.7",
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let names = if arguments.only.is_empty() {
        Name::ALL.to_vec()
    } else {
        arguments.only.clone()
    };
    let programs = arguments
        .binaries
        .as_deref()
        .map_or(Programs::Built, Programs::Ready);
    let references = build_and_load(&names, arguments.load, programs)?;
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string(&references)?),
        Output::Text => references
            .iter()
            .for_each(|(name, reference)| println!("{name:<9} {reference}")),
    }
    Ok(())
}

/// Builds, and with `load` imports, these images; gives the references by content, by the words `operator`, `node`, `mysql`.
pub fn build_and_load(
    names: &[Name],
    load: bool,
    programs: Programs,
) -> Result<BTreeMap<&'static str, String>> {
    host::ensure_linux_root()?;
    let cache = host::cache_dir()?;
    let builder = Builder::new(&cache)?;
    // Compiled first, because it fails most often, and before the lock: cargo has its own, and minutes are long to wait.
    let binaries = binaries::ensure(names, programs)?;
    let building = cluster::lock_named(&cache, "images.lock")?;
    let mut images = Vec::new();
    for name in names {
        let image = match name {
            Name::Operator => binary_image(*name, programs, &binaries, &["ddb-operator"])?,
            Name::Node => binary_image(*name, programs, &binaries, &["ddb-node", "ddb-supervisor"])?,
            Name::Mysql => mysql::prepare(&builder, &cache)?,
        };
        builder.ensure(&image)?;
        images.push(image);
    }
    drop(building);
    if load {
        let _lock = cluster::lock(&cache)?;
        load::into_nodes(&cluster::Cluster::open(&cache)?, &images)?;
    }
    Ok(names
        .iter()
        .zip(&images)
        .map(|(name, image)| (name.word(), image.content_reference()))
        .collect())
}

/// The operator's program as it is in its image.
pub fn operator_program() -> Result<PathBuf> {
    Ok(binaries::ensure(&[Name::Operator], Programs::Built)?.join("ddb-operator"))
}

/// The archive of the image that holds pods' namespaces.
pub fn pause(cache: &Path) -> Result<PathBuf> {
    requirements::ensure(requirements::IMAGES)?;
    let busybox = requirements::find("busybox").context("busybox is not installed")?;
    let recipe = recipe_folder("pause");
    let key = builder::key().folder(&recipe)?.file(&busybox)?;
    let image = Image::new("pause", "1", key.short(), recipe, vec![busybox]);
    Builder::new(cache)?.ensure(&image)?;
    Ok(image.archive(cache))
}

fn binary_image(name: Name, programs: Programs, folder: &Path, files: &[&str]) -> Result<Image> {
    let recipe = recipe_folder(name.word());
    let mut key = builder::key().folder(&recipe)?;
    let paths: Vec<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
    for path in &paths {
        key = key.file(path)?;
    }
    // The tag that people use never means a broken build.
    let tag = match programs {
        Programs::Broken => "sabotage",
        Programs::Built | Programs::Ready(_) => name.moving_tag(),
    };
    Ok(Image::new(
        &format!("ddb-{}", name.word()),
        tag,
        key.short(),
        recipe,
        paths,
    ))
}

fn recipe_folder(name: &str) -> PathBuf {
    host::repository().join("images").join(name)
}

/// Removes what older inputs left in the cache, but keeps the last few: switching branches should not rebuild.
fn prune(folder: &Path, prefix: &str, keep: usize) {
    let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    files.retain(|file| file.file_name().to_string_lossy().starts_with(prefix));
    files.sort_by_key(|file| std::cmp::Reverse(file.metadata().and_then(|data| data.modified()).ok()));
    for file in files.into_iter().skip(keep) {
        let _ = fs::remove_file(file.path());
    }
}
