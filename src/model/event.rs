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

/// An event's own fields: a job's unknown field of such a name is not passed on, since the event says it better.
const OWN_FIELDS: [&str; 15] = [
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
];

/// What of a job's unknown fields an event about it carries on.
pub fn carried_on(extra: &Map<String, Value>) -> Map<String, Value> {
    let ours = |name: &str| OWN_FIELDS.contains(&name);
    extra.iter().filter(|(name, _)| !ours(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An event whose fields stand among others, those of a build record or of a document. Unknown fields that bear the
/// name of one of these lie in the field `carried` there, since a field twice would make the whole unreadable.
pub mod among {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::{Map, Value};

    use super::Event;

    const CARRIED: &str = "carried";
    /// The others, and `carried` itself.
    pub(super) const OTHERS: [&str; 14] = [
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
        CARRIED,
    ];

    pub fn serialize<S: Serializer>(event: &Event, to: S) -> Result<S::Ok, S::Error> {
        let mut event = event.clone();
        let extra = std::mem::take(&mut event.extra).into_iter();
        let (carried, mut extra): (Map<String, Value>, Map<String, Value>) =
            extra.partition(|(name, _)| OTHERS.contains(&name.as_str()));
        if !carried.is_empty() {
            extra.insert(CARRIED.into(), Value::Object(carried));
        }
        Event { extra, ..event }.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Event, D::Error> {
        let mut event = Event::deserialize(from)?;
        if let Some(Value::Object(carried)) = event.extra.shift_remove(CARRIED) {
            event.extra.extend(carried);
        }
        Ok(event)
    }
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
    fn whatever_a_job_carried_is_kept_and_no_field_of_a_build_record_is_there_twice() {
        let names = OWN_FIELDS.iter().chain(&among::OTHERS).chain(&["git_branch"]);
        let carried: Map<String, Value> = names.map(|name| ((*name).to_owned(), Value::from(1))).collect();
        let event: Event = serde_json::from_value(serde_json::json!({
            "srpm": "bash-4-1.src.rpm", "arch": "x86_64", "target": "c7.x86_64", "disttag": "", "scratch": false,
            "submitter": "kb", "status": "Failed", "builder_fqdn": "b1", "evr": "4-1", "pkgname": "bash",
            "timestamp": "20261123204406", "build_id": "b1",
            "failure": {"class": "build", "phase": "build", "lines": []}
        }))
        .unwrap();
        let event = Event { extra: carried_on(&carried), ..event };
        let kept: Vec<&str> = event.extra.keys().map(String::as_str).collect();
        assert_eq!(kept, among::OTHERS.into_iter().chain(["git_branch"]).collect::<Vec<_>>());
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
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<BuildRecord>(&text).unwrap(), record);
        let fields: Map<String, Value> = serde_json::from_str(&text).unwrap();
        for field in fields.keys().filter(|field| *field != "git_branch") {
            let known = OWN_FIELDS.iter().chain(&among::OTHERS).any(|name| name == field);
            assert!(known, "{field} is missing in OWN_FIELDS or OTHERS");
        }
    }
}
