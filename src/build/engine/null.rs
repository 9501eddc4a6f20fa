//! An engine that builds nothing: it shows what the pipeline around an engine costs (`make bench`), and drives
//! tests of what surrounds a build. The source RPM itself is the result.

use std::collections::BTreeMap;

use super::{Outcome, Request};
use crate::model::record::EngineName;
use crate::model::{Class, Failure};

/// See the module.
#[derive(Debug, Default)]
pub struct Null;

impl Null {
    pub fn build(&self, request: Request<'_>) -> Outcome {
        Outcome {
            result: leave_files(request)
                .map_err(|error| Failure::new(Class::Disk, "build", error.to_string())),
            durations: BTreeMap::from([("build".to_owned(), 0.0)]),
            buildroot: Vec::new(),
        }
    }

    pub fn name(&self) -> EngineName {
        EngineName { name: "null".into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

fn leave_files(request: Request<'_>) -> std::io::Result<()> {
    for log in ["build.log", "root.log", "state.log", "installed_pkgs.log"] {
        std::fs::write(request.resultdir.join(log), "the null engine builds nothing\n")?;
    }
    let name = request.srpm.file_name().unwrap_or_default();
    std::fs::copy(request.srpm, request.resultdir.join(name)).map(|_| ())
}
