//! From what was named on the command line to accepted source RPMs.

use std::path::{Path, PathBuf};

use crate::build::engine::Engine;
use crate::build::engine::overlay::Packing;
use crate::cli::Failure;
use crate::cli::submit::What;
use crate::cli::watch::Board;
use crate::model::{Arch, Target};
use crate::role::Site;
use crate::shutdown::Shutdown;
use crate::submit::{self, Accepted, SubmitError};
use crate::sys::fs;

/// Accepts every package, or says what is wrong with the first bad one. Nothing is queued.
pub async fn accept_all(
    site: &Site,
    what: &What,
    packages: &[PathBuf],
    board: &Board,
    stop: &Shutdown,
) -> Result<Vec<Accepted>, Failure> {
    let mut accepted = Vec::new();
    for package in packages {
        accepted.push(if package.extension().is_some_and(|extension| extension == "spec") {
            accept_spec(site, what, package, board, stop).await?
        } else {
            submit::accept(&site.config.layout, &what.request(package.clone(), true)?)?
        });
    }
    Ok(accepted)
}

/// A spec becomes a source RPM in the target's own build root, where its macros mean what they will mean.
async fn accept_spec(
    site: &Site,
    what: &What,
    spec: &Path,
    board: &Board,
    stop: &Shutdown,
) -> Result<Accepted, Failure> {
    let layout = &site.config.layout;
    if !spec.is_file() {
        return Err(Failure::Usage(format!("{}: no such spec", spec.display())));
    }
    let name = spec.file_name().unwrap_or_default().display();
    let busy = board.busy(&format!("making the source RPM of {name} (the first time also a base chroot)"));
    let out = layout.builder_cache().join("srpms").join(uuid::Uuid::new_v4().simple().to_string());
    fs::make_dir(&out)?;
    let accepted = match pack(site, what, spec, &out, stop).await {
        Ok(srpm) => accept_made(site, what, &srpm),
        Err(failure) => Err(failure),
    };
    busy.finish_and_clear();
    let _ = fs::remove_dir(&out);
    accepted
}

async fn pack(
    site: &Site,
    what: &What,
    spec: &Path,
    out: &Path,
    stop: &Shutdown,
) -> Result<PathBuf, Failure> {
    let Engine::Overlay(engine) = site.engine() else {
        return Err(Failure::Usage(format!("{}: this engine builds source RPMs only", spec.display())));
    };
    let request = what.request(spec.to_owned(), true)?;
    let arch: Arch = request.arch.parse().map_err(SubmitError::from)?;
    let target: Target = request.target.with_arch(&request.arch).map_err(SubmitError::from)?;
    submit::check_target(&site.config.layout, &target)?;
    let sourcedir = spec.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let packing = Packing { spec, sourcedir, target: &target, arch, disttag: &request.disttag, outdir: out };
    engine.make_srpm(&packing, stop.stop()).await.map_err(|failure| {
        let why = failure.lines.join("\n  ");
        Failure::Usage(format!("{}: no source RPM could be made of it:\n  {why}", spec.display()))
    })
}

/// Who tries a spec until it builds does not raise its release each time. Files in `incoming/` never change, so
/// the source RPM of a changed spec gets a name of its own there.
fn accept_made(site: &Site, what: &What, srpm: &Path) -> Result<Accepted, Failure> {
    let layout = &site.config.layout;
    match submit::accept(layout, &what.request(srpm.to_owned(), true)?) {
        Err(SubmitError::Changed { .. }) => {
            let (digest, _) = fs::sha256(srpm)?;
            let stem = srpm.file_name().unwrap_or_default().to_string_lossy();
            let stem = stem.trim_end_matches(".src.rpm");
            let renamed = srpm.with_file_name(format!("{stem}.{}.src.rpm", &digest[..8]));
            std::fs::rename(srpm, &renamed)?;
            Ok(submit::accept(layout, &what.request(renamed, true)?)?)
        }
        accepted => Ok(accepted?),
    }
}
