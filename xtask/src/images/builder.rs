//! buildah, with its storage in our own cache folder: from a Dockerfile and a prepared context to an archive.
//!
//! Layers are compressed with zstd at its lowest level: each node's containerd stores the archive as it is and waits for
//! the disk, so that fewer bytes are loaded three times faster than none compressed, and unpacking costs little.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    cluster::requirements,
    digest::Key,
    host,
    process::{command, output, run, succeeds},
    progress::Step,
};

/// How images are built and stored; part of every key, so raise it when this module changes what comes out.
const FORMAT: &str = "3";

/// The start of every image's key.
pub fn key() -> Key {
    Key::default().text("format", FORMAT)
}

/// An image to build: where its recipe is and what its context holds.
pub struct Image {
    pub name: String,
    pub tag: String,
    pub key: String,
    recipe: PathBuf,
    context: Vec<PathBuf>,
    pub arguments: Vec<(String, String)>,
}

impl Image {
    pub fn new(name: &str, tag: &str, key: String, recipe: PathBuf, context: Vec<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            key,
            recipe,
            context,
            arguments: Vec::new(),
        }
    }

    pub fn archive(&self, cache: &Path) -> PathBuf {
        cache
            .join("images")
            .join(format!("{}-{}.tar", self.name, self.key))
    }

    /// The name that always means the newest build.
    pub fn moving_reference(&self) -> String {
        format!("localhost/{}:{}", self.name, self.tag)
    }

    /// The name that always means these inputs.
    pub fn content_reference(&self) -> String {
        format!("localhost/{}:{}", self.name, self.key)
    }
}

pub struct Builder {
    cache: PathBuf,
    driver: &'static str,
}

impl Builder {
    pub fn new(cache: &Path) -> Result<Self> {
        requirements::ensure(requirements::IMAGES)?;
        let folder = cache.join("images");
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let mut builder = Self {
            cache: cache.to_owned(),
            driver: "overlay",
        };
        // Overlay is refused on some file systems, such as another overlay; vfs copies everything, but works anywhere.
        if !builder.storage().is_dir() && !succeeds(builder.buildah().arg("images")) {
            let _ = fs::remove_dir_all(builder.storage());
            builder.driver = "vfs";
        }
        if builder.storage().join("vfs-images").is_dir() {
            builder.driver = "vfs";
        }
        Ok(builder)
    }

    /// Builds the image's archive, unless one of the same inputs is there.
    pub fn ensure(&self, image: &Image) -> Result<()> {
        let archive = image.archive(&self.cache);
        if !archive.is_file() {
            host::ensure_disk_space(&self.cache)?;
            let _step = Step::begin(format!("building the image {}", image.name));
            let reference = image.content_reference();
            self.build(image, &reference)?;
            self.push(&reference, image, &archive)?;
            super::prune(&self.cache.join("images"), &format!("{}-", image.name), 4);
        }
        Ok(())
    }

    /// Builds into the storage, without an archive.
    pub fn build(&self, image: &Image, reference: &str) -> Result<()> {
        let context = self
            .cache
            .join("images")
            .join(format!("context-{}", std::process::id()));
        let outcome = self.build_in(image, reference, &context);
        let _ = fs::remove_dir_all(&context);
        outcome.with_context(|| format!("building the image {}", image.name))
    }

    pub fn has(&self, reference: &str) -> bool {
        succeeds(self.buildah().args(["inspect", "--type", "image", reference]))
    }

    /// The images in the storage, by name.
    pub fn references(&self) -> Vec<String> {
        let listed = output(self.buildah().args(["images", "--format", "{{.Name}}:{{.Tag}}"]));
        listed.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Takes an image out of the storage; one that is not there is no error.
    pub fn forget(&self, reference: &str) {
        let _ = succeeds(self.buildah().args(["rmi", "--force", reference]));
    }

    fn build_in(&self, image: &Image, reference: &str, context: &Path) -> Result<()> {
        fs::create_dir_all(context)?;
        for file in &image.context {
            let name = file
                .file_name()
                .with_context(|| format!("{} is no file", file.display()))?;
            let target = context.join(name);
            // A link costs nothing where a copy of a base system costs seconds; other file systems need the copy.
            if fs::hard_link(file, &target).is_err() {
                fs::copy(file, &target).with_context(|| format!("{} cannot be copied", file.display()))?;
            }
        }
        let mut build = self.buildah();
        build.args([
            "bud",
            "--quiet",
            "--layers=false",
            "--isolation=chroot",
            "--timestamp=0",
            "--tag",
            reference,
        ]);
        build.arg("--file").arg(image.recipe.join("Dockerfile"));
        for (name, value) in &image.arguments {
            build.arg(format!("--build-arg={name}={value}"));
        }
        run(build.arg(context))
    }

    fn push(&self, reference: &str, image: &Image, archive: &Path) -> Result<()> {
        let temporary = archive.with_extension(format!("tmp{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let target = format!("oci-archive:{}:{}", temporary.display(), image.moving_reference());
        let small = [
            "--format=oci",
            "--compression-format=zstd",
            "--compression-level=1",
        ];
        run(self
            .buildah()
            .args(["push", "--quiet"])
            .args(small)
            .args([reference, &target]))?;
        fs::rename(&temporary, archive)
            .with_context(|| format!("{} cannot be written", archive.display()))?;
        // The archive is what is kept; the storage would grow with every build.
        self.forget(reference);
        Ok(())
    }

    fn storage(&self) -> PathBuf {
        self.cache.join("images/storage")
    }

    fn buildah(&self) -> Command {
        let mut buildah = command(["buildah"]);
        buildah
            .arg("--root")
            .arg(self.storage())
            .arg("--runroot")
            .arg(self.cache.join("images/run"));
        buildah.arg("--storage-driver").arg(self.driver);
        buildah
            .env("BUILDAH_ISOLATION", "chroot")
            .env_remove("STORAGE_OPTS")
            .env_remove("BUILDAH_FORMAT");
        buildah
    }
}
