//! An event: what a worker puts into tube `notify`, and what the history keeps.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::job::{BuildJob, Stamp};
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
    /// All arches that the job is built for, where there is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arches: Vec<Arch>,
    /// What is odd about a result that counts all the same, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The name of the field, true, in the jobs and events of a scratch build whose submitter asks for a mail about it.
pub const MAIL: &str = "mail";

/// Fields of events, build records and documents: a job's unknown field of such a name is not passed on, since
/// a field twice would make the whole unreadable.
const OWN_FIELDS: [&str; 28] = [
    "srpm",
    "arch",
    "target",
    "disttag",
    "scratch",
    "submitter",
    "status",
    "builder_fqdn",
    "evr",
    "pkgname",
    "timestamp",
    "build_id",
    "failure",
    "arches",
    "warnings",
    "format",
    "attempt",
    "source",
    "results",
    "durations",
    "resources",
    "started",
    "finished",
    "engine",
    "buildroot",
    "repositories",
    "latest_build",
    "comment",
];

/// What of a job's unknown fields an event about it carries on.
pub fn carried_on(extra: &Map<String, Value>) -> Map<String, Value> {
    let ours = |name: &str| OWN_FIELDS.contains(&name);
    extra.iter().filter(|(name, _)| !ours(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Event {
    /// An event about `job`, with the job's unknown fields kept.
    pub fn of(
        job: &BuildJob,
        stamp: &Stamp,
        builder: &str,
        status: Status,
        failure: Option<Failure>,
    ) -> Event {
        Event {
            srpm: job.srpm.clone(),
            arch: job.arch,
            target: job.target.clone(),
            disttag: job.disttag.clone(),
            scratch: job.scratch,
            submitter: job.submitter.clone(),
            status,
            builder_fqdn: builder.to_owned(),
            evr: stamp.evr.clone(),
            pkgname: stamp.pkgname.clone(),
            timestamp: stamp.timestamp,
            build_id: Some(stamp.build_id.clone()),
            failure,
            arches: Vec::new(),
            warnings: Vec::new(),
            extra: carried_on(&job.extra),
        }
    }

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

    /// Whether its submitter asks for a mail about it.
    pub fn is_to_be_mailed(&self) -> bool {
        self.extra.get(MAIL) == Some(&Value::Bool(true))
    }

    /// What makes it the same event when it is told twice: build, arch and status.
    pub fn key(&self) -> String {
        match &self.build_id {
            Some(id) => format!("{id} {} {}", self.arch, self.status),
            None => format!("{} {} {}", self.path(), self.srpm, self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Resources;
    use crate::model::record::{BuildRecord, EngineName, RepositoryState, Source};

    #[test]
    fn no_field_of_a_build_record_is_there_twice_whatever_the_job_carried() {
        let carried: Map<String, Value> = OWN_FIELDS
            .iter()
            .chain(&["git_branch"])
            .map(|name| ((*name).to_owned(), Value::from(1)))
            .collect();
        let event: Event = serde_json::from_value(serde_json::json!({
            "srpm": "bash-4-1.src.rpm", "arch": "x86_64", "target": "c7.x86_64", "disttag": "", "scratch": false,
            "submitter": "kb", "status": "Failed", "builder_fqdn": "b1", "evr": "4-1", "pkgname": "bash",
            "timestamp": "20261123204406", "build_id": "b1",
            "failure": {"class": "build", "phase": "build", "lines": []}
        }))
        .unwrap();
        let event = Event { extra: carried_on(&carried), ..event };
        assert_eq!(event.extra.keys().collect::<Vec<_>>(), ["git_branch"]);
        let record = BuildRecord {
            format: 1,
            event,
            attempt: "1-1".into(),
            source: Source { file: String::new(), size: 0, sha256: String::new() },
            results: Vec::new(),
            durations: std::collections::BTreeMap::new(),
            resources: Resources { peak_memory: Some(1), ..Resources::default() },
            started: String::new(),
            finished: String::new(),
            engine: EngineName { name: String::new(), version: String::new() },
            buildroot: Vec::new(),
            repositories: vec![RepositoryState {
                id: "own".into(),
                baseurl: None,
                revision: None,
                sha256: String::new(),
            }],
        };
        let fields = serde_json::to_value(&record).unwrap();
        for field in fields.as_object().unwrap().keys().filter(|field| *field != "git_branch") {
            assert!(OWN_FIELDS.contains(&field.as_str()), "{field} is missing in OWN_FIELDS");
        }
    }
}
