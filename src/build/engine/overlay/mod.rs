//! The overlay engine: a base chroot made once by `dnf --installroot`, an overlayfs upper folder per build,
//! BuildRequires from dnf, then `rpmbuild` in namespaces of its own: as an unprivileged user, without network,
//! seeing nothing of the host. As strict as mock, with mock's file names.
//!
//! dnf's start is the longest part of a small build, so it is run only where the base does not hold all
//! BuildRequires already, which rpmbuild itself finds out.

mod base;
mod check;
mod dnf;
mod install;
mod pack;
mod place;
mod recipe;
mod results;
mod rpmbuild;
mod source;
pub mod target;
mod work;

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

pub use self::pack::Packing;

use self::dnf::Dnf;
use self::place::Place;
use self::target::TargetFile;
use super::check::Finding;
use super::{Outcome, Request};
use crate::model::record::EngineName;
use crate::model::{Arch, Class, Failure, Layout, Target};
use crate::sys::fs::FileError;
use crate::sys::sandbox::Launcher;
use crate::targets;

/// See the module.
#[derive(Debug, Clone)]
pub struct Overlay {
    layout: Layout,
    launcher: Launcher,
}

impl Overlay {
    /// The engine of the root folder that `layout` is about.
    pub fn new(layout: Layout) -> Overlay {
        Overlay { layout, launcher: Launcher::of_this_program() }
    }

    /// Has builds' logs kept to so many bytes.
    pub fn with_log_limit(self, bytes: u64) -> Overlay {
        Overlay { launcher: self.launcher.with_log_limit(bytes), ..self }
    }

    /// Has `exe` be the sandboxes' init, in a program that does not call [`crate::sys::sandbox::stage2`] itself.
    pub fn with_exe(self, exe: PathBuf) -> Overlay {
        Overlay { launcher: Launcher::new(exe), ..self }
    }

    /// See [`super::Engine::build`].
    pub async fn build(&self, request: Request<'_>, cancel: &CancellationToken) -> Outcome {
        recipe::build(self, request, cancel).await
    }

    /// See [`super::Engine::name`].
    pub fn name(&self) -> EngineName {
        EngineName { name: "overlay".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    /// See [`super::Engine::knows`].
    pub fn knows(&self, target: &Target, arch: Arch) -> bool {
        targets::overlay_file(&self.layout, target, arch).exists()
    }

    /// Removes what builders that died left behind. To be called when a worker starts.
    pub async fn sweep(&self) -> Result<(), FileError> {
        for folder in place::files_starting(&self.cache(), "") {
            if folder.is_dir() {
                Place::new(folder)?.sweep(&self.launcher).await?;
            }
        }
        Ok(())
    }

    /// Whether this machine and user can build with the engine, a sentence for each thing that was looked at.
    pub async fn check(&self) -> Vec<Finding> {
        check::check(self).await
    }

    fn cache(&self) -> PathBuf {
        let cache = self.layout.builder_cache().join("overlay");
        // dnf and the mounts are not started from our folder.
        std::path::absolute(&cache).unwrap_or(cache)
    }

    /// What belongs to a target and arch.
    fn dnf(&self, target: &Target, arch: Arch) -> Result<Dnf, Failure> {
        self.make_private()?;
        let file = TargetFile::for_arch(&self.layout, target, arch)
            .map_err(|error| Failure::new(Class::Config, "target", error.to_string()))?;
        let name =
            if dnf::bits32(arch) { format!("{}.{arch}", file.name()) } else { file.name().to_string() };
        let place = Place::new(self.cache().join(name)).map_err(|error| dnf::disk(&error))?;
        Ok(Dnf { launcher: self.launcher.clone(), place, target: file, arch, fresh: false })
    }

    /// The folder of the cache that everything in it is private to us.
    fn make_private(&self) -> Result<(), Failure> {
        use std::os::unix::fs::PermissionsExt;
        let cache = self.cache();
        let make = || -> Result<(), FileError> {
            crate::sys::fs::make_dir(&cache)?;
            // Others must not reach files of uid 1000 in there, nor programs that a chroot has setuid.
            std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o700))
                .map_err(FileError::at("make private", &cache))
        };
        make().map_err(|error| dnf::disk(&error))
    }

    /// Tries to install `packages` (names, NEVRAs or RPM files) on the target's base; an error says what is missing.
    pub async fn check_install(
        &self,
        target: &Target,
        arch: Arch,
        packages: &[String],
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        install::check_install(self, target, arch, packages, cancel).await
    }

    /// Packs a spec and the sources beside it into a source RPM, as the target's rpmbuild does it, without network.
    pub async fn make_srpm(
        &self,
        packing: &Packing<'_>,
        cancel: &CancellationToken,
    ) -> Result<PathBuf, Failure> {
        pack::make_srpm(self, packing, cancel).await
    }
}
