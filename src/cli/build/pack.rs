//! From what was named on the command line to accepted source RPMs.

use std::path::{Path, PathBuf};

use crate::build::engine::Engine;
use crate::build::engine::overlay::Packing;
use crate::cli::Failure;
use crate::cli::submit::What;
use crate::cli::watch::Board;
use crate::model::Layout;
use crate::model::name::word;
use crate::role::Site;
use crate::shutdown::Shutdown;
use crate::submit::{self, Accepted, SubmitError};
use crate::sys::fs::{self, FileError};

/// Larger than any spec: nothing is copied and parsed that cannot be one.
const LARGEST_SPEC: u64 = 64 << 20;

/// What was named, with what can be accepted already: the source RPMs.
pub type Named = Vec<(PathBuf, Option<Accepted>)>;

/// What costs nothing to find out is found out of every package first: making a source RPM may take a base chroot.
pub fn look_at(layout: &Layout, what: &What, packages: &[PathBuf]) -> Result<Named, Failure> {
    let look = |package: &PathBuf| {
        let request = what.request(package.clone(), true)?;
        submit::accept_target(layout, &request)?;
        let accepted = match kind(package)? {
            Kind::Srpm => Some(submit::accept(layout, &request)?),
            Kind::Spec => None,
        };
        Ok((package.clone(), accepted))
    };
    packages.iter().map(look).collect()
}

/// Accepts every package, or says what is wrong with the first bad one. Nothing is queued, and nothing kept in
/// `incoming/` unless all are good.
pub async fn accept_all(
    site: &Site,
    what: &What,
    named: Named,
    board: &Board,
    stop: &Shutdown,
) -> Result<Vec<Accepted>, Failure> {
    let out = Scratch::new(site);
    let mut all = Vec::new();
    for (package, accepted) in named {
        all.push(match accepted {
            Some(accepted) => accepted,
            None => accept_spec(site, what, &package, &out, board, stop).await?,
        });
    }
    for package in &all {
        package.keep(&site.config.layout)?;
    }
    Ok(all)
}

enum Kind {
    Srpm,
    Spec,
}

/// What a package is by its name; a spec must be a file, too.
fn kind(package: &Path) -> Result<Kind, Failure> {
    let usage = |why: String| Err(Failure::Usage(why));
    let shown = package.display();
    if package.is_dir() {
        return usage(format!("{shown} is a directory: give source RPMs (.src.rpm) or specs (.spec)"));
    }
    match package.extension().and_then(|extension| extension.to_str()) {
        Some("rpm") => return Ok(Kind::Srpm),
        Some("spec") => {}
        _ => {
            return usage(format!(
                "{shown} is neither a source RPM (.src.rpm) nor a spec (.spec) by its name"
            ));
        }
    }
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    word("spec name", &name).map_err(|error| Failure::Usage(error.to_string()))?;
    if !package.exists() {
        return usage(format!("{shown}: no such spec"));
    }
    let length = fs::open_regular(package)
        .and_then(|file| file.metadata().map_err(FileError::at("read", package)))
        .map_err(|error| Failure::Usage(error.to_string()))?
        .len();
    if length > LARGEST_SPEC {
        return usage(format!("{shown} is no spec: it has {length} bytes"));
    }
    Ok(Kind::Spec)
}

/// A folder for source RPMs on their way, removed with the value.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn new(site: &Site) -> Scratch {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Scratch { folder: site.config.layout.builder_cache().join("srpms").join(id) }
    }

    /// A new folder in it.
    fn part(&self) -> Result<PathBuf, Failure> {
        let part = self.folder.join(uuid::Uuid::new_v4().simple().to_string());
        fs::make_dir(&part)?;
        Ok(part)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A spec becomes a source RPM in the target's own build root, where its macros mean what they will mean.
async fn accept_spec(
    site: &Site,
    what: &What,
    spec: &Path,
    out: &Scratch,
    board: &Board,
    stop: &Shutdown,
) -> Result<Accepted, Failure> {
    let name = spec.file_name().unwrap_or_default().display();
    let busy = board.busy(&format!("making the source RPM of {name} (the first time also a base chroot)"));
    let accepted = match pack(site, what, spec, &out.part()?, stop).await {
        Ok(srpm) => accept_made(site, what, &srpm),
        Err(failure) => Err(failure),
    };
    busy.finish_and_clear();
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
    let (arch, target) = submit::accept_target(&site.config.layout, &request)?;
    let sourcedir = spec.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let packing = Packing { spec, sourcedir, target: &target, arch, disttag: &request.disttag, outdir: out };
    engine.make_srpm(&packing, stop.stop()).await.map_err(|failure| {
        let why = failure.lines.join("\n  ");
        let said = format!("{}: no source RPM could be made of it:\n  {why}", spec.display());
        if failure.retry { Failure::System(said) } else { Failure::Usage(said) }
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
