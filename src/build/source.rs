//! Getting the source RPM that a job names, and making sure that it is the one that was submitted.

use std::path::PathBuf;

use crate::model::job::Stamp;
use crate::model::{BuildJob, Class, Failure, Layout, PkgName, VersionRelease};
use crate::sys::rpm::{self, Whole};

/// A verified source RPM.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    pub whole: Whole,
}

/// The source RPM of a stamped job.
pub fn fetch(layout: &Layout, job: &BuildJob, stamp: &Stamp) -> Result<Source, Failure> {
    let path = layout.srpm(&job.srpm);
    let whole = rpm::whole(&path).map_err(|error| unusable(error.to_string()))?;
    if !whole.header.is_source() {
        return Err(unusable(format!("{} is a binary RPM ({})", job.srpm, whole.header.arch)));
    }
    if whole.sha256 != stamp.sha256 {
        return Err(unusable(format!(
            "{} is not what was submitted: its SHA-256 is {}, the job says {}",
            job.srpm, whole.sha256, stamp.sha256
        )));
    }
    let header = &whole.header;
    if (&header.name, &header.evr) != (&stamp.pkgname, &stamp.evr) {
        return Err(unusable(format!(
            "{} holds {}-{}, the job says {}-{}",
            job.srpm, header.name, header.evr, stamp.pkgname, stamp.evr
        )));
    }
    Ok(Source { path, whole })
}

/// Name, version-release and SHA-256 of an unstamped job's source RPM. Where its header cannot be read, the
/// first two come from the file's name; [`fetch`] will then fail, and the build be reported so.
pub fn identify(layout: &Layout, job: &BuildJob) -> (PkgName, VersionRelease, String) {
    if let Ok(whole) = rpm::whole(&layout.srpm(&job.srpm)) {
        return (whole.header.name, whole.header.evr, whole.sha256);
    }
    let (pkgname, evr) = job.srpm.split();
    (pkgname, evr, String::new())
}

fn unusable(why: String) -> Failure {
    Failure::new(Class::Source, "fetch", why)
}
