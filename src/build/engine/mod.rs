//! The engines that turn a source RPM into RPMs, behind one interface.
//!
//! Every engine takes the same [`Request`], returns the same [`Outcome`] and leaves the same files in the
//! result folder: `build.log`, `root.log`, `state.log`, `installed_pkgs.log` always, `*.rpm` on success.

pub mod check;
pub(in crate::build) mod diagnose;
pub mod mock;
pub mod null;
pub mod overlay;
mod states;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::build::limits::Quota;
use crate::model::record::{EngineName, RepositoryState};
use crate::model::{Arch, Disttag, Failure, Target};

/// A file system with less than this free, in bytes, is full to a build.
const NO_ROOM: u64 = 64 << 20;

/// One build to be done.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The source RPM, verified, readable by us.
    pub srpm: &'a Path,
    /// An existing, empty folder of this attempt's own.
    pub resultdir: &'a Path,
    pub target: &'a Target,
    pub arch: Arch,
    pub disttag: &'a Disttag,
    /// A limit shorter or longer than the target's own.
    pub timeout: Option<Duration>,
    /// What everything that the build starts must stay within; none: without limits.
    pub quota: Option<&'a Quota>,
    /// Whether what was just published in repositories elsewhere must be seen: it follows other builds.
    pub fresh: bool,
}

/// What came of it. The files are in the request's `resultdir`.
#[derive(Debug)]
pub struct Outcome {
    pub result: Result<(), Failure>,
    /// Seconds per phase.
    pub durations: BTreeMap<String, f64>,
    /// NEVRAs installed in the build root, sorted.
    pub buildroot: Vec<String>,
    /// What they were installed from, as far as that is known.
    pub repositories: Vec<RepositoryState>,
}

/// An engine.
#[derive(Debug)]
pub enum Engine {
    Mock(mock::Mock),
    Overlay(overlay::Overlay),
    Null(null::Null),
}

impl Engine {
    /// Builds. Ends soon after `cancel` does, with class `killed` and nothing of the build left running.
    pub async fn build(&self, request: Request<'_>, cancel: &CancellationToken) -> Outcome {
        match self {
            Engine::Mock(mock) => mock.build(request, cancel).await,
            Engine::Overlay(overlay) => overlay.build(request, cancel).await,
            Engine::Null(null) => null.build(request, cancel).await,
        }
    }

    /// Whether there is a configuration to build for `arch` into `target`: a companion is built only then.
    pub fn knows(&self, target: &Target, arch: Arch) -> bool {
        match self {
            Engine::Mock(mock) => mock.knows(target, arch),
            Engine::Overlay(overlay) => overlay.knows(target, arch),
            Engine::Null(null) => null.knows(target, arch),
        }
    }

    /// Removes what dead builds left on this machine.
    pub async fn sweep(&self) {
        match self {
            Engine::Mock(mock) => mock.sweep().await,
            Engine::Overlay(overlay) => {
                if let Err(error) = overlay.sweep().await {
                    tracing::warn!("what dead builds left could not be removed: {error}");
                }
            }
            Engine::Null(_) => {}
        }
    }

    /// Name and version, for `build.json`.
    pub fn name(&self) -> EngineName {
        match self {
            Engine::Mock(mock) => mock.name(),
            Engine::Overlay(overlay) => overlay.name(),
            Engine::Null(null) => null.name(),
        }
    }
}
