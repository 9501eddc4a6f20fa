//! What a source RPM's header says that the engine must know.

use std::path::Path;

use crate::model::{Class, Failure};

/// The header's part that matters here.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// File name of the spec.
    pub spec: String,
    /// NAME-VERSION-RELEASE.
    pub nvr: String,
}

impl Source {
    pub fn read(srpm: &Path) -> Result<Source, Failure> {
        let failed =
            |why: String| Failure::new(Class::Source, "unpack", format!("{}: {why}", srpm.display()));
        let header = rpm::PackageMetadata::open(srpm).map_err(|error| failed(error.to_string()))?;
        let text = |value: Result<&str, rpm::Error>| value.unwrap_or_default().to_owned();
        let nvr = [header.get_name(), header.get_version(), header.get_release()].map(text).join("-");
        let entries = header.get_file_entries().map_err(|error| failed(error.to_string()))?;
        let spec = entries
            .iter()
            .find(|entry| entry.flags().contains(rpm::FileFlags::SPECFILE))
            .and_then(|entry| entry.path().file_name()?.to_str().map(str::to_owned))
            .ok_or_else(|| failed("it is no source RPM: it holds no spec".into()))?;
        Ok(Source { spec, nvr })
    }

    /// Whether the spec has a %generate_buildrequires.
    pub fn asks_when_built(srpm: &Path) -> bool {
        let asks = || -> Option<bool> {
            let header = rpm::PackageMetadata::open(srpm).ok()?;
            let requires = header.get_requires().ok()?;
            Some(requires.iter().any(|one| one.name == "rpmlib(DynamicBuildRequires)"))
        };
        asks().unwrap_or(false)
    }
}
