//! Getting the source RPM that a job names, and making sure that it is the one that was submitted.

use std::path::PathBuf;

use crate::model::job::Stamp;
use crate::model::{BuildJob, Class, Failure, Layout, PkgName, VersionRelease};
use crate::sys::rpm::{self, RpmError, Whole};

/// A verified source RPM.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    pub whole: Whole,
}

/// The source RPM of a stamped job.
pub fn fetch(layout: &Layout, job: &BuildJob, stamp: &Stamp) -> Result<Source, Failure> {
    let path = layout.srpm(&job.srpm);
    let whole = rpm::whole(&path).map_err(|error| unusable(&error))?;
    if whole.sha256 != stamp.sha256 {
        let said = format!(
            "{} is not what was submitted: its SHA-256 is {}, the job says {}",
            job.srpm, whole.sha256, stamp.sha256
        );
        return Err(Failure::new(Class::Source, "fetch", said));
    }
    Ok(Source { path, whole })
}

/// Name, version-release and SHA-256 of an unstamped job's source RPM. Where its header cannot be read, the
/// first two come from the file's name; [`fetch`] will then fail, and the build be reported so.
pub fn identify(layout: &Layout, job: &BuildJob) -> (PkgName, VersionRelease, String) {
    let (pkgname, evr) = job.srpm.split();
    match rpm::whole(&layout.srpm(&job.srpm)) {
        Ok(whole) => (
            whole.header.name.parse().unwrap_or(pkgname),
            whole.header.version_release().parse().unwrap_or(evr),
            whole.sha256,
        ),
        Err(_) => (pkgname, evr, String::new()),
    }
}

fn unusable(error: &RpmError) -> Failure {
    Failure::new(Class::Source, "fetch", error.to_string())
}
