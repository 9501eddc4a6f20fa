//! Which of two results is the latest build, whatever order their events arrive in.

use crate::model::{Event, Status};

/// What is the latest build so far.
#[derive(Debug)]
pub(super) struct Latest<'a> {
    pub build_id: Option<&'a str>,
    pub timestamp: &'a str,
    /// As its event told it.
    pub told: Option<&'a str>,
}

impl Latest<'_> {
    /// Whether it stays the latest when this result arrives.
    ///
    /// Who arrives last is the latest, as in the old system. But an event that waited for its next try, while a newer
    /// one was recorded, must not undo that: between builds that were stamped at submission (and so have an id) the
    /// timestamp decides, and within a build a success. What old workers stamped by their own clocks is not compared.
    pub fn outlasts(&self, result: &Event) -> bool {
        let (Some(mine), Some(its)) = (self.build_id, &result.build_id) else { return false };
        let timestamp = result.timestamp.to_string();
        if mine == its.as_str() && self.timestamp == timestamp {
            return result.status == Status::Failed && self.told == Some(Status::Success.as_str());
        }
        self.timestamp > timestamp.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, timestamp: &str, status: &str) -> Event {
        let mut fields = serde_json::json!({
            "srpm": "a-1-1.src.rpm", "arch": "x86_64", "target": "t", "disttag": "", "scratch": false,
            "submitter": "kb", "status": status, "builder_fqdn": "b", "evr": "1-1", "pkgname": "a",
            "timestamp": timestamp});
        if let Some(id) = id {
            fields["build_id"] = id.into();
        }
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn stamps_of_a_controller_decide_and_others_do_not() {
        let latest = Latest { build_id: Some("b"), timestamp: "20260102000000", told: Some("Success") };
        let (older, newer) = ("20260101000000", "20260103000000");
        assert!(latest.outlasts(&event(Some("a"), older, "Success")));
        assert!(!latest.outlasts(&event(Some("c"), newer, "Failed")));
        assert!(!latest.outlasts(&event(None, older, "Failed")), "an old worker's clock");
        let same = latest.timestamp;
        assert!(latest.outlasts(&event(Some("b"), same, "Failed")), "a build that has succeeded");
        assert!(!latest.outlasts(&event(Some("c"), same, "Failed")), "another controller's");
        let old = Latest { build_id: None, ..latest };
        assert!(!old.outlasts(&event(Some("a"), older, "Success")));
        let failed = Latest { build_id: Some("b"), timestamp: same, told: Some("Failed") };
        assert!(!failed.outlasts(&event(Some("b"), same, "Success")), "a kicked build");
    }
}
