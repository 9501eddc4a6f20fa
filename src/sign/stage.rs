//! Staging for a signer outside: the RPMs of successful builds appear in `tosign/<target>/`, whole.

use std::path::{Path, PathBuf};

use super::Request;
use super::order::{Package, Sha256};
use crate::model::record::{BuildRecord, FILE};
use crate::model::{Layout, Status, Target};
use crate::sys::fs::{self, FileError};
use crate::upload::finished;

/// Stages the RPMs of the request's builds, each whole or not at all. Says how many.
pub fn stage(layout: &Layout, link: bool, request: &Request) -> Result<usize, FileError> {
    let to = layout.tosign(&request.target);
    fs::make_dir(&to)?;
    let packages = packages(layout, request)?;
    for (folder, package) in &packages {
        let (built, staged) = (folder.join(package.file.as_str()), to.join(package.file.as_str()));
        if link { fs::link_whole(&built, &staged)? } else { fs::copy_whole(&built, &staged)? }
    }
    Ok(packages.len())
}

/// The RPMs of the request's builds that are for signing, each with the folder that it is in.
pub fn packages(layout: &Layout, request: &Request) -> Result<Vec<(PathBuf, Package)>, FileError> {
    let builds = layout
        .repository(&request.target, false)
        .join(request.pkgname.as_str())
        .join(request.timestamp.to_string());
    let folders = std::fs::read_dir(&builds).map_err(FileError::at("read", &builds))?.flatten();
    let counts = |folder: &PathBuf| {
        let is_whole = request.status == Status::Success || folder.join(FILE).exists();
        is_whole && !finished::is_unlisted(folder)
    };
    let packages = folders.map(|entry| entry.path()).filter(counts).flat_map(|folder| {
        let found = signable(&request.target, &folder).into_iter();
        found.map(move |package| (folder.clone(), package))
    });
    Ok(packages.filter(|(_, package)| package.arch == request.arch).collect())
}

/// The RPMs in a build's folder, if it is that of a successful build, not of a failed sibling or a scratch build.
/// Old workers leave no record: whoever asks about theirs has been told of a success.
pub fn signable(target: &Target, folder: &Path) -> Vec<Package> {
    let record = std::fs::read(folder.join(FILE)).ok();
    let record: Option<BuildRecord> = record.and_then(|text| serde_json::from_slice(&text).ok());
    match record {
        Some(record) => recorded(target, &record),
        None if folder.join(FILE).exists() => Vec::new(),
        None => unrecorded(target, folder).unwrap_or_default(),
    }
}

fn recorded(target: &Target, record: &BuildRecord) -> Vec<Package> {
    let event = &record.event;
    if event.status != Status::Success || event.scratch || event.target != *target {
        return Vec::new();
    }
    let published = record.results.iter().filter(|result| target.publishes(event.arch, &result.file));
    published
        .filter_map(|result| {
            Some(Package {
                pkgname: event.pkgname.clone(),
                timestamp: event.timestamp,
                evr: event.evr.clone(),
                arch: event.arch,
                file: result.file.parse().ok()?,
                sha256: Sha256::try_from(result.sha256.clone()).ok()?,
            })
        })
        .collect()
}

/// What the folder's place, `<pkgname>/<timestamp>/<version-release>.<arch>`, and its files tell.
fn unrecorded(target: &Target, folder: &Path) -> Option<Vec<Package>> {
    let mut parts = folder.iter().rev().map(|part| part.to_str());
    let (evr, arch) = parts.next()??.rsplit_once('.')?;
    let (evr, arch) = (evr.parse().ok()?, arch.parse().ok()?);
    let (timestamp, pkgname) = (parts.next()??.parse().ok()?, parts.next()??);
    let package = |file: String| {
        let (sha256, _) = fs::sha256(&folder.join(&file)).ok()?;
        Some(Package {
            pkgname: pkgname.parse().ok()?,
            timestamp,
            evr: Clone::clone(&evr),
            arch,
            file: file.parse().ok()?,
            sha256: Sha256::try_from(sha256).ok()?,
        })
    };
    let files = finished::old_results(folder, arch).into_iter();
    Some(files.filter(|file| target.publishes(arch, file)).filter_map(package).collect())
}
