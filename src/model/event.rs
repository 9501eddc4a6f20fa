//! An event: what a worker puts into tube `notify`, and what the history keeps.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Arch, BuildId, BuildPath, Disttag, Failure, PkgName, SrpmName, Status, Submitter, Target, Timestamp,
    VersionRelease,
};

/// One event. The first eleven fields are always there: an old notifier restarts for ever without `evr`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub srpm: SrpmName,
    pub arch: Arch,
    pub target: Target,
    pub disttag: Disttag,
    pub scratch: bool,
    pub submitter: Submitter,
    pub status: Status,
    /// The node name of the builder.
    pub builder_fqdn: String,
    pub evr: VersionRelease,
    pub pkgname: PkgName,
    pub timestamp: Timestamp,
    /// Absent in events of old workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<BuildId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Event {
    /// The build it is about.
    pub fn path(&self) -> BuildPath {
        BuildPath {
            target: self.target.clone(),
            pkgname: self.pkgname.clone(),
            timestamp: self.timestamp,
            evr: self.evr.clone(),
            arch: self.arch,
        }
    }

    /// What makes it the same event when it is told twice: build, arch and status.
    pub fn key(&self) -> String {
        match &self.build_id {
            Some(id) => format!("{id} {} {}", self.arch, self.status),
            None => format!("{} {} {}", self.path(), self.srpm, self.status),
        }
    }
}
