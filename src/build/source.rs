//! Getting the source RPM that a job names, and making sure that it is the one that was submitted.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use crate::config::Config;
use crate::model::job::Stamp;
use crate::model::{BuildJob, Class, Failure, Layout, PkgName, VersionRelease};
use crate::sys::fs::{self, Lock};
use crate::sys::http::{Http, HttpError};
use crate::sys::rpm::{self, Whole};
use crate::sys::tls::Tls;

/// Fetched sources are kept this long: a companion, or another try, wants them again.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A verified source RPM.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    pub whole: Whole,
}

/// Where source RPMs come from.
#[derive(Debug)]
pub enum Sources {
    /// `incoming/` of the root folder.
    Root(Layout),
    Http {
        http: Http,
        folder: Url,
        cache: PathBuf,
    },
}

impl Sources {
    pub fn open(config: &Config) -> Result<Sources, String> {
        let Some(folder) = config.sources.clone() else { return Ok(Sources::Root(config.layout.clone())) };
        let tls = Tls::open(&config.tls).map_err(|error| error.to_string())?;
        let http = Http::new(&tls).map_err(|error| format!("HTTP cannot be used: {error}"))?;
        Ok(Sources::Http { http, folder, cache: config.layout.builder_cache().join("sources") })
    }

    /// Where the job's source RPM is by now; with a digest, that one.
    async fn obtain(&self, job: &BuildJob, sha256: &str) -> Result<PathBuf, Failure> {
        let (http, folder, cache) = match self {
            Sources::Root(layout) => return Ok(layout.srpm(&job.srpm)),
            Sources::Http { http, folder, cache } => (http, folder, cache),
        };
        let disk = |error: fs::FileError| Failure::new(Class::Disk, "fetch", error.to_string());
        fs::make_dir(cache).map_err(disk)?;
        let path = cache.join(job.srpm.as_str());
        let _lock = Lock::take(&cache.join(format!("{}.lock", job.srpm))).await.map_err(disk)?;
        forget_old(cache);
        let is_it = |found: (String, u64)| found.0 == sha256;
        if fs::sha256(&path).is_ok_and(is_it) {
            return Ok(path);
        }
        let url = folder.join(job.srpm.as_str()).map_err(|error| unusable(error.to_string()))?;
        http.fetch(&url, &path, sha256).await.map_err(|error| told(&error))?;
        Ok(path)
    }

    /// The source RPM of a stamped job.
    pub async fn fetch(&self, job: &BuildJob, stamp: &Stamp) -> Result<Source, Failure> {
        let path = self.obtain(job, &stamp.sha256).await?;
        verified(path, job, stamp)
    }

    /// Name, version-release and SHA-256 of an unstamped job's source RPM. Where its header cannot be read, the
    /// first two come from the file's name; [`Sources::fetch`] will then fail, and the build be reported so. An
    /// error is one that another try may not meet.
    pub async fn identify(&self, job: &BuildJob) -> Result<(PkgName, VersionRelease, String), Failure> {
        let found = match self.obtain(job, "").await {
            Ok(path) => rpm::whole(&path).ok(),
            Err(failure) if failure.retry => return Err(failure),
            Err(_) => None,
        };
        if let Some(whole) = found {
            return Ok((whole.header.name, whole.header.evr, whole.sha256));
        }
        let (pkgname, evr) = job.srpm.split();
        Ok((pkgname, evr, String::new()))
    }
}

fn told(error: &HttpError) -> Failure {
    let class = if matches!(error, HttpError::File(_)) { Class::Disk } else { Class::Source };
    Failure::new(class, "fetch", error.to_string()).retried(!error.is_final())
}

/// Sources and halves of them; best effort. Locks are empty, and one that went would be had by two.
fn forget_old(cache: &std::path::Path) {
    let is_lock = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == "lock");
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten().filter(|entry| !is_lock(entry)) {
        let age =
            entry.metadata().and_then(|found| found.modified()).map(|at| at.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > KEPT) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn verified(path: PathBuf, job: &BuildJob, stamp: &Stamp) -> Result<Source, Failure> {
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

fn unusable(why: String) -> Failure {
    Failure::new(Class::Source, "fetch", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_source_is_forgotten_and_an_old_lock_is_still_a_lock() {
        let cache = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - 2 * KEPT;
        for name in ["a-1-1.src.rpm", "a-1-1.src.rpm.lock", "b-1-1.src.rpm.part"] {
            std::fs::File::create(cache.path().join(name)).unwrap().set_modified(old).unwrap();
        }
        std::fs::write(cache.path().join("c-1-1.src.rpm"), "").unwrap();
        forget_old(cache.path());
        let mut left: Vec<_> =
            std::fs::read_dir(cache.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a-1-1.src.rpm.lock", "c-1-1.src.rpm"]);
    }
}
