//! From a spec and its sources to a source RPM, by the rpmbuild of a target, without network.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::dnf::{Dnf, disk};
use super::place::{self, BuildFolder};
use super::rpmbuild::Chroot;
use super::work::{Work, run_plan};
use super::{Overlay, base, results};
use crate::build::engine::diagnose;
use crate::model::{Arch, Class, Disttag, Failure, Target};
use crate::sys::fs::FileError;
use crate::sys::sandbox::Layers;

/// What to pack.
#[derive(Debug, Clone, Copy)]
pub struct Packing<'a> {
    pub spec: &'a Path,
    /// The sources are files in here, not in folders below it.
    pub sourcedir: &'a Path,
    pub target: &'a Target,
    pub arch: Arch,
    pub disttag: &'a Disttag,
    /// An existing folder that the source RPM is put into.
    pub outdir: &'a Path,
}

/// See [`Overlay::make_srpm`].
pub async fn make_srpm(
    overlay: &Overlay,
    packing: &Packing<'_>,
    cancel: &CancellationToken,
) -> Result<PathBuf, Failure> {
    let dnf = overlay.dnf(packing.target, packing.arch)?;
    let folder = dnf.place.new_build().await.map_err(|error| disk(&error))?;
    let packed = in_folder(&dnf, &folder, packing, cancel).await;
    place::clear_away(folder, &dnf);
    packed
}

async fn in_folder(
    dnf: &Dnf,
    folder: &BuildFolder,
    packing: &Packing<'_>,
    cancel: &CancellationToken,
) -> Result<PathBuf, Failure> {
    let failed = |line: String| Failure::new(Class::Source, "srpm", line);
    let spec = packing.spec.file_name().and_then(|name| name.to_str());
    let spec = spec.filter(|name| Path::new(name).extension().is_some_and(|end| end == "spec"));
    let spec = spec.ok_or_else(|| failed(format!("{} is no spec file", packing.spec.display())))?;
    let sources = sources(packing).map_err(|error| failed(error.to_string()))?;
    let work = Work::within(base::MAKING, cancel);
    let base = base::acquire(dnf, &folder.path("root.log"), &folder.path("state.log"), &work).await?;
    let chroot = Chroot {
        at: folder.path("root"),
        layers: Layers { lower: base.root(), upper: folder.path("upper"), work: folder.path("work") },
        arch: packing.arch,
        disttag: dnf.target.disttag_for(packing.disttag),
        nvr: spec,
        spec,
        build_log: folder.path("build.log"),
        root_log: folder.path("root.log"),
        state_log: None,
        scratch: folder.path(""),
    };
    let to = folder.path("packed");
    let plan = chroot.pack(packing.spec, &sources, &to);
    let report = run_plan(&dnf.launcher, plan, &folder.path(""), &work, "srpm").await?;
    if report.last().is_none_or(|step| step.status != 0) {
        let tail = diagnose::read_tail(&folder.path("build.log"), 0);
        return Err(diagnose::packing(&tail));
    }
    let kept = results::keep(&to, packing.outdir).map_err(|error| disk(&error))?;
    kept.into_iter().next().ok_or_else(|| failed("rpmbuild -bs made no source RPM".into()))
}

/// The files beside the spec. Which of them the spec names, rpmbuild knows best.
fn sources(packing: &Packing<'_>) -> Result<Vec<PathBuf>, FileError> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(packing.sourcedir)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let package = path.extension().is_some_and(|end| end == "rpm" || end == "spec");
            if path.is_file() && !hidden && !package {
                files.push(std::path::absolute(path)?);
            }
        }
        Ok(files)
    };
    read().map_err(FileError::at("read the sources in", packing.sourcedir))
}
