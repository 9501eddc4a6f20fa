//! What a source RPM's header says that the engine must know.

use std::path::Path;

use crate::model::{Class, Failure};
use crate::sys::rpm;

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
        let source =
            rpm::source(srpm).map_err(|error| Failure::new(Class::Source, "unpack", error.to_string()))?;
        let nvr = format!("{}-{}", source.header.name, source.header.evr);
        Ok(Source { spec: source.spec, nvr })
    }

    /// Whether the spec has a %generate_buildrequires.
    pub fn asks_when_built(srpm: &Path) -> bool {
        rpm::source(srpm).is_ok_and(|source| source.asks_when_built)
    }
}
