//! Where everything is below a root folder (`/srv/reimzul` on a fleet, any folder elsewhere).
//!
//! A root is self-contained: it may be copied or moved while nothing runs in it, so nothing in it may hold an
//! absolute path into it.

use std::path::{Path, PathBuf};

use super::{Arch, Attempt, BuildId, BuildPath, SrpmName, Target};

/// The folders below one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    mock_configs: PathBuf,
    mock_own_configs: PathBuf,
}

/// Where mock itself looks for configurations.
const MOCK_OWN_CONFIGS: &str = "/etc/mock";

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Layout {
        let root = root.into();
        Layout {
            mock_configs: root.join("mock_configs/mock"),
            mock_own_configs: MOCK_OWN_CONFIGS.into(),
            root,
        }
    }

    /// With mock's configurations elsewhere than usual: the site's, and mock's own.
    pub fn with_mock_configs(self, site: Option<PathBuf>, own: Option<PathBuf>) -> Layout {
        Layout {
            mock_configs: site.unwrap_or(self.mock_configs),
            mock_own_configs: own.unwrap_or(self.mock_own_configs),
            ..self
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Source RPMs, never changed once there.
    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub fn srpm(&self, name: &SrpmName) -> PathBuf {
        self.incoming().join(name.as_str())
    }

    /// Held by who puts a file there, or removes one.
    pub fn incoming_lock(&self) -> PathBuf {
        self.incoming().join(".lock")
    }

    /// Target files of the overlay engine: `targets/<target>.repo`.
    pub fn target_file(&self, target: &Target) -> PathBuf {
        self.targets().join(format!("{target}.repo"))
    }

    pub fn targets(&self) -> PathBuf {
        self.root.join("targets")
    }

    /// The site's configurations for mock: `<target>.cfg`.
    pub fn mock_configs(&self) -> &Path {
        &self.mock_configs
    }

    /// The configurations that mock brings along: `<target>-<arch>.cfg`.
    pub fn mock_own_configs(&self) -> &Path {
        &self.mock_own_configs
    }

    /// Queue, history and the notifier's outbox on the embedded engines.
    pub fn database(&self) -> PathBuf {
        self.root.join("reimzul.db")
    }

    /// One lock file per running process, held for its life.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Locks that processes of this root take in turn.
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// A worker's results before they are uploaded, a folder per attempt.
    pub fn results(&self, build: &BuildPath, attempt: &Attempt) -> PathBuf {
        self.results_of(build).join(&attempt.0)
    }

    pub fn all_results(&self) -> PathBuf {
        self.root.join("results")
    }

    pub fn results_of(&self, build: &BuildPath) -> PathBuf {
        self.root.join("results").join(build.relative())
    }

    /// What a builder keeps between builds: bases, dnf's caches, running build roots.
    pub fn builder_cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub fn bstore(&self) -> PathBuf {
        self.root.join("bstore")
    }

    /// Where an upload gathers before it is put into place in one step.
    pub fn upload(&self, build: &BuildId, arch: Arch, attempt: &Attempt) -> PathBuf {
        self.uploads().join(format!("{build}.{arch}.{attempt}"))
    }

    pub fn uploads(&self) -> PathBuf {
        self.bstore().join("upload")
    }

    /// The tree that a target's builds lie in: `repo/<target>`, or `scratch/<target>`.
    pub fn repository(&self, target: &Target, scratch: bool) -> PathBuf {
        let tree = if scratch { "scratch" } else { "repo" };
        self.bstore().join(tree).join(target.as_str())
    }

    /// A finished build's folder.
    pub fn build(&self, build: &BuildPath, scratch: bool) -> PathBuf {
        let tree = if scratch { "scratch" } else { "repo" };
        self.bstore().join(tree).join(build.relative())
    }

    /// RPMs waiting for a signature.
    pub fn tosign(&self, target: &Target) -> PathBuf {
        self.bstore().join("tosign").join(target.as_str())
    }

    /// A target's signed repository. Nothing gets in here that was not checked.
    pub fn signed(&self, target: &Target) -> PathBuf {
        self.bstore().join("signed").join(target.as_str())
    }

    /// Where what may get into the signed repository is made and checked.
    pub fn signing(&self, target: &Target) -> PathBuf {
        self.bstore().join("signing").join(target.as_str())
    }

    /// Where publishing signers work, a folder per process. No target's name begins with a dot.
    pub fn publishers(&self) -> PathBuf {
        self.bstore().join("signing/.work")
    }

    /// Where signers work, a folder per process.
    pub fn signers(&self) -> PathBuf {
        self.root.join("cache/sign")
    }

    /// Where what is pruned goes, in one step, before it is deleted.
    pub fn trash(&self) -> PathBuf {
        self.bstore().join("trash")
    }

    /// createrepo_c's working copy of a target's metadata, and the target's lock.
    pub fn metadata_cache(&self, target: &Target) -> PathBuf {
        self.bstore().join("cache").join(target.as_str())
    }
}
