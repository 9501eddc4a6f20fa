//! An engine that builds nothing: it shows what the pipeline around an engine costs (`make bench`), and drives
//! tests of what surrounds a build. The source RPM itself is the result.
//!
//! `REIMZUL_NULL_ENGINE_SECONDS` in the environment, such as `0.5`, makes a build take that long.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Outcome, Request};
use crate::model::record::EngineName;
use crate::model::{Arch, Class, Failure, Layout, Target};
use crate::targets;

const SECONDS: &str = "REIMZUL_NULL_ENGINE_SECONDS";

/// See the module.
#[derive(Debug, Default)]
pub struct Null {
    /// How long a build takes.
    takes: Duration,
    /// Where target files say which companions there are; without it there is none.
    layout: Option<Layout>,
}

impl Null {
    pub fn taking(takes: Duration) -> Null {
        Null { takes, layout: None }
    }

    pub fn from_environment(layout: Layout) -> Null {
        let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
        let takes = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or_default();
        Null { takes, layout: Some(layout) }
    }

    /// See [`super::Engine::knows`].
    pub fn knows(&self, target: &Target, arch: Arch) -> bool {
        self.layout.as_ref().is_some_and(|layout| targets::overlay_file(layout, target, arch).exists())
    }

    pub async fn build(&self, request: Request<'_>, cancel: &CancellationToken) -> Outcome {
        Outcome {
            result: self.work(request, cancel).await,
            durations: BTreeMap::from([("build".to_owned(), self.takes.as_secs_f64())]),
            buildroot: Vec::new(),
            repositories: Vec::new(),
        }
    }

    async fn work(&self, request: Request<'_>, cancel: &CancellationToken) -> Result<(), Failure> {
        let disk = |error: std::io::Error| Failure::new(Class::Disk, "build", error.to_string());
        leave_logs(request).map_err(disk)?;
        if !self.takes.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(self.takes) => {}
                () = cancel.cancelled() => {
                    return Err(Failure::new(Class::Killed, "build", "the build was ended from outside"));
                }
            }
        }
        leave_rpm(request).map_err(disk)
    }

    pub fn name(&self) -> EngineName {
        EngineName { name: "null".into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

fn leave_logs(request: Request<'_>) -> std::io::Result<()> {
    for log in ["build.log", "root.log", "state.log", "installed_pkgs.log"] {
        std::fs::write(request.resultdir.join(log), "the null engine builds nothing\n")?;
    }
    Ok(())
}

fn leave_rpm(request: Request<'_>) -> std::io::Result<()> {
    let name = request.srpm.file_name().unwrap_or_default();
    std::fs::copy(request.srpm, request.resultdir.join(name)).map(|_| ())
}
