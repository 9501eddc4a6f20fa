//! A build job as it waits in the tube of its arch. Field names and types are the old fleet's; ours are added.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Arch, BuildId, BuildPath, Class, Disttag, Event, Failure, PkgName, SrpmName, Status, Submitter, Target,
    Timestamp, VersionRelease,
};

/// The body of a job in an arch's tube. Fields we do not know are kept in `extra`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildJob {
    pub srpm: SrpmName,
    pub arch: Arch,
    /// With the arch asked for: `mini.x86_64`.
    pub target: Target,
    pub disttag: Disttag,
    pub scratch: bool,
    pub submitter: Submitter,
    /// What makes a redelivered job the same build; absent in jobs from old submitters.
    #[serde(flatten)]
    pub stamp: Option<Stamp>,
    /// The builds that it follows: it is begun once their RPMs are in their repositories. Until then it waits in a
    /// tube of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Predecessor>,
    /// Builders that failed at it for a reason of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// What the last of them failed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What our submission adds to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    pub build_id: BuildId,
    pub timestamp: Timestamp,
    /// Of the source RPM, lower-case hexadecimal; checked before building.
    pub sha256: String,
    /// From the source RPM's header.
    pub pkgname: PkgName,
    pub evr: VersionRelease,
}

/// A build that another one follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predecessor {
    pub build: BuildPath,
    pub build_id: BuildId,
}

impl BuildJob {
    /// The event that it failed before it was begun, `what` having become of a build that it was to follow; none
    /// for a job without a stamp.
    pub fn not_begun(&self, node: &str, predecessor: &BuildPath, what: &str) -> Option<Event> {
        let line = format!("it was to follow {predecessor}, which {what}");
        let failure = Failure::new(Class::After, "waiting", line);
        let stamp = self.stamp.as_ref()?;
        Some(Event::of(self, stamp, node, Status::Failed, Some(failure)))
    }

    /// Which build it is; none while it has no stamp.
    pub fn path(&self) -> Option<BuildPath> {
        let stamp = self.stamp.as_ref()?;
        Some(BuildPath {
            target: self.target.clone(),
            pkgname: stamp.pkgname.clone(),
            timestamp: stamp.timestamp,
            evr: stamp.evr.clone(),
            arch: self.arch,
        })
    }

    /// The same job with a stamp. What it had of one that was incomplete goes: on the wire a field twice would
    /// make the whole stamp unreadable.
    pub fn stamped(mut self, stamp: Stamp) -> BuildJob {
        for field in ["build_id", "timestamp", "sha256", "pkgname", "evr"] {
            self.extra.shift_remove(field);
        }
        self.stamp = Some(stamp);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn half_a_stamp_is_none_and_a_new_one_replaces_it() {
        let half = json!({"srpm": "bash-4-1.src.rpm", "arch": "x86_64", "target": "c7.x86_64", "disttag": "",
            "scratch": false, "submitter": "kb", "timestamp": "20261123204406", "build_id": "b1"});
        let job: BuildJob = serde_json::from_value(half).unwrap();
        assert_eq!(job.stamp, None);
        let stamp = Stamp {
            build_id: "b2".parse().unwrap(),
            timestamp: "20261123204407".parse().unwrap(),
            sha256: "00".into(),
            pkgname: "bash".parse().unwrap(),
            evr: "4-1".parse().unwrap(),
        };
        let wire = serde_json::to_string(&job.stamped(stamp.clone())).unwrap();
        let read: BuildJob = serde_json::from_str(&wire).unwrap();
        assert_eq!(read.stamp, Some(stamp));
    }

    #[test]
    fn an_old_submitters_job_is_read_and_its_unknown_fields_are_kept() {
        let old = json!({"srpm": "bash-4-1.src.rpm", "arch": "armhfp", "target": "c7.armhfp", "disttag": ".el7",
            "scratch": false, "submitter": "kb", "git_branch": "c7"});
        let job: BuildJob = serde_json::from_value(old).unwrap();
        assert_eq!(job.stamp, None);
        assert_eq!(job.arch, Arch::Armv7l);
        let wire = serde_json::to_value(&job).unwrap();
        assert_eq!((&wire["arch"], &wire["git_branch"]), (&json!("armhfp"), &json!("c7")));
    }

    #[test]
    fn a_stamped_job_survives_the_wire() {
        let stamped = json!({"srpm": "bash-4-1.src.rpm", "arch": "x86_64", "target": "c7.x86_64", "disttag": "",
            "scratch": true, "submitter": "kb", "build_id": "b1", "timestamp": "20261123204406", "sha256": "00",
            "pkgname": "bash", "evr": "4-1", "after": [{"build": "c7.x86_64/sed/20261123204405/4-8.x86_64",
            "build_id": "b0"}], "tried": ["b.example"]});
        let job: BuildJob = serde_json::from_value(stamped.clone()).unwrap();
        assert_eq!(job.stamp.as_ref().unwrap().build_id.as_str(), "b1");
        assert!(job.extra.is_empty(), "{:?}", job.extra);
        assert_eq!(serde_json::to_value(&job).unwrap(), stamped);
    }
}
